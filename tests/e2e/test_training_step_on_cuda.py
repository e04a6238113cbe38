"""la.TrainingStep with device="cuda", on the stand-in for a GPU: its gradients, record, memory and times."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

import loadahead as la
from loadahead.executor.backends import BACKENDS
from loadahead.executor.backends.cuda import CudaBackend
from tests.e2e.test_training_step import cross_entropy, gpt, scenario, text
from tests.support.fake_cuda import FakeCuda
from tests.support.fake_kernels import FakeGpu
from tests.support.gpu_record import Sync
from tests.support.happens_before import overwritten, violations
from tests.support.plain_loop import gradients, plain_step, same

GPU = FakeGpu(launch_ns=500, call_ns=100, d2h_bandwidth=300_000_000, h2d_bandwidth=200_000_000)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[FakeCuda]:
    """The stand-ins that backends were made on."""
    fakes: list[FakeCuda] = []

    def backend(**settings: Any) -> CudaBackend:
        fakes.append(FakeCuda(GPU))
        return CudaBackend(driver=fakes[-1], **settings)

    monkeypatch.setitem(BACKENDS, "cuda", backend)
    return fakes


def called(training: la.TrainingStep, fakes: list[FakeCuda], model: nn.Module, step: int) -> torch.Tensor:
    """A call whose data, weights and gradients lie on the device, as the stand-in sees it."""
    batches = text(step)
    if training.step:
        held = [*model.parameters(), *(p.grad for p in model.parameters() if p.grad is not None), *tree_leaves(batches)]
        fakes[-1].adopt(leaf for leaf in held if isinstance(leaf, torch.Tensor))
    return training(batches)


@pytest.mark.parametrize("horizon", [1, 3])
def test_gradients_are_plain_and_no_wait_is_missing(made: list[FakeCuda], horizon: int) -> None:
    model, twin = gpt(), gpt()
    tables = scenario(offload={"activation_loading_horizon": horizon})
    with la.TrainingStep(model, tables, loss=cross_entropy, device="cuda") as training:
        for step in range(7):
            mean = called(training, made, model, step)
            assert torch.equal(mean, plain_step(twin, training, step, text(step), cross_entropy))
            assert same(gradients(model), gradients(twin))
            assert training.timeline().step_time_ns > 0
            assert ("not known yet" in training.timeline().header["metering"]) == (step == 0)
        record = made[-1].entries
        assert violations(record) == []
        assert overwritten(record) == []
        copies = [entry for entry in record if getattr(entry, "stream", "") in ("d2h", "h2d")]
        assert len(copies) > 7 * 4
        measured = training.timeline()
        assert (measured.source, "allocator" in measured.header["metering"]) == ("cuda", True)
        assert "Step 6 in a loop" in measured.header["timed_steps"]  # the first, the third, and one in four after it
        assert measured.metrics.ranks[0].overlap > 0
        assert measured.metrics.ranks[0].peak_device_bytes > sum(p.nbytes for p in model.parameters()) * 2


def test_the_host_waits_for_the_device_in_steps_that_are_timed_alone(made: list[FakeCuda]) -> None:
    model = gpt()
    with la.TrainingStep(model, scenario(), loss=cross_entropy, device="cuda") as training:
        waits = []
        for step in range(7):
            before = len(made[-1].entries) if made else 0
            called(training, made, model, step)
            waits.append(sum(isinstance(entry, Sync) for entry in made[-1].entries[before:]))
    assert [bool(count) for count in waits] == [True, True, True, False, False, False, True]


def test_several_ranks_are_refused_in_a_line(made: list[FakeCuda]) -> None:
    tables = scenario(parallel={"pipeline_parallel_degree": 2})
    training = la.TrainingStep(gpt(), tables, loss=cross_entropy, device="cuda")
    with pytest.raises(la.InputError, match="has 2 ranks; one run on cuda holds 1"):
        training(text(0))


def test_a_device_by_its_number_must_be_the_current_one(made: list[FakeCuda]) -> None:
    with pytest.raises(la.InputError, match=r"torch.cuda.set_device\(1\)"):
        la.TrainingStep(gpt(), scenario(), loss=cross_entropy, device="cuda:1")


def test_a_new_binding_gives_the_slots_of_the_last_one_back(made: list[FakeCuda]) -> None:
    model = gpt()
    with la.TrainingStep(model, scenario(), loss=cross_entropy, device="cuda") as training:
        called(training, made, model, 0)
        first = made[-1]
        assert first.memory.pinned > 0
        model.eval()
        called(training, made, model, 1)
        assert made[-1] is not first
        assert (first.memory.pinned, made[-1].memory.pinned > 0) == (0, True)
        assert training.step == 2
    assert made[-1].memory.pinned == 0
