"""A small validation for machines without a GPU, and for the tests: a tiny model and an emulated link, some seconds."""

from __future__ import annotations

from loadahead.validation.grid import Configuration, Grid, ModelSize, PeerCase, horizons, without

# Queues are threads that share the cores with whatever else runs, and copies take memory bandwidth from compute: what
# offloading adds to a step cannot be told, nor how it does beside peers, nor the order of horizons a few percent apart.
# Times are within the tenth that `make check-times` asks for on a CPU (tests/times/steps.py).
_CLAIMS = {"runs": 0.0, "gradients": 0.0, "peak_memory": 0.0, "median_time": 0.10, "small_bandwidth": 0.90}
_TINY = ModelSize(
    name="tiny",
    options={"blocks": 3, "width": 64, "heads": 4, "context": 64, "batch": 4, "dropout": 0.0},
    # A boundary of 64 KiB takes 0.2 ms out and 0.7 ms in; a block's passes take some milliseconds.
    hardware={"d2h": "400 MB/s", "h2d": "100 MB/s", "link_latency": "50 us", "memory": "64 MiB"},
    steps=9,
    repeats=30,
    learning_rate=1e-3,
)

CPU = Grid(
    sizes=(_TINY,),
    configurations=(
        without("tiny", 4),
        *horizons("tiny", (1, 2, 4), microbatches=4),
        *horizons("tiny", (1, 4), microbatches=4, copies=16),
        Configuration(model="tiny", microbatches=2, horizon=1, horizon_unit="layers", release_window=2),
        Configuration(model="tiny", microbatches=4, pipeline="interleaved", horizon=1),
    ),
    gradients=(Configuration(model="tiny", microbatches=2, horizon=2, copies=2),),
    peers=(PeerCase(model="tiny", microbatches=4),),
    claims=_CLAIMS,
)
