"""Orders and decisions that are given: planned, proven, predicted alike by all, run bit for bit, and shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loadahead as la
from loadahead.cli.main import run as run_command
from loadahead.jobs import job_of
from loadahead.sim.engines import ENGINES, simulate
from loadahead.sim.ir.json_form import dumps_plan
from loadahead.sim.planner import order_of, read_order, write_order
from loadahead.sim.policy_metrics import Groups
from loadahead.sim.step_metrics import SweepRow
from loadahead.sim.verify import verify
from tests.support.edits import take_ops
from tests.support.orders import INTERLEAVED, V_SHAPED, written

# Six layers in four stages on two ranks. AdamW, dropout on; a step takes some ten milliseconds.
TINY = {
    "model.options": {"blocks": 4, "width": 16, "heads": 2, "context": 8, "batch": 2, "dropout": 0.2},
    "model.optimizer": "adamw",
    "model.steps": 3,
    "parallel.microbatches": 4,
}
# The same on the command line.
SET = [part for key, value in TINY.items() for part in ("--set", f"{key}={json.dumps(value).replace(':', ' =')}")]
UNIFORM = {"parallel.pipeline_parallel_degree": 2, "parallel.microbatches": 4}
Captured = pytest.CaptureFixture[str]


def torchs_interleaved(ranks: int, stages_per_rank: int, microbatches: int, path: Path) -> Path:
    """Have torch write its own schedule; its constructor wants processes, its arithmetic does not."""
    from torch.distributed.pipelining.schedules import ScheduleInterleaved1F1B

    schedule: Any = object.__new__(ScheduleInterleaved1F1B)
    schedule.pp_group_size, schedule.n_local_stages = ranks, stages_per_rank
    schedule._n_microbatches = microbatches
    schedule.number_of_rounds = max(1, microbatches // ranks)
    schedule.microbatches_per_round = microbatches // schedule.number_of_rounds
    schedule.pipeline_order = {rank: schedule._calculate_single_rank_operations(rank) for rank in range(ranks)}
    schedule.pipeline_order_with_comms = {}
    schedule._dump_csv(path, "compute_only")
    return path


def test_torchs_own_file_is_the_order_by_hand(tmp_path: Path) -> None:
    order = read_order(torchs_interleaved(2, 2, 4, tmp_path / "torch.csv"))
    assert order.same_passes(written(INTERLEAVED))
    assert order.name == "torch.csv"
    assert order.stage_rank.tolist() == [0, 1, 0, 1]


def test_torch_takes_the_file_that_is_written(tmp_path: Path) -> None:
    from torch.distributed.pipelining.schedules import PipelineScheduleMulti, _validate_schedule

    path = tmp_path / "order.csv"
    write_order(written(V_SHAPED), path)
    schedule: Any = object.__new__(PipelineScheduleMulti)
    schedule.pipeline_order = {}
    schedule._validate_and_set_stage_mapping = lambda actions: None
    schedule._load_csv(str(path))
    read = schedule.pipeline_order
    assert [[str(action) for action in read[rank]] for rank in range(2)] == written(V_SHAPED).rows()
    assert _validate_schedule(read, 2, 4, 4) == {0: 0, 1: 1, 2: 1, 3: 0}


@pytest.mark.parametrize("microbatches", [4, 6, 8])
@pytest.mark.parametrize(("ranks", "each"), [(2, 2), (2, 3), (4, 2)])
def test_torchs_orders_of_other_sizes_are_proven(ranks: int, each: int, microbatches: int, tmp_path: Path) -> None:
    if microbatches % max(1, microbatches // ranks):
        pytest.skip("torch refuses this number of microbatches")
    path = torchs_interleaved(ranks, each, microbatches, tmp_path / "torch.csv")
    plan = la.plan(
        "uniform", {"parallel.pipeline_parallel_degree": ranks, "parallel.microbatches": microbatches}, order=path
    )
    assert verify(plan) == []
    assert len(plan.stage_rank) == ranks * each


@pytest.fixture(params=["interleaved", "v", "torch", "rows"])
def order(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return {
        "interleaved": written(INTERLEAVED),
        "v": written(V_SHAPED),
        "torch": torchs_interleaved(2, 2, 4, tmp_path / "torch.csv"),
        "rows": [row.split(",") for row in INTERLEAVED],
    }[request.param]


@pytest.mark.parametrize("horizon", [1, 4])
def test_an_order_is_proven_and_predicted_alike_by_all(order: Any, horizon: int) -> None:
    plan = la.plan("uniform", UNIFORM | {"offload.activation_loading_horizon": horizon}, order=order)
    assert verify(plan) == []
    job = job_of(plan)
    assert job.costs is not None and job.prepared is not None
    steps = [simulate(plan, job.costs, engine) for engine in ENGINES]
    for step in steps[1:]:
        assert np.array_equal(step.start_ns, steps[0].start_ns)
        assert np.array_equal(step.end_ns, steps[0].end_ns)
    policy = job.prepared.policy
    rows = Groups().rows(job.prepared.workload, job.costs, [policy], [{}])
    assert rows == [SweepRow.of({}, steps[0].metrics)]
    own = order_of(plan)
    assert own is not None and policy.order is not None
    assert policy.order.same_passes(own)


def require_exact(run: la.Run) -> None:
    """The gradients are plain training's and every rank's peaks are the predicted ones."""
    assert run.max_grad_error == 0.0
    for measured, predicted in zip(run.metrics.ranks, run.predicted.metrics.ranks, strict=True):
        for name in ("peak_device_bytes", "peak_boundary_bytes", "peak_host_bytes"):
            assert getattr(measured, name) == getattr(predicted, name), name


def test_an_order_is_run_bit_for_bit_in_the_memory_predicted(order: Any) -> None:
    plan = la.plan("two-rank", TINY, order=order)
    run = la.execute(plan)
    assert len(run.costs.static_bytes) == 4
    require_exact(run)


def test_decisions_are_run_bit_for_bit_in_the_memory_predicted() -> None:
    plan = la.plan("two-rank", TINY, order=written(INTERLEAVED))
    rows = list(la.Decisions.of(plan).rows())
    assert {row["release"] for row in rows if row["acquire"] >= 0} != {-1}
    # The first unit's boundaries leave for as long as they can, the others stay.
    mine = [row | {"release": -1, "acquire": -1} if row["stage"] or row["unit"] else row for row in rows]
    for row in mine:
        if row["stage"] == row["unit"] == 0:
            row["release"], row["acquire"] = needed(plan, row["microbatch"])
    given = la.plan("two-rank", TINY, order=written(INTERLEAVED), decisions=mine)
    assert list(la.Decisions.of(given).rows()) == mine
    assert given.policy["offloaded"] == 4
    require_exact(la.execute(given))


def needed(plan: la.Plan, microbatch: int) -> tuple[int, int]:
    """The slots after the FORWARD and before the BACKWARD of the first unit for a microbatch."""
    tasks = [op for op in plan if op.rank == 0 and op.kind.name in ("FORWARD", "BACKWARD")]
    made, used = (at for at, op in enumerate(tasks) if (op.stage, op.unit, op.microbatch) == (0, 0, microbatch))
    return made + 1, used


def test_files_and_objects_make_the_same_plans(tmp_path: Path) -> None:
    hand = written(INTERLEAVED, "order.csv")
    write_order(hand, tmp_path / "order.csv")
    plan = la.plan("uniform", UNIFORM, order=hand)
    for same in (tmp_path / "order.csv", str(tmp_path / "order.csv")):
        assert dumps_plan(la.plan("uniform", UNIFORM, order=same)) == dumps_plan(plan)
    (tmp_path / "plan.json").write_text(dumps_plan(plan))
    assert run_command(["plan", "uniform", *_set(UNIFORM), "--order", str(tmp_path / "order.csv"), "--text"]) == 0
    rows = list(la.Decisions.of(plan).rows())
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "object.json").write_text(json.dumps({"decisions": rows}))
    (tmp_path / "turned.json").write_text(json.dumps(dict(reversed(json.loads(dumps_plan(plan)).items()))))
    given = dumps_plan(la.plan("uniform", UNIFORM, order=hand, decisions=rows))
    files = [tmp_path / f"{name}.json" for name in ("plan", "rows", "object", "turned")]
    for same in (plan, la.Decisions.of(plan), iter(rows), *files, *map(str, files)):
        assert dumps_plan(la.plan("uniform", UNIFORM, order=hand, decisions=same)) == given


def _set(overrides: dict[str, Any]) -> list[str]:
    return [part for key, value in overrides.items() for part in ("--set", f"{key}={value}")]


def test_a_registered_orders_name_is_that_of_the_scenario() -> None:
    named = la.plan("uniform", order="simple")
    assert dumps_plan(named) == dumps_plan(la.plan("uniform", {"parallel.pipeline": "simple"}))
    # An order that is given and happens to be the registered one makes the same operations.
    given = la.plan("uniform", order=order_of(named))
    assert dumps_plan(replace(given, policy=named.policy)) == dumps_plan(named)


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ({"order": 7}, "order 'order': is of type int; give a list per rank"),
        ({"order": {"0": ["0F0"]}}, "is of type dict; give a list per rank"),
        ({"order": b"0F0"}, "is of type bytes; give a list per rank"),
        ({"order": ["0F0,0B0"]}, "rank 0: is of type str; give a list of its passes"),
        ({"order": [["0F0", 3]]}, "rank 0 has '3', which is no pass"),
        ({"order": [[("F", 0, 0)]]}, "which is no pass"),
        ({"order": []}, "rank 0 has no passes"),
        ({"order": la.Order("mine", (np.zeros((2, 2), int),))}, "integer array of shape (passes, 3)"),
        ({"order": la.Order("mine", (np.asarray([[0, -1, 0]]),))}, "a number that is none of a pass"),
        ({"order": la.Order("mine", (np.asarray([[2, 0, 0]]),))}, "a number that is none of a pass"),
        ({"decisions": 7}, "decisions: is of type int; it must be a list of objects"),
        ({"decisions": {"stage": 0}}, "decisions: is of type dict; it must be a list of objects"),
        ({"decisions": b"[]"}, "decisions: is of type bytes; it must be a list of objects"),
        ({"decisions": [7]}, "decisions[0] is 7; it must be an object with"),
        ({"decisions": [{"stage": np.float64(0)}]}, "it must be an integer from 0"),
    ],
)
def test_odd_arguments_are_one_line(argument: dict[str, Any], says: str) -> None:
    with pytest.raises(la.InputError) as caught:
        la.plan("slow-link", **argument)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(la.InputError, match="must be a plan"):
        la.Decisions.of("plan.json")  # type: ignore[arg-type]


_NONE, _TRUE = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.bool_)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (([0], _NONE, _NONE, _TRUE, _NONE, _NONE), "no columns of integers"),
        ((_NONE * 1.0, _NONE, _NONE, _TRUE, _NONE, _NONE), "no columns of integers"),
        ((_NONE, _NONE, _NONE, _TRUE, np.zeros(2, dtype=np.int64), _NONE), "different lengths"),
        ((_NONE, _NONE, _NONE, _TRUE, _NONE + 2, _NONE - 1), "give both slots"),
        (tuple(np.repeat(column, 2) for column in (_NONE, _NONE, _NONE, _TRUE, _NONE - 1, _NONE - 1)), "there twice"),
    ],
)
def test_decisions_made_of_odd_columns_are_one_line(columns: tuple[Any, ...], says: str) -> None:
    with pytest.raises(la.InputError, match=says) as error:
        la.plan("uniform", decisions=la.Decisions(*columns))
    assert "\n" not in str(error.value)


def test_numbers_of_numpy_are_numbers() -> None:
    plan = la.plan("slow-link")
    rows = [{key: np.int32(v) if isinstance(v, int) else v for key, v in row.items()} for row in _rows(plan)]
    assert la.Decisions.of(la.plan("slow-link", decisions=rows)) == la.Decisions.of(plan)


def _rows(plan: la.Plan) -> list[dict[str, Any]]:
    return list(la.Decisions.of(plan).rows())


def test_no_decisions_at_all_keep_everything() -> None:
    plan = la.plan("slow-link", decisions=[])
    assert (plan.policy["offloaded"], plan.policy["kept"]) == (0, 32)
    assert plan.policy["kept_because"] == {"decisions_given": 32}
    assert plan.policy["sentence"] == "0 of 32 boundaries are offloaded, as the decisions given say."


def test_the_command_line_says_what_was_given(tmp_path: Path, capsys: Captured) -> None:
    order, plan, given = tmp_path / "mine.csv", tmp_path / "plan.json", tmp_path / "given.json"
    write_order(written(V_SHAPED), order)
    assert run_command(["plan", "two-rank", *SET, "--order", str(order), "-o", str(plan)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[1] == "Order mine.csv: 4 stages on 2 ranks."
    assert (
        run_command(["plan", "two-rank", *SET, "--order", str(order), "--decisions", str(plan), "-o", str(given)]) == 0
    )
    assert "as the decisions given say." in capsys.readouterr().out
    for command in (["verify", str(given)], ["show", str(given)], ["show", str(given), "--json"]):
        assert run_command(command) == 0
    capsys.readouterr()
    folder = tmp_path / "run"
    assert run_command(["execute", str(given), "--device", "cpu", "-o", str(folder), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["max_grad_error"] == 0.0
    assert [rank["peak_device_bytes"] for rank in result["ranks"]] == [
        rank["peak_device_bytes"] for rank in result["predicted"]["ranks"]
    ]
    costs = ["--costs", str(folder / "costs.json")]
    for path, advised in ((plan, True), (given, False)):
        steps = []
        for engine in ENGINES:
            assert run_command(["simulate", str(path), *costs, "--engine", engine, "--json"]) == 0
            steps.append(json.loads(capsys.readouterr().out))
        assert steps[0] | {"engine": ""} == steps[1] | {"engine": ""}
        assert (steps[0]["advice"] is not None) == advised
    assert run_command(["simulate", str(given), *costs]) == 0
    assert "horizon" not in capsys.readouterr().out
    assert run_command(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    assert "2 ranks, 4 stages, 4 microbatches, pipeline mine.csv." in page
    assert "as the decisions given say." in page


def test_the_text_form_of_such_a_plan_is_a_plan(tmp_path: Path, capsys: Captured) -> None:
    plan = la.plan("uniform", UNIFORM, order=written(INTERLEAVED))
    (tmp_path / "plan.json").write_text(dumps_plan(plan))
    assert run_command(["show", str(tmp_path / "plan.json")]) == 0
    (tmp_path / "plan.txt").write_text(capsys.readouterr().out)
    assert la.simulate(str(tmp_path / "plan.txt")).step_time_ns == la.simulate(plan).step_time_ns
    again = la.plan("uniform", UNIFORM, order=written(INTERLEAVED), decisions=tmp_path / "plan.txt")
    assert la.Decisions.of(again) == la.Decisions.of(plan)


def test_advice_is_on_the_plans_own_order(tmp_path: Path, capsys: Captured) -> None:
    links = UNIFORM | {"hardware.d2h": "300 MB/s", "hardware.h2d": "300 MB/s"}
    order = written(INTERLEAVED)
    keep_all = la.simulate(la.plan("uniform", links | {"offload.offload_activations": False}, order=order)).metrics
    short = {}
    for horizon in range(1, 17):
        metrics = la.simulate(
            la.plan("uniform", links | {"offload.activation_loading_horizon": horizon}, order=order)
        ).metrics
        if metrics.offloaded and 100 * metrics.step_time_ns <= 101 * keep_all.step_time_ns:
            short[horizon] = metrics.peak_device_bytes
    (tmp_path / "plan.json").write_text(dumps_plan(la.plan("uniform", links, order=order)))
    assert run_command(["simulate", str(tmp_path / "plan.json"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["advice"]
    assert found["horizon"] == min(short, key=lambda horizon: (short[horizon], horizon), default=None)
    assert found["keep_all"]["peak_device_bytes"] == keep_all.peak_device_bytes


def test_nothing_is_said_of_horizons_where_tasks_are_in_no_order_of_passes(tmp_path: Path, capsys: Captured) -> None:
    """Two microbatches' passes through two units, taken in turn: proven, and no order of whole passes."""
    plan = la.plan("slow-link", {"offload.offload_activations": False, "parallel.microbatches": 2})
    rows = list(range(len(plan)))
    names = [plan.op(at).name for at in rows]
    first, second = names.index("FORWARD 0.3.0"), names.index("FORWARD 0.0.1")
    rows[first], rows[second] = second, first
    turned = take_ops(plan, rows)
    assert verify(turned) == []
    assert order_of(turned) is None
    (tmp_path / "plan.json").write_text(
        dumps_plan(turned).replace('"offload_activations": false', '"offload_activations": true')
    )
    assert run_command(["simulate", str(tmp_path / "plan.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["advice"] is None


def test_a_cap_on_an_order_that_is_given_is_without_effect(capsys: Captured, tmp_path: Path) -> None:
    write_order(written(INTERLEAVED), tmp_path / "order.csv")
    overrides = _set(UNIFORM | {"parallel.active_microbatches": 3})
    assert run_command(["plan", "uniform", *overrides, "--order", str(tmp_path / "order.csv"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["warnings"] == [
        "parallel.active_microbatches = 3 has no effect: order 'order.csv' is given as such"
    ]
    assert err.count("\n") == 1
