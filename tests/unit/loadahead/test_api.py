"""The Python interface: what it takes, what comes back, and that it prints nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import loadahead as la
from loadahead.cli.main import run as command_line

COSTS = Path(__file__).parents[2] / "golden" / "costs" / "demo.json"
HARDWARE = {"d2h": "1 GB/s", "h2d": "1 GB/s", "memory": "1 GiB"}
TABLES = {"hardware": HARDWARE, "parallel": {"microbatches": 2}, "offload": {"activation_loading_horizon": 1}}


@pytest.fixture(autouse=True)
def nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    assert capsys.readouterr() == ("", "")


def layers() -> nn.Sequential:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.Tanh(), nn.Linear(8, 8)), nn.Linear(8, 3))


def data(step: int, microbatch: int, microbatches: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step * microbatches + microbatch)
    return torch.randn(4, 8, generator=generator), torch.randint(3, (4,), generator=generator)


def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(output, target)


def descent(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05)


def in_memory(**changes: Any) -> la.Scenario:
    given: dict[str, Any] = {"model": layers(), "data": data, "loss": loss, "optimizer": descent} | changes
    return la.load(TABLES, {"parallel.pipeline": "simple"}, **given)


def test_every_public_name_is_there_and_no_other() -> None:
    assert all(getattr(la, name) is not None for name in la.__all__)
    assert set(la.__all__) <= set(dir(la))
    with pytest.raises(AttributeError, match=r"has no attribute .simulat."):
        la.simulat  # type: ignore[attr-defined]  # noqa: B018


def test_errors_are_value_errors_and_loadaheads() -> None:
    assert issubclass(la.InputError, ValueError)
    for kind in (la.InputError, la.CheckFailed, la.Interrupted):
        assert issubclass(kind, la.LoadaheadError)
        assert not hasattr(kind, "exit_code")


def test_a_scenario_is_loaded_by_name_path_dictionary_or_as_such(tmp_path: Path) -> None:
    named = la.load("uniform", {"parallel.microbatches": 5})
    assert named.parallel.microbatches == 5
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\n[model]\nkind = "uniform"\nforward = "1 ms"\nbackward = "2 ms"\nboundary = "1 MB"\n'
        '[hardware]\nd2h = "1 GB/s"\nh2d = "1 GB/s"\n'
    )
    tables = {
        "name": "mine",
        "model": {"kind": "uniform", "forward": "1 ms", "backward": "2 ms", "boundary": "1 MB"},
        "hardware": {"d2h": "1 GB/s", "h2d": "1 GB/s"},
    }
    assert la.load(path) == la.load(str(path)) == la.load(tables) == la.load(la.load(tables))
    assert la.load(la.load(tables), {"name": "other"}).name == "other"
    assert tables["name"] == "mine"


@pytest.mark.parametrize(
    ("source", "overrides", "says"),
    [
        ("unifrom", None, "did you mean uniform?"),
        (7, None, "the scenario is of type int"),
        ({}, None, "scenario: model: is missing"),
        ("uniform", {"offload.horizon": 1}, "offload.horizon: is not a key"),
        ("uniform", {"name.x": 1}, "name.x: name holds 'uniform' and no keys"),
        ("uniform", {"": 1}, "is not a key's full path"),
        ({"model": 1, "hardware": HARDWARE}, None, "model = 1"),
    ],
)
def test_a_bad_scenario_is_one_line(source: Any, overrides: dict[str, Any] | None, says: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*$") as caught:
        la.load(source, overrides)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": nn.Linear(2, 2)}, "model is of type Linear; it must be an nn.Sequential"),
        ({"model": []}, "model holds no layers"),
        ({"model": [nn.Tanh(), torch.tanh]}, "layer 1 is of type"),
        ({"data": 3}, "data is of type int; it must be a function"),
    ],
)
def test_a_bad_model_in_memory_is_one_line(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(la.InputError) as caught:
        in_memory(**changes)
    assert says in str(caught.value)


def test_a_model_whose_forward_would_not_be_called_is_refused() -> None:
    class Doubled(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)  # type: ignore[no-any-return]

    with pytest.raises(la.InputError, match=r"a forward of its own"):
        in_memory(model=Doubled(nn.Tanh()))


def test_a_run_shows_itself_in_a_line() -> None:
    assert repr(la.execute(in_memory(), costs=la.calibrate(in_memory(), repeats=1), steps=2)).count("\n") == 0


def test_a_model_in_memory_is_run_in_an_order_and_under_decisions_of_ones_own() -> None:
    """Two stages on one rank; a plan does not hold the model, so that the scenario is given with both."""
    microbatches = in_memory().parallel.microbatches
    order = [[f"{s}F{m}" for m in range(microbatches) for s in (0, 1)]]
    order[0] += [f"{s}B{m}" for m in range(microbatches) for s in (1, 0)]
    plan = la.plan(in_memory(), order=order)
    decided = [row | {"release": -1, "acquire": -1} for row in la.Decisions.of(plan).rows()]
    run = la.execute(in_memory(), order=order, decisions=decided, steps=2)
    assert run.max_grad_error == 0.0
    assert (run.metrics.offloaded, run.job.by_horizon) == (0, False)
    assert run.metrics.peak_device_bytes == run.predicted.metrics.peak_device_bytes
    known = la.calibrate(in_memory(), repeats=1)
    with pytest.raises(la.InputError, match="use costs made for this plan"):
        la.simulate(in_memory(), order=order, costs=known)
    for argument in ({"order": order}, {"decisions": decided}):
        with pytest.raises(la.InputError, match="is a plan, whose order and decisions are made"):
            la.simulate(la.plan("uniform"), **argument)


def test_hooks_and_parameters_of_the_container_are_refused() -> None:
    hooked = layers()
    hooked.register_forward_hook(lambda module, args, output: output * 2)
    owner = layers()
    owner.scale = nn.Parameter(torch.ones(1))
    for model in (hooked, owner):
        with pytest.raises(la.InputError, match="has hooks, parameters or buffers of its own"):
            in_memory(model=model)


def test_a_written_dtype_is_taken_for_a_model_in_memory() -> None:
    halved = la.load(in_memory(), {"model.dtype": "bfloat16"})
    costs = la.calibrate(halved, repeats=1)
    assert costs.static_bytes[0] < la.calibrate(in_memory(), repeats=1).static_bytes[0]


def test_the_callers_autocast_and_inference_mode_do_not_reach_inside() -> None:
    scenario = in_memory()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert la.execute(scenario, steps=2).max_grad_error == 0.0
    with torch.inference_mode():
        assert la.execute(scenario, steps=2).max_grad_error == 0.0


def test_threads_take_turns() -> None:
    from concurrent.futures import ThreadPoolExecutor

    scenario, state = in_memory(), torch.get_rng_state()
    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(lambda _: la.execute(scenario, steps=2), range(3)))
    assert [run.max_grad_error for run in runs] == [0.0] * 3
    assert len({tuple(run.execution.losses) for run in runs}) == 1
    assert torch.equal(state, torch.get_rng_state())


def test_a_timeline_does_not_take_the_place_of_a_run(tmp_path: Path) -> None:
    step = la.simulate("uniform")
    assert la.report(step, tmp_path / "step") == la.report(step, tmp_path / "step")
    run = la.execute(in_memory(), steps=2)
    la.report(run, tmp_path / "run")
    with pytest.raises(la.InputError, match="holds a run or a sweep already"):
        la.report(step, tmp_path / "run")


def test_a_model_cannot_be_given_twice_or_to_another_kind() -> None:
    with pytest.raises(la.InputError, match=r"model.python is .byte-gpt. and a model is given too"):
        la.load({**TABLES, "model": {"kind": "module", "python": "byte-gpt"}}, model=layers())
    with pytest.raises(la.InputError, match="needs kind"):
        la.load("uniform", loss=loss)


def test_a_plan_is_proven_and_one_with_a_race_is_not(tmp_path: Path) -> None:
    plan = la.plan("uniform", {"parallel.microbatches": 4})
    assert isinstance(plan, la.Plan)
    la.verify(plan)
    la.verify(la.plan(in_memory()))
    from loadahead.plan_files import write_plan

    path = tmp_path / "plan.json"
    write_plan(plan, path)
    la.verify(path)
    content = json.loads(path.read_text())
    next(op for op in content["ops"] if op["kind"] == "RELEASE")["after"].clear()
    path.write_text(json.dumps(content))
    with pytest.raises(la.CheckFailed, match=r"rules? (is|are) broken"):
        la.verify(path)


def test_a_step_is_predicted_of_a_scenario_and_of_its_plan() -> None:
    step = la.simulate("uniform", {"offload.activation_loading_horizon": 1})
    assert step.metrics.step_time_ns == step.step_time_ns == 33_000_000
    assert step.metrics.peak_device_bytes == max(rank.peak_device_bytes for rank in step.metrics.ranks)
    table = step.to_pandas()
    assert len(table) == len(step) == len(la.plan("uniform", {"offload.activation_loading_horizon": 1}))
    assert table["end_ns"].max() == 33_000_000
    assert {"FORWARD", "BACKWARD", "OFFLOAD"} <= set(table["kind"])
    assert set(table["queue"]) <= {"compute", "d2h", "h2d", "send", "recv"}
    plan = la.plan("uniform", {"offload.activation_loading_horizon": 1})
    assert la.simulate(plan, engine="simpy").metrics == step.metrics
    with pytest.raises(la.InputError, match="whose choices are made"):
        la.simulate(plan, {"parallel.microbatches": 2})


def test_a_sweep_is_the_command_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports: list[la.Progress] = []
    axes = {"horizon": range(1, 4), "hardware.d2h": ["1 GB/s", "2 GB/s"]}
    table = la.sweep("uniform", axes, directory=tmp_path / "swept", progress=reports.append)
    assert (reports[0].done, reports[0].total, reports[-1].done) == (0, 6, 6)
    again = la.sweep("uniform", axes, directory=tmp_path / "swept", progress=reports.append)
    assert again.rows == table.rows and "taken over" in reports[-1].what
    assert (
        command_line(["sweep", "uniform", "--horizon", "1:3", "--set-range", "hardware.d2h=1 GB/s,2 GB/s", "--json"])
        == 0
    )
    assert json.loads(capsys.readouterr().out)["points"] == list(table.rows)
    assert len(table) == len(table.to_pandas()) == 6
    assert list(table.to_pandas()["horizon"]) == [row["horizon"] for row in table.rows]


def test_the_best_point_fits_the_memory() -> None:
    table = la.sweep("four-rank", {"horizon": [1, 4], "offload.offload_activations": [True, False]})
    best = table.best("80 GiB")
    assert best is not None and best["peak_device_bytes"] <= 80 * 2**30
    assert table.best("1 GiB") is None
    assert table.best(10**15) is not None


FIRST = {"offload.activation_loading_horizon": 1, "hardware.d2h": "1 GB/s"}


def test_a_row_has_attributes_and_is_a_mapping_of_its_columns() -> None:
    table = la.sweep("uniform", {"horizon": [1, 2], "hardware.d2h": ["1 GB/s"]})
    row = table.rows[0]
    assert row.horizon == row["horizon"] == 1 and row["hardware.d2h"] == "1 GB/s"
    assert row.step_time_ns == row["step_time_ns"] == la.simulate("uniform", FIRST).step_time_ns
    assert list(row) == list(row.to_dict()) == list(table.to_pandas().columns)
    assert row == dict(row) == row.to_dict() != table.rows[1]
    assert sum(row.stalls_ns.values()) == sum(row[name] for name in row if name.startswith("stall_"))
    with pytest.raises(KeyError):
        row["step_time"]


def test_a_model_in_memory_is_trained_as_a_plain_loop_trains_it(tmp_path: Path) -> None:
    model = layers()
    scenario = in_memory(model=model)
    before = [parameter.clone() for parameter in model.parameters()]
    reports: list[la.Progress] = []
    costs = la.calibrate(scenario, repeats=1, progress=reports.append)
    run = la.execute(scenario, costs=costs, steps=3, progress=reports.append)
    assert run.max_grad_error == 0.0
    assert [report.done for report in reports if report.total == 3] == [0, 1, 2, 3]
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))

    optimizer = descent(list(model.parameters()))
    for step in range(3):
        optimizer.zero_grad()
        parts = [loss(model(x), target) / 2 for x, target in (data(step, m, 2) for m in range(2))]
        for part in parts:
            part.backward()
        optimizer.step()
        assert run.execution.losses[step] == pytest.approx(sum(part.item() for part in parts), rel=1e-6)

    assert run.metrics == run.measured.metrics
    comparison = la.compare(run, run)
    assert comparison.to_dict() == run.comparison().to_dict()
    assert la.report(run, tmp_path / "run").is_file()
    step = la.simulate(scenario, costs=costs)
    assert la.report(step, tmp_path / "step").is_file()
    assert la.report(la.sweep(scenario, {"horizon": [1, 2]}, costs=costs), tmp_path / "sweep").is_file()
    assert la.report(tmp_path / "run") == tmp_path / "run" / "report.html"
    with pytest.raises(la.InputError, match="needs a directory"):
        la.report(step)
    with pytest.raises(la.InputError, match="one side of the comparison is a path"):
        la.compare(step, tmp_path / "run")


def test_a_plan_of_a_model_in_memory_needs_costs_and_cannot_be_run() -> None:
    scenario = in_memory()
    plan, costs = la.plan(scenario), la.calibrate(scenario, repeats=1)
    assert la.simulate(plan, costs=costs).metrics == la.simulate(scenario, costs=costs).metrics
    with pytest.raises(la.InputError, match=r"made from a model in memory.*give a costs file"):
        la.simulate(plan)
    with pytest.raises(la.InputError, match="was made from a model in memory"):
        la.execute(plan, costs=costs)


def test_what_is_given_in_memory_stays_with_the_scenario() -> None:
    changed = la.load(in_memory(), {"parallel.microbatches": 3})
    assert changed.parallel.microbatches == 3
    assert la.plan(changed).microbatches == 3


def test_weights_keep_their_types() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 3)).to(torch.bfloat16)

    def halves(step: int, microbatch: int, microbatches: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, target = data(step, microbatch, microbatches)
        return x.to(torch.bfloat16), target

    scenario = in_memory(model=model, data=halves)
    plan = la.plan(scenario)
    buffers = [plan.buffer(index) for index in range(len(plan.buffers.nbytes))]
    assert {buffer.nbytes for buffer in buffers if buffer.role.label == "boundary"} == {4 * 8 * 2}


def test_another_model_in_memory_is_another_sweep(tmp_path: Path) -> None:
    class Slow(nn.Tanh):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(super().forward(x))

    axes = {"horizon": [1, 2]}
    first = in_memory(model=nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)))
    other = in_memory(model=nn.Sequential(nn.Linear(8, 8), Slow(), nn.Linear(8, 3)))
    table = la.sweep(first, axes, directory=tmp_path)
    reports: list[la.Progress] = []
    assert la.sweep(first, axes, directory=tmp_path, progress=reports.append).rows == table.rows
    assert not any("starts anew" in report.what for report in reports)
    la.sweep(other, axes, directory=tmp_path, progress=reports.append)
    assert any("starts anew" in report.what and "model in memory" in report.what for report in reports)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"optimizer": lambda parameters: None}, "optimizer returned a value of type NoneType"),
        ({"optimizer": lambda parameters: 1 // 0}, "optimizer fails: ZeroDivisionError"),
        ({"loss": lambda output, target: output}, "the loss given returns"),
        ({"data": lambda step, microbatch, microbatches: 1}, "data returned int; it must return (input, target)"),
    ],
)
def test_what_is_wrong_with_given_functions_is_one_line(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(la.InputError, match=r"^[^\n]*$") as caught:
        la.calibrate(in_memory(**changes), repeats=1)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: la.load("uniform", ["a"]), "the overrides are of type list"),
        (lambda: la.load("uniform", model=layers()), "model.kind is 'uniform' and a model is given too"),
        (lambda: la.sweep("uniform", {"horizon": [1]}, workers="x"), "jobs is 'x'; it must be a whole number"),
        (lambda: la.report(3, "out"), "the report's subject is of type int"),
        (lambda: la.execute("demo", steps=0), "steps is 0; at least"),
        (lambda: la.calibrate("demo", repeats=0), "repeats is 0; it must be at least 1"),
        (lambda: la.calibrate("demo", repeats="3"), "repeats is '3'; it must be a whole number"),  # type: ignore[arg-type]
        (lambda: la.execute("demo", steps=2.5, costs=COSTS), "steps is 2.5; it must be a whole number"),  # type: ignore[arg-type]
        (lambda: la.simulate("uniform", costs=3), "the costs are of type int"),  # type: ignore[arg-type]
        (lambda: la.verify(3), "the plan is of type int"),  # type: ignore[arg-type]
        (lambda: la.sweep("uniform", [1]), "the axes are of type list"),  # type: ignore[arg-type]
        (lambda: la.sweep("uniform", {"horizon": [[1]]}), "horizon has the value [1]"),
        (lambda: la.sweep("uniform", {"horizon": torch.ones(2, 2)}), "horizon has an array among its values"),
        (lambda: la.sweep("uniform", {"horizon": [1]}, overrides=[1]), "the overrides are of type list"),  # type: ignore[arg-type]
        (lambda: la.sweep("uniform", {"horizon": [1]}, fresh=True), "fresh needs the directory"),
        (lambda: la.sweep("uniform", {"horizon": [1]}, directory=__file__), "is a file or lies below one"),
        (lambda: la.compare(la.simulate("uniform"), 3), "the measurement is of type int"),  # type: ignore[arg-type]
        (lambda: la.load("a" * 5000), "is neither a scenario file"),
        (lambda: la.load("/a\0b"), "is neither a scenario file"),
        (lambda: la.load(in_memory(), {"model.python": "byte-gpt"}), "and a model is given in memory"),
    ],
)
def test_a_wrong_argument_is_one_line(call: Any, says: str) -> None:
    with pytest.raises(la.InputError, match=r"^[^\n]*$") as caught:
        call()
    assert says in str(caught.value)
