"""Gives every Python process that has this folder in PYTHONPATH the stand-in for a GPU, a tiny grid and no network."""

from __future__ import annotations

import socket
import sys
from dataclasses import replace
from typing import Any


def _no_network(*_: Any, **__: Any) -> Any:
    raise OSError("there is no network here")


def _install() -> None:
    if sys.orig_argv[1:] == ["-"]:  # the script that looks for a GPU
        import torch

        torch.cuda.is_available = lambda: True
        return
    if sys.orig_argv[1:3] != ["-m", "loadahead"]:
        return
    from loadahead.executor.backends import BACKENDS
    from loadahead.executor.backends.cuda import CudaBackend
    from loadahead.executor.calibration import run as calibration
    from loadahead.validation import identity, validation
    from loadahead.validation.grid import Configuration, Grid, without
    from loadahead.validation.grids import GRIDS
    from tests.support.fake_cuda import FakeCuda
    from tests.support.fake_kernels import FakeGpu

    gpu = FakeGpu(launch_ns=500, call_ns=100, d2h_bandwidth=300_000_000, h2d_bandwidth=200_000_000)
    BACKENDS["cuda"] = lambda **settings: CudaBackend(driver=FakeCuda(gpu), **settings)
    calibration.SIZES = (1 << 12, 1 << 20)
    identity.device_facts = lambda device: {"gpu": "stand-in", "device": device}
    validation.clear_device = lambda device: None
    (size,) = GRIDS["cpu"].sizes
    options = size.options | {"blocks": 2, "width": 32, "context": 16, "batch": 2}
    GRIDS["gpu"] = Grid(
        sizes=(replace(size, options=options, steps=4, repeats=1),),
        configurations=(without("tiny", 3), Configuration(model="tiny", microbatches=3, horizon=1, copies=20)),
        claims={"runs": 0, "median_time": 0.01},
    )


socket.socket.connect = _no_network  # type: ignore[method-assign]
_install()
