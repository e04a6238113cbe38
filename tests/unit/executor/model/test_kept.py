"""A model that is kept on a device: copies equal it bit for bit, there is never more than one, and it is in no way."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from loadahead.executor.backends import BACKENDS
from loadahead.executor.backends.cuda import CudaBackend
from loadahead.executor.calibration import calibrate
from loadahead.executor.execute import execute
from loadahead.executor.model import spec as model_spec
from loadahead.executor.model.spec import ModelObjects, ModelSpec, load_model
from loadahead.executor.shipped_models import kept
from loadahead.executor.shipped_models.kept import KEPT
from loadahead.executor.tensors.meter import storage_bytes
from loadahead.sim.planner import Policy, build_plan
from tests.support.fake_cuda import FakeCuda
from tests.support.models import HARDWARE, TINY, link_costs, tiny_spec, workload_of

CPU = torch.device("cpu")
CACHED = tiny_spec(python="byte-gpt-cached")


@pytest.fixture(autouse=True)
def kept_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep models on the CPU, as on a GPU of 1 GiB."""
    monkeypatch.setattr(model_spec, "can_be_kept_on", lambda device: True)
    monkeypatch.setattr(kept, "device_memory", lambda device: 2**30)
    KEPT.drop()
    yield
    KEPT.drop()


def state(spec: ModelSpec) -> dict[str, Any]:
    return dict(load_model(spec).module.state_dict())


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_copies_equal_the_model_that_is_built(dtype: str | None) -> None:
    plain = state(tiny_spec(dtype=dtype))
    spec = tiny_spec(python="byte-gpt-cached", dtype=dtype)
    first = load_model(spec).module
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()  # a run changes its own copy
    for again in (state(spec), state(spec)):
        assert again.keys() == plain.keys()
        for name, tensor in plain.items():
            assert again[name].dtype == tensor.dtype and torch.equal(again[name], tensor), name


def test_a_model_is_drawn_once_for_seed_options_and_type() -> None:
    load_model(CACHED)
    (whole,) = (KEPT._model,)
    load_model(CACHED)
    assert KEPT._model is whole
    assert KEPT.nbytes(CPU) == storage_bytes(state(CACHED).values()) > 0
    for other in ({"seed": 1}, {"dtype": "bfloat16"}, {"options": TINY | {"blocks": 1}}):
        before = KEPT._model
        load_model(tiny_spec(python="byte-gpt-cached", **other))
        assert KEPT._model is not before


@pytest.mark.parametrize(
    "other",
    [
        tiny_spec(),
        tiny_spec(python="byte-gpt-cached", seed=3),
        ModelSpec(python="x", input_shape=(1, 2), objects=ModelObjects(layers=[torch.nn.Linear(2, 2)])),
    ],
)
def test_the_model_is_dropped_when_another_is_asked_for(other: ModelSpec) -> None:
    load_model(CACHED)
    assert KEPT._model is not None
    gone = weakref.ref(next(KEPT._model.parameters()))
    load_model(other)
    assert gone() is None


def test_a_large_model_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    nbytes = storage_bytes(state(CACHED).values())
    for memory, held in ((16 * nbytes, nbytes), (16 * nbytes - 1, 0)):
        KEPT.drop()
        monkeypatch.setattr(kept, "device_memory", lambda device, memory=memory: memory)
        load_model(CACHED)
        assert KEPT.nbytes(CPU) == held


def test_its_memory_is_not_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both meters of a run, and a calibration's, are told of it."""
    told: list[int] = []
    meter = CudaBackend.meter

    def noted(self: CudaBackend, resident: Any, ignored: Any, foreign: int) -> Any:
        told.append(foreign)
        return meter(self, resident, ignored, 0)

    monkeypatch.setattr(CudaBackend, "meter", noted)
    workload = workload_of(CACHED)
    nbytes = storage_bytes(state(CACHED).values())
    plan = build_plan(workload, Policy(ranks=1, microbatches=2, horizon=1))
    monkeypatch.setitem(BACKENDS, "cuda", lambda **settings: CudaBackend(driver=FakeCuda(), **settings))
    execute(plan, workload, CACHED, costs=link_costs(workload), steps=4, device="cuda", check_gradients=False)
    assert len(told) > 1 and set(told) == {nbytes}
    told.clear()
    calibrate(workload, CACHED, hardware=HARDWARE, device="cuda", repeats=1, link_sizes=(4096, 8192))
    assert told == [nbytes, nbytes]  # with units checkpointed either way


def test_a_gpu_is_the_same_by_either_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing and peers say ``cuda``, a backend ``cuda:0``; the model must not be drawn for each again."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    made: list[torch.nn.Sequential] = []

    def make() -> torch.nn.Sequential:
        made.append(torch.nn.Sequential(torch.nn.Linear(2, 2)))
        return made[-1]

    for name in ("cuda", "cuda:0", "cuda"):
        KEPT.copy_of("key", torch.device(name), make)
        assert KEPT.nbytes(torch.device(name)) == 24
    assert len(made) == 1
    KEPT.copy_of("key", torch.device("cuda:1"), make)
    assert len(made) == 2 and KEPT.nbytes(torch.device("cuda")) == 0
