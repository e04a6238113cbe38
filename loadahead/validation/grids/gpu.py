"""The validation of a GPU: four models, from one that waits for kernel launches to layers as large as an 8B model's.

What it takes on an H100, at 400 TFLOP/s where the model is large enough for it, and 55 GB/s each way
(:mod:`loadahead.validation.estimate` has the sums):

=============  ========  ==============  =============  ==========  ============  ==================
model          weights   step of 8       boundary,      of compute  resident      copies for a ratio
                         microbatches    one way        (1 copy)                  of about 0.5 and 2
=============  ========  ==============  =============  ==========  ============  ==================
8b-like        0.8 G     0.6 s           64 MiB 1.2 ms  0.07        12 GiB        7, 30
middle         0.4 G     0.6 s           64 MiB 1.2 ms  0.13        6 GiB         4, 16
launch-bound   6 M       0.1 s           2 MiB 0.04 ms  0.05        0.1 GiB       8, 40
=============  ========  ==============  =============  ==========  ============  ==================

A fourth, ``odd-sized``, is small and there for its peaks: none of its sizes is a power of two or a multiple of what an
allocator rounds to, so that requested and allocated bytes differ.

The largest run, 16 microbatches of the 8b-like model kept on the device, holds 12 GiB and 5 x 16 boundaries of 64 MiB,
18 GiB with a block's inner activations.
"""

from __future__ import annotations

from typing import Any

from loadahead.reports.verdicts import CLAIMS
from loadahead.validation.grid import Configuration, Grid, ModelSize, PeerCase, horizons, without

# The links' figures are measured by the calibration; these stand for what it does not find.
_HARDWARE: dict[str, Any] = {"preset": "h100-sxm"}
# Without dropout: peers need not be seeded then to train alike.
_LARGE = ModelSize(
    name="8b-like",
    options={"blocks": 4, "width": 4096, "heads": 32, "context": 4096, "batch": 1, "dropout": 0.0},
    hardware=_HARDWARE,
    steps=6,
    repeats=8,
    autocast="bfloat16",
)
_MIDDLE = ModelSize(
    name="middle",
    options={"blocks": 6, "width": 2048, "heads": 16, "context": 2048, "batch": 4, "dropout": 0.0},
    hardware=_HARDWARE,
    steps=6,
    repeats=8,
    autocast="bfloat16",
)
_SMALL = ModelSize(
    name="launch-bound",
    options={"blocks": 8, "width": 256, "heads": 4, "context": 256, "batch": 8, "dropout": 0.0},
    hardware=_HARDWARE,
    steps=12,
    repeats=20,
)

# Boundaries of 6 000 000 bytes and ids of 12 000: neither is a multiple of the allocator's 512.
_ODD = ModelSize(
    name="odd-sized",
    options={"blocks": 3, "width": 1000, "heads": 10, "context": 500, "batch": 3, "dropout": 0.0},
    hardware=_HARDWARE,
    steps=6,
    repeats=12,
)

_OF_LARGE = (
    without("8b-like"),
    *horizons("8b-like", (1, 2, 4, 8)),
    *horizons("8b-like", (1, 2, 4, 8), copies=7),
    *horizons("8b-like", (2, 8), copies=30),
    Configuration(model="8b-like", microbatches=2, horizon=2),
    Configuration(model="8b-like", microbatches=16, horizon=2),
    Configuration(model="8b-like", horizon=4, release_window=2, copies=7),
    Configuration(model="8b-like", horizon=2, horizon_unit="layers"),
    without("8b-like", pipeline="interleaved"),
    Configuration(model="8b-like", pipeline="interleaved", horizon=1),
)
_OF_MIDDLE = (
    without("middle"),
    *horizons("middle", (1, 2, 4, 8)),
    *horizons("middle", (1, 2, 3, 4, 6, 8), copies=4),
    *horizons("middle", (1, 8), copies=16),
    without("middle", 4),
    Configuration(model="middle", microbatches=4, horizon=2),
    Configuration(model="middle", microbatches=16, horizon=2),
    Configuration(model="middle", horizon=4, release_window=2, copies=4),
    Configuration(model="middle", horizon=2, horizon_unit="layers", copies=4),
    without("middle", pipeline="interleaved"),
    *horizons("middle", (1, 2), pipeline="interleaved"),
)
_OF_SMALL = (
    without("launch-bound"),
    *horizons("launch-bound", (1, 2, 4, 8)),
    *horizons("launch-bound", (1, 2, 4, 8), copies=8),
    *horizons("launch-bound", (1, 8), copies=40),
    Configuration(model="launch-bound", microbatches=2, horizon=2),
    without("launch-bound", 16),
    Configuration(model="launch-bound", microbatches=16, horizon=2),
    Configuration(model="launch-bound", horizon=4, release_window=4, copies=8),
    Configuration(model="launch-bound", horizon=4, horizon_unit="layers"),
    without("launch-bound", pipeline="interleaved"),
    Configuration(model="launch-bound", pipeline="interleaved", horizon=2),
)

_OF_ODD = (
    without("odd-sized"),
    *horizons("odd-sized", (1, 2, 4)),
    *horizons("odd-sized", (1, 4), copies=8),
    Configuration(model="odd-sized", microbatches=3, horizon=1),
    Configuration(model="odd-sized", microbatches=3, horizon=2, horizon_unit="layers", release_window=2),
    Configuration(model="odd-sized", pipeline="interleaved", horizon=1),
)

GPU = Grid(
    sizes=(_LARGE, _MIDDLE, _SMALL, _ODD),
    configurations=(*_OF_LARGE, *_OF_MIDDLE, *_OF_SMALL, *_OF_ODD),
    gradients=tuple(
        Configuration(model=size.name, microbatches=2, horizon=2, copies=2) for size in (_LARGE, _MIDDLE, _SMALL, _ODD)
    ),
    peers=(
        PeerCase(model="8b-like"),
        PeerCase(model="8b-like", pipeline="interleaved"),
        PeerCase(model="middle"),
        PeerCase(model="middle", pipeline="interleaved"),
        PeerCase(model="launch-bound"),
    ),
    claims={name: claim.limit for name, claim in CLAIMS.items() if claim.limit is not None},
)
