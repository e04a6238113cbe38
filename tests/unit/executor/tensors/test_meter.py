"""The meter counts live storages: views once, temporaries while they live."""

from __future__ import annotations

import torch

from loadahead.executor.tensors.meter import StorageMeter, storage_bytes


def test_counts_what_lives_and_the_peak() -> None:
    meter = StorageMeter()
    with meter:
        a = torch.zeros(100)  # 400 bytes
        b = a.view(10, 10)[2:]
        assert (meter.live, meter.peak) == (400, 400)
        c = a + 1
        assert (meter.live, meter.peak) == (800, 800)
        del a
        assert meter.live == 800  # b still holds a's storage
        del b
        assert meter.live == 400
        meter.start_operation()
        torch.zeros(200).sum()
        assert meter.peak == 400 + 800 + 4
        assert meter.live == 400
        del c
    assert meter.live == 0


def test_starts_at_what_is_resident_and_does_not_count_it_again() -> None:
    weight = torch.zeros(50)
    meter = StorageMeter([weight, weight.view(5, 10)])
    with meter:
        weight.add_(1.0)
        view = weight[3:]
    assert (meter.resident, meter.live, meter.peak) == (200, 200, 200)
    assert storage_bytes([weight, view]) == 200


def test_sees_what_a_graph_keeps_and_frees() -> None:
    weight = torch.ones(10, requires_grad=True)
    weight.grad = torch.zeros(10)
    meter = StorageMeter([weight, weight.grad])
    with meter:
        out = (weight * 2.0).exp().sum()
        assert meter.live == 80 + 40 + 4  # exp keeps its output
        out.backward()
        assert meter.live == 80 + 4
    assert meter.peak >= 80 + 4 + 2 * 40
