"""Ranks of one process draw as if each were alone."""

from __future__ import annotations

import random
import threading
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from loadahead.executor.model.spec import CPU
from loadahead.executor.tensors.meter import StorageMeter
from loadahead.executor.tensors.randomness import (
    Draws,
    drawing_from,
    drawing_mark,
    generators_kept,
    global_states,
    globals_kept,
    seed_generators,
    seed_globals,
    seed_of,
    states_of_threads,
)

DROPOUT = nn.Dropout(0.5)


def drawn(seed: int, shared: bool) -> list[torch.Tensor]:
    """Numbers from every kind of drawing operator that models use."""
    q = torch.ones(1, 2, 8, 4)
    with drawing_from(seed, CPU, shared, Draws()):
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


def together(work: Any, seeds: range = range(4), rounds: int = 15) -> dict[int, list[Any]]:
    """What threads get that do this at the same time, one with each seed, again and again."""
    out: dict[int, list[Any]] = {seed: [] for seed in seeds}

    def run(seed: int) -> None:
        for _ in range(rounds):
            out[seed].append(work(seed, True))

    threads = [threading.Thread(target=run, args=(seed,)) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(found) == rounds for found in out.values())
    return out


def test_threads_do_not_disturb_each_other() -> None:
    alone = {seed: drawn(seed, False) for seed in range(4)}
    for seed, rounds in together(drawn).items():
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


# ---- Python's and numpy's generators ----


def global_numbers(seed: int, shared: bool) -> list[float]:
    with drawing_from(seed, CPU, shared, Draws(python=True, numpy=True)):
        first = [random.random(), float(np.random.rand())]
        torch.rand(1000).sort()  # others may have their turn meanwhile
        return [*first, random.gauss(0, 1), float(np.random.normal()), float(torch.rand(()))]


def test_ranks_take_turns_with_pythons_and_numpys_generators() -> None:
    before = global_states()
    alone = {seed: global_numbers(seed, False) for seed in range(4)}
    assert len({tuple(numbers) for numbers in alone.values()}) == 4
    for seed, rounds in together(global_numbers).items():
        assert all(numbers == alone[seed] for numbers in rounds)
    assert global_states() == before


@pytest.mark.parametrize("shared", [False, True])
def test_they_are_put_back_whatever_happens(shared: bool) -> None:
    random.seed(1)
    np.random.seed(2)
    before = global_states()

    def draw(fails: bool) -> None:
        random.random()
        np.random.rand()
        if fails:
            raise KeyError

    with pytest.raises(KeyError), drawing_from(0, CPU, shared, Draws(python=True, numpy=True)):
        draw(fails=True)
    assert global_states() == before
    with globals_kept():
        draw(fails=False)
        assert all(now != then for now, then in zip(global_states(), before, strict=True))
    assert global_states() == before


def test_they_are_seeded_as_far_as_they_are_drawn_from() -> None:
    before = global_states()
    with globals_kept():
        seed_globals(7, Draws())
        assert global_states() == before
        seed_globals(2**61 - 2, Draws(python=True))
        python, numpy = global_states()
        assert (python != before[0], numpy != before[1]) == (True, False)
        seed_globals(2**61 - 2, Draws(numpy=True))  # numpy takes 32 bits
        assert global_states()[1] != before[1]


def test_draws_add_up() -> None:
    assert Draws(torch=False) | Draws(torch=False, python=True) == Draws(torch=False, python=True)
    assert Draws(torch=False, numpy=True) | Draws() == Draws(torch=True, numpy=True)


def test_a_unit_that_draws_nothing_leaves_the_generator_alone() -> None:
    """Among other threads they would have to wait for it; alone it would take time."""
    seed_generators(5, CPU)
    before = torch.get_rng_state()
    for shared in (True, False):
        with drawing_from(6, CPU, shared, Draws(torch=False)):
            torch.ones(3).sin()
        assert torch.equal(before, torch.get_rng_state())


def test_seeding_is_that_of_manual_seed() -> None:
    torch.manual_seed(123)
    expected = torch.get_rng_state()
    seed_generators(5, CPU)
    seed_generators(123, CPU)
    assert torch.equal(torch.get_rng_state(), expected)


def test_a_mark_tells_what_was_drawn() -> None:
    seed_generators(5, CPU)
    mark = drawing_mark(CPU)
    torch.ones(3).sin()
    assert drawing_mark(CPU) == mark
    torch.rand(())
    assert drawing_mark(CPU) != mark


def test_generators_are_put_back_whatever_happens() -> None:
    mark = drawing_mark(CPU)

    def draw() -> None:
        with generators_kept(CPU):
            torch.rand(3)
            raise KeyError

    with pytest.raises(KeyError):
        draw()
    assert drawing_mark(CPU) == mark


# ---- a checkpoint inside a layer ----


def inside(seed: int, shared: bool) -> list[torch.Tensor]:
    """Dropout that a checkpoint draws twice, and what is drawn after it."""
    x = torch.ones(500, requires_grad=True)
    with drawing_from(seed, CPU, shared, Draws()):
        out = checkpoint(lambda x: DROPOUT(x.sin()), x, use_reentrant=False)
        after = torch.rand(5)
        out.sum().backward()
        last = torch.rand(5)
    assert x.grad is not None
    return [out.detach(), x.grad, after, last]


def test_a_checkpoint_inside_a_layer_draws_the_same_again_in_every_thread() -> None:
    own = torch.get_rng_state, torch.random.get_rng_state, torch.set_rng_state, torch.random.set_rng_state
    alone = {seed: inside(seed, False) for seed in range(4)}
    for out, gradient, _, _ in alone.values():
        assert torch.equal(out != 0, gradient != 0)
    with states_of_threads():
        found = together(inside)
    for seed, rounds in found.items():
        for numbers in rounds:
            assert all(torch.equal(a, b) for a, b in zip(alone[seed], numbers, strict=True))
    assert own == (torch.get_rng_state, torch.random.get_rng_state, torch.set_rng_state, torch.random.set_rng_state)


@pytest.mark.parametrize("shared", [False, True])
def test_a_thread_sees_and_sets_its_own_state(shared: bool) -> None:
    state = torch.Generator().manual_seed(3).get_state()
    with states_of_threads() if shared else nullcontext():
        with drawing_from(3, CPU, shared, Draws()):
            assert torch.equal(torch.get_rng_state(), state)
            first = torch.rand(4)
            torch.random.set_rng_state(state)
            assert torch.equal(torch.rand(4), first)
        # Outside it is the process's.
        torch.manual_seed(9)
        assert torch.equal(torch.get_rng_state(), torch.default_generator.get_state())


def test_states_are_no_memory_of_the_step() -> None:
    """A meter that is active meanwhile sees what is drawn alone."""
    with states_of_threads(), drawing_from(3, CPU, True, Draws()):
        meter = StorageMeter()
        with meter:
            state = torch.get_rng_state()
            torch.set_rng_state(state)
            numbers = torch.rand(100)
        assert meter.live == meter.peak == numbers.untyped_storage().nbytes()
