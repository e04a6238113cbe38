"""A transformer's layers are made of parts, each of which says what it computes, keeps and communicates.

``attention``, ``mlp`` and ``ends`` describe the parts of blocks, embedding and head; ``work`` is what they have in
common; ``times`` says how long that takes, and ``state`` what weights need.
"""
