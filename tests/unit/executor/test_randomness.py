"""Ranks of one process draw as if each were alone."""

from __future__ import annotations

import threading

import torch
from torch import nn
from torch.nn import functional

from loadahead.executor.randomness import drawing_from, seed_of, seeded_state
from loadahead.executor.spec import CPU

DROPOUT = nn.Dropout(0.5)


def drawn(seed: int, shared: bool) -> list[torch.Tensor]:
    """Numbers from every kind of drawing operator that models use."""
    q = torch.ones(1, 2, 8, 4)
    with drawing_from(seeded_state(seed, CPU), CPU, shared):
        return [
            torch.rand(50),
            DROPOUT(torch.ones(500)),
            functional.scaled_dot_product_attention(q, q, q, dropout_p=0.5),
            torch.randn(50),
            torch.randn(1),
            torch.bernoulli(torch.full((50,), 0.5)),
            torch.empty(20).normal_(),
            torch.randperm(30),
        ]


def test_threads_do_not_disturb_each_other() -> None:
    alone = {seed: drawn(seed, False) for seed in range(4)}
    together: dict[int, list[list[torch.Tensor]]] = {seed: [] for seed in alone}

    def work(seed: int) -> None:
        for _ in range(15):
            together[seed].append(drawn(seed, True))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, rounds in together.items():
        assert len(rounds) == 15
        for numbers in rounds:
            assert all(torch.equal(a, b) for a, b in zip(alone[seed], numbers, strict=True))


def test_seeds_differ_by_every_part() -> None:
    seeds = {
        seed_of(0, step, stage, unit, mb)
        for step in range(5)
        for stage in range(4)
        for unit in range(5)
        for mb in range(8)
    }
    assert len(seeds) == 5 * 4 * 5 * 8
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(1, 2) != seed_of(2, 1)
