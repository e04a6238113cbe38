"""What the cuda backend asks of CUDA, behind one narrow interface: real (:mod:`driver`), or a stand-in in tests."""
