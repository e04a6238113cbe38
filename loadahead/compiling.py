"""What runs first after an installation compiles for some seconds, once; work that would wait for it says so before."""

from __future__ import annotations

from loadahead.progress import Progress, ProgressCallback, silent


def compile_first(progress: ProgressCallback | None = None) -> None:
    """Compile all that a run needs, and report it before; do nothing where it was compiled already."""
    from loadahead.sim.compiled import folder, is_warm

    if is_warm():
        return
    how_often = "once for this version" if folder() is not None else "each time, as no folder can be written to keep it"
    (progress or silent)(Progress(f"compiling the simulator, {how_often}: some 15 s"))
    from loadahead.sim.warm_up import warm_up

    warm_up()
