"""`costs = "estimate"` wherever costs are taken, and that what follows from it says so everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import loadahead as la
from loadahead.cli.main import run
from loadahead.sim.costs import load_costs, save_costs
from loadahead.sweeps.grid import Sweep

Captured = pytest.CaptureFixture[str]
SOURCE = "estimate by roofline for h100-sxm"
WARNING = f"times are not measured but an {SOURCE}; calibrate on that GPU for measured ones"
WITHOUT_WORKSPACES = (
    "the layers' workspaces are not known, as the model was run to be traced: the estimate's peaks are without them, "
    "and those of a run may be higher"
)
OF_ADVICE = "All of its times are an estimate."
IN_SHORT = "Nothing was measured: these are predictions, and their times are an estimate."
OF_COMPARISON = (
    f"The predicted times are not measured but an {SOURCE}: they are that GPU's and the measured ones a CPU's, so that "
    "errors of times say nothing of either."
)
OF_A_RUN = f"the predicted times are an {SOURCE}, and this run's are a CPU's: by what they differ says nothing of"
MODEL = "model.options={ blocks = 1, width = 8, heads = 1, context = 4, batch = 1 }"
SET = ["--set", "hardware.preset=h100-sxm", "--set", MODEL, "--set", "parallel.microbatches=2"]
ASKED = ["--costs", "estimate", *SET]


def tables(**hardware: Any) -> dict[str, Any]:
    return {
        "name": "layers",
        "model": {"input_shape": [4, 8], "steps": 2},
        "hardware": hardware or {"preset": "h100-sxm"},
        "parallel": {"microbatches": 2},
    }


def scenario(costs: str | None = None, **hardware: Any) -> la.Scenario:
    layers = nn.Sequential(*(nn.Linear(8, 8, dtype=torch.float32) for _ in range(3)))
    return la.load(tables(**hardware) | ({} if costs is None else {"costs": costs}), model=layers)


def printed(words: Sequence[str], capsys: Captured, status: int = 0) -> tuple[str, str]:
    assert run(words) == status
    out, err = capsys.readouterr()
    return out, err


# ---- the same wherever it is asked for -------------------------------------------------------------------------------


def test_a_step_by_hand() -> None:
    """Three layers of 4 x 8 x 8 products at 0.5 of 1 TFLOP/s: 512 FLOPs take 1.024 ns, rounded up to 2."""
    gpu = {"flops": "1 TFLOP/s", "efficiency": 0.5, "memory_bandwidth": "1 GB/s", "d2h": "1 GB/s", "h2d": "1 GB/s"}
    plain = {"checkpoint.enabled": False, "parallel.microbatches": 1}
    step = la.simulate(scenario(**gpu), plain, costs="estimate")
    (rank,) = step.metrics.ranks
    # A stage's weights, gradients and Adam's moments are read, and all but the gradients are written, at 0.83 GB/s.
    static = la.inspect(scenario(**gpu), plain).units
    optimizer = sum(ceil(unit.facts.static_bytes * 7 // 4 / 0.83) for unit in static)
    assert sum(unit.facts.static_bytes for unit in static) >= 3 * (64 + 8) * 16
    assert step.metrics.step_time_ns == 3 * 2 + 3 * 3 + optimizer
    assert rank.compute_ns == step.metrics.step_time_ns


def test_all_ways_to_ask_give_one_step(tmp_path: Path) -> None:
    asked = la.simulate(scenario(), costs="estimate")
    assert asked.header["costs"] == SOURCE and WARNING in asked.header["warnings"]
    for other in (
        la.simulate(scenario("estimate")),
        la.simulate(scenario(), {"costs": "estimate"}),
        # Given costs stand for a file that the scenario names, whether it is there or not.
        la.simulate(scenario("none.json"), costs="estimate"),
    ):
        assert other.metrics == asked.metrics and other.header["costs"] == SOURCE
    table = la.sweep(scenario(), {"horizon": [2, 4]}, costs="estimate")
    assert table.rows[1].step_time_ns == asked.metrics.step_time_ns
    assert WARNING in table.warnings and table.facts is not None
    assert [facts.source for facts in table.facts.costs] == [SOURCE]
    advice = la.advise(scenario(), costs="estimate")
    assert advice is not None and advice.sentence.endswith(OF_ADVICE) and advice.to_dict()["estimated"]
    assert table.advice is not None and table.advice.sentence.endswith(OF_ADVICE)


class Looks(nn.Module):
    """Looks at numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if float(x.sum()) > 0 else x * 2


def test_a_model_that_looks_at_numbers_is_run_and_its_workspaces_are_not_known() -> None:
    step = la.simulate(la.load(tables(), model=[nn.Linear(8, 8), Looks(), nn.Linear(8, 8)]), costs="estimate")
    assert WITHOUT_WORKSPACES in step.header["warnings"]
    assert WITHOUT_WORKSPACES not in la.simulate(scenario(), costs="estimate").header["warnings"]
    with torch.device("meta"):
        bare = [nn.Linear(8, 8), Looks(), nn.Linear(8, 8)]
    with pytest.raises(la.LoadaheadError, match=r"it looks at numbers, and a model without weights") as caught:
        la.simulate(la.load(tables(), model=bare), costs="estimate")
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_an_estimate_leaves_the_users_model_alone() -> None:
    model = nn.Sequential(nn.Linear(8, 8), torch.jit.script(nn.Linear(8, 8)))
    before = [parameter.clone() for parameter in model.parameters()]
    la.simulate(la.load(tables(), model=model), costs="estimate")
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(map(torch.equal, before, model.parameters()))


def test_weights_in_16_bits_have_products_in_16_bits() -> None:
    def said(built: torch.dtype, **model: Any) -> list[str]:
        given = tables() | {"model": {**tables()["model"], "input_dtype": str(built).removeprefix("torch.")} | model}
        layers = [nn.Linear(8, 8, dtype=built) for _ in range(2)]
        step = la.simulate(la.load(given, model=layers), costs="estimate")
        return [text for text in step.header["warnings"] if "which are of products in 16 bits" in text]

    assert said(torch.bfloat16) == []
    assert len(said(torch.float32)) == 1
    # What is written stands for what was built.
    assert len(said(torch.bfloat16, dtype="float32")) == 1


def test_costs_that_are_given_stand_for_a_scenarios_estimate(tmp_path: Path) -> None:
    """They need no GPU to be known, and nothing is said of an estimate."""
    links = {"d2h": "1 GB/s", "h2d": "1 GB/s", "memory": "64 MiB"}
    costs = la.calibrate(scenario("estimate", **links), repeats=1)
    for source in (scenario("estimate", **links), scenario("estimate")):
        step = la.simulate(source, costs=costs)
        assert step.header["costs"] == "calibrated on cpu"
        assert not any("estimate" in text for text in step.header["warnings"])
        assert not any("estimate" in text for text in la.sweep(source, {"horizon": [1]}, costs=costs).warnings)


def test_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.chdir(tmp_path)
    costs = la.calibrate(scenario(d2h="1 GB/s", h2d="1 GB/s"), repeats=1)
    save_costs(costs, tmp_path / "estimate")
    for given in (Path("estimate"), "./estimate"):
        assert la.simulate(scenario(), costs=given).header["costs"] == "calibrated on cpu"
    assert la.simulate(scenario("./estimate")).header["costs"] == "calibrated on cpu"
    # On the command line and in a scenario's file as well: both find it, and it has another model's units.
    (tmp_path / "s.toml").write_text('costs = "./estimate"\n[model]\nkind = "uniform"\n' + UNIFORM)
    assert "unit" in printed(["simulate", "uniform", "--costs", "./estimate"], capsys, 2)[1]
    assert "unit" in printed(["simulate", "s.toml"], capsys, 2)[1]
    (tmp_path / "t.toml").write_text('costs = "estimate"\n[model]\nkind = "uniform"\n' + UNIFORM)
    assert 'costs = "estimate" has no effect on a uniform model' in printed(["simulate", "t.toml"], capsys)[1]


UNIFORM = """units_per_stage = 4
boundary = "1 MB"
forward = "1 ms"
backward = "2 ms"
[hardware]
d2h = "1 GB/s"
h2d = "1 GB/s"
"""


def test_a_plan_remembers_it(tmp_path: Path, capsys: Captured) -> None:
    plan = str(tmp_path / "plan.json")
    said = json.loads(printed(["plan", "demo", *ASKED, "-o", plan, "--json"], capsys)[0])
    assert said["costs"] == SOURCE and WARNING in said["warnings"] and said["advice"]["estimated"]
    assert json.loads(Path(plan).read_text())["policy"]["scenario"]["costs"] == "estimate"
    asked = json.loads(printed(["simulate", "demo", *ASKED, "--json"], capsys)[0])
    for more in ([], ["--costs", "estimate"]):
        assert json.loads(printed(["simulate", plan, *more, "--json"], capsys)[0]) == asked
    # One that was made without it is asked in the same way.
    printed(["plan", "demo", *SET, "-o", plan], capsys)
    assert json.loads(printed(["simulate", plan, "--costs", "estimate", "--json"], capsys)[0]) == asked


def test_a_plan_whose_model_is_in_memory_has_nothing_to_estimate() -> None:
    plan = la.plan(scenario())
    with pytest.raises(la.LoadaheadError, match="was made from a model in memory"):
        la.simulate(plan, costs="estimate")


def test_a_loop_of_the_users_own() -> None:
    layers = nn.Sequential(*(nn.Linear(8, 8) for _ in range(3)))
    own = {name: table for name, table in tables().items() if name != "model"}
    training = la.TrainingStep(layers, own, loss=lambda output, _: output.mean(), costs="estimate")
    training([(torch.ones(4, 8), None)] * 2)
    step = training.predicted
    assert step.header["costs"] == SOURCE and WARNING in step.header["warnings"]
    unknown = own | {"hardware": {"d2h": "1 GB/s", "h2d": "1 GB/s"}}
    with pytest.raises(la.LoadaheadError, match="needs to know the GPU"):
        la.TrainingStep(layers, unknown, loss=lambda output, _: output.mean(), costs="estimate")


@pytest.mark.parametrize(
    "command",
    [["simulate"], ["sweep", "--horizon", "1:2"], ["inspect"], ["plan"], ["execute"]],
    ids=lambda words: words[0],
)
def test_a_gpu_that_is_not_known_is_one_line(command: list[str], capsys: Captured) -> None:
    name, *options = command
    out, err = printed([name, "demo", *options, "--costs", "estimate"], capsys, 2)
    assert (
        out == "" and err.startswith('error: demo: costs = "estimate" needs to know the GPU') and err.count("\n") == 1
    )


def test_a_file_that_is_not_there(capsys: Captured) -> None:
    assert (
        "estimates: cannot be read as a costs file"
        in printed(["simulate", "demo", "--costs", "estimates"], capsys, 2)[1]
    )


def test_a_sweep_over_gpus_estimates_for_each() -> None:
    presets = ["h100-sxm", "a100-sxm-80gb"]
    large = la.load(tables() | {"model": {"input_shape": [256, 256]}}, model=[nn.Linear(256, 256), nn.Linear(256, 256)])
    table = la.sweep(large, {"hardware.preset": presets, "horizon": [4]}, costs="estimate")
    own = [la.simulate(large, {"hardware.preset": preset}, costs="estimate") for preset in presets]
    assert [row.step_time_ns for row in table.rows] == [step.metrics.step_time_ns for step in own]
    assert table.rows[0].step_time_ns < table.rows[1].step_time_ns and table.facts is not None
    assert [facts.source for facts in table.facts.costs] == [step.header["costs"] for step in own]


def test_a_sweep_goes_on_and_one_of_other_costs_begins_anew(tmp_path: Path) -> None:
    told: list[str] = []

    def swept(**asked: Any) -> la.SweepTable:
        told.clear()
        return la.sweep(
            scenario(), {"horizon": [1, 2]}, directory=tmp_path, progress=lambda at: told.append(at.what), **asked
        )

    first = swept(costs="estimate")
    assert swept(costs="estimate").rows == first.rows and any("2 of 2 points were finished" in text for text in told)
    other = swept(costs=la.calibrate(scenario(d2h="1 GB/s", h2d="1 GB/s"), repeats=1), fresh=False)
    assert not any("finished before" in text for text in told) and other.rows != first.rows


def test_the_word_becomes_the_sweeps_key() -> None:
    asked = Sweep("demo", {"hardware.preset": "h100-sxm"}, "estimate")
    assert asked.given is None and asked.prepared().scenario.is_estimated
    assert Sweep("demo").given is None and not Sweep("demo").prepared().scenario.is_estimated


# ---- marked wherever it is shown -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    assert run(["execute", "demo", *ASKED, "--steps", "2", "-o", str(out)]) == 0
    return out


def test_a_run_measures_a_cpu_beside_it(executed: Path) -> None:
    result = json.loads((executed / "result.json").read_text())
    assert result["costs"] == SOURCE and result["predicted"]["costs"] == SOURCE
    assert [text for text in result["warnings"] if text.startswith(OF_A_RUN)] and WARNING in result["warnings"]
    assert result["max_grad_error"] == 0.0
    assert load_costs(executed / "costs.json").source == SOURCE
    header = json.loads((executed / "predicted.jsonl").read_text().splitlines()[0])
    assert header["costs"] == SOURCE
    peaks = [text for text in result["warnings"] if "at its peak" in text]
    assert all("the estimate takes what a unit saves" in text for text in peaks)


def test_a_comparison_says_it(executed: Path, capsys: Captured) -> None:
    out, _ = printed(["compare", str(executed), str(executed)], capsys)
    assert OF_COMPARISON in " ".join(out.split())
    found = json.loads(printed(["compare", str(executed), str(executed), "--json"], capsys)[0])
    assert found["costs"] == SOURCE and found["notes"] == [OF_COMPARISON]
    kept = json.loads((executed / "comparison.json").read_text())
    assert kept["notes"] == [OF_COMPARISON]


def test_a_runs_page_says_it(executed: Path) -> None:
    page = la.report(executed).read_text()
    assert page.count(">estimated<") == 1
    for text in (
        SOURCE,
        "the predicted times are an estimate for another device",
        "Their times are an estimate: no device was timed",
    ):
        assert text in page
    assert OF_COMPARISON.replace("'", "&#x27;") in page or OF_COMPARISON in page


def test_a_sweeps_page_says_it(tmp_path: Path, capsys: Captured) -> None:
    said = json.loads(printed(["sweep", "demo", *ASKED, "--horizon", "1:2", "-o", str(tmp_path), "--json"], capsys)[0])
    assert said["costs"] == [SOURCE] and WARNING in said["warnings"] and said["advice"]["estimated"]
    page = la.report(tmp_path).read_text()
    assert page.count(">estimated<") == 1
    assert SOURCE in page and IN_SHORT in page and "Their times are an estimate: no device was timed" in page


def test_a_simulation_in_words(capsys: Captured) -> None:
    out, err = printed(["simulate", "demo", *ASKED], capsys)
    assert f"(compiled; {SOURCE})" in out and IN_SHORT in out and err.count(WARNING) == 1


def test_a_sweep_in_words(capsys: Captured) -> None:
    out, err = printed(["sweep", "demo", *ASKED, "--horizon", "1:2"], capsys)
    assert IN_SHORT in out and err.count(WARNING) == 1


def test_an_inspection(capsys: Captured) -> None:
    out, err = printed(["inspect", "demo", *ASKED], capsys)
    assert f"Times are an {SOURCE}." in " ".join(out.split())
    assert err.count(WARNING) == 1
    found = json.loads(printed(["inspect", "demo", *ASKED, "--json"], capsys)[0])
    assert found["costs"] == SOURCE and all(unit["forward_ns"] > 0 for unit in found["units"])


@pytest.mark.parametrize(
    ("shown", "source"),
    [
        (lambda: la.simulate("slow-link"), "scenario"),
        (lambda: la.simulate("four-rank"), "scenario, by roofline for h100-sxm"),
    ],
    ids=["uniform", "gpt"],
)
def test_nothing_of_it_where_nobody_asked(shown: Callable[[], la.Timeline], source: str) -> None:
    step = shown()
    assert step.header["costs"] == source and not any("estimate" in text for text in step.header["warnings"])


def test_costs_of_a_file_are_still_an_estimate(executed: Path, capsys: Captured) -> None:
    given = ["--costs", str(executed / "costs.json"), *SET]
    out, err = printed(["simulate", "demo", *given], capsys)
    assert f"(compiled; {SOURCE})" in out and IN_SHORT in out and err.count(WARNING) == 1
