"""A plan is proven once on its way, and never run unproven."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import loadahead as la
from loadahead.executor.execute import execute
from loadahead.plan_files import write_plan
from loadahead.sim import verify as verifier
from loadahead.sim.ir.json_form import dumps_plan
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import Plan, Ragged
from loadahead.sim.planner import Policy, build_plan
from tests.support.edits import with_column, without_entry
from tests.support.models import TINY, tiny_spec, workload_of
from tests.support.plans import uniform_plan

SMALL = {"model.options": TINY, "parallel.microbatches": 2}


@pytest.fixture
def proofs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[int]]:
    """How often each plan is proven; the plans are kept, so that no two have one id."""
    counts: Counter[int] = Counter()
    kept: list[Plan] = []
    prove = verifier.verify

    def counted(plan: Plan) -> list[verifier.Violation]:
        counts[id(plan)] += 1
        kept.append(plan)
        return prove(plan)

    monkeypatch.setattr(verifier, "verify", counted)
    yield counts
    assert len(counts) == len({id(plan) for plan in kept})


def racing(plan: Plan) -> Plan:
    """The plan with a RELEASE that does not wait for its OFFLOAD."""
    op = next(op for op in plan if op.kind == Kind.RELEASE)
    edge = next(edge for edge in op.after if plan.op(edge).kind == Kind.OFFLOAD)
    return with_column(plan, "after", without_entry(plan.ops.after, op.index, edge))


def test_a_run_proves_its_plan_once(proofs: Counter[int]) -> None:
    run = la.execute("demo", SMALL, steps=2)
    assert run.max_grad_error == 0.0
    assert proofs[id(run.job.plan)] == 1
    assert set(proofs.values()) == {1}


def test_a_plan_of_a_file_is_proven_once(proofs: Counter[int], tmp_path: Path) -> None:
    path = tmp_path / "mine"
    write_plan(la.plan("demo", SMALL), path)
    before = sum(proofs.values())
    la.execute(path, steps=2)
    assert sum(proofs.values()) == before + 1


def test_the_executor_proves_what_nobody_has_proven(proofs: Counter[int]) -> None:
    spec = tiny_spec(options=TINY)
    workload = workload_of(spec)
    plan = build_plan(workload, Policy(ranks=1, microbatches=4, horizon=1, pipeline="simple"))
    costs = la.calibrate("demo", SMALL, repeats=1)
    before = proofs[id(plan)]
    execute(plan, workload, spec, costs=costs, steps=2)
    assert (before, proofs[id(plan)]) == (0, 1)
    with pytest.raises(la.CheckFailed, match="is not safe to run"):
        execute(racing(plan), workload, spec, costs=costs, steps=2)


def test_a_changed_copy_of_a_proven_plan_is_not_proven(proofs: Counter[int]) -> None:
    plan = uniform_plan(1, 2, horizon=1)
    verifier.check(plan)
    verifier.check(plan)
    assert proofs[id(plan)] == 1
    same = replace(plan, name="same")
    verifier.check(same)
    assert proofs[id(same)] == 1
    for _ in range(2):
        with pytest.raises(la.CheckFailed):
            verifier.check(racing(plan))


def test_what_is_proven_of_a_plan_stays_true_of_it() -> None:
    """No column of a plan or of a copy can be written to, so that a proven plan cannot become another."""
    plan = la.plan("slow-link")
    for one in (plan, copy.copy(plan), copy.deepcopy(plan), pickle.loads(pickle.dumps(plan)), replace(plan)):
        assert dumps_plan(one) == dumps_plan(plan)
        for part in (one.ops, one.buffers):
            for name in part.__slots__:
                column = getattr(part, name)
                for array in (column.starts, column.values) if isinstance(column, Ragged) else (column,):
                    with pytest.raises(ValueError, match="read-only"):
                        array[0] = 1


def test_a_proof_keeps_no_plan_alive() -> None:
    plan = uniform_plan(1, 2, horizon=1)
    verifier.check(plan)
    gone = weakref.ref(plan)
    del plan
    gc.collect()
    assert gone() is None
