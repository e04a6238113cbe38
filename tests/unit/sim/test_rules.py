"""Each rule has one home: what is changed there changes in both engines, the planner's walk and the metrics alike.

A copy of the simulator in which each rule says something else is asked for the same step as the simulator itself.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import loadahead
from loadahead.sim.step_metrics import STALLS

SIM = Path(loadahead.__file__).parent / "sim"

# What the copy's rules say instead, in the functions that docs/architecture.md names.
OTHERWISE = {
    "clock.py": ("return max(start + duration, issued)", "return max(start + 2 * duration, issued)"),
    "memory.py": ("return level + taken + workspace", "return level + taken + workspace + 7"),
    "stalls.py": ("return max(latest - ready, 0)", "return 3 * max(latest - ready, 0)"),
    "step_metrics.py": ("return hidden / copying if", "return hidden / copying / 2 if"),
}

# A step with stalls of every kind, launches and copies, through all that simulates: on links of its own by each engine
# and by the walk that makes no plan, and on shared links that are never asked for too much, and that are.
ASK = """
import json
from loadahead.sim.costs import Costs, SharedLinks, UnitCost
from loadahead.sim.engines import ENGINES, simulate
from loadahead.sim.planner import Policy, build_plan
from loadahead.sim.policy_metrics import Groups
from loadahead.sim.step_metrics import SweepRow
from loadahead.sim.workload import UnitShape, Workload

unit = UnitShape(boundary_bytes=100, gradient_bytes=50)
workload, policy = Workload(stages=((unit,) * 2,) * 2), Policy(ranks=2, microbatches=6, horizon=1)
cost = UnitCost(forward_ns=40, recompute_ns=30, backward_ns=60, workspace_backward=11)
costs = Costs(units=((cost,) * 2,) * 2, static_bytes=(0, 0), d2h_bandwidth=500_000_000, h2d_bandwidth=700_000_000,
              p2p_latency_ns=10, launch_ns=2, memory_bytes=10**9)
plan = build_plan(workload, policy)
tight = SharedLinks(gpus_per_switch=2, uplink_d2h=600_000_000, uplink_h2d=600_000_000)
out = {"planless": Groups().rows(workload, costs, [policy], [{}])[0].to_dict()}
for name, shared in (("own", None), ("shared", tight)):
    for engine in ENGINES:
        metrics = simulate(plan, costs.model_copy(update={"shared": shared}), engine).metrics
        out[f"{name} {engine}"] = SweepRow.of({}, metrics).to_dict()
print(json.dumps(out))
"""


def answers(root: Path, **more: str) -> dict[str, dict[str, Any]]:
    """Return the step's row by every way, as the simulator of this checkout has it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    ran = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=root,
        env=environment | {"PYTHONPATH": str(root)} | more,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, dict[str, Any]] = json.loads(ran.stdout)
    return found


def test_a_rule_that_says_something_else_says_it_everywhere(tmp_path: Path) -> None:
    package = tmp_path / "loadahead"
    package.mkdir()
    (package / "__init__.py").write_text("")
    shutil.copytree(SIM, package / "sim", ignore=shutil.ignore_patterns("__pycache__"))
    for name, (line, other) in OTHERWISE.items():
        source = (package / "sim" / name).read_text()
        assert source.count(line) == 1, f"{name}: the rule's line stands there once"
        (package / "sim" / name).write_text(source.replace(line, other))
    # The copy runs as its lines say: to compile it takes long, and numba has no other form of any function.
    ours, theirs = answers(SIM.parents[1]), answers(tmp_path, NUMBA_DISABLE_JIT="1")
    for found in (ours, theirs):
        assert found["planless"] == found["own simpy"] == found["own compiled"]
        assert found["shared simpy"] == found["shared compiled"]
    assert ours["shared simpy"]["step_time_ns"] > ours["own simpy"]["step_time_ns"]  # the flows slow each other down
    for way, row in ours.items():
        other = theirs[way]
        assert other["step_time_ns"] > row["step_time_ns"], way
        for peak in ("peak_device_bytes", "peak_boundary_bytes"):
            assert other[peak] == row[peak] + 7, way
        for stall in STALLS:
            assert row[f"stall_{stall}_ns"] > 0, (way, stall)
            assert other[f"stall_{stall}_ns"] % 3 == 0, (way, stall)
        assert 0 < other["overlap"] <= 0.25 and row["overlap"] > 0, way  # halved on each rank, then for all of them


@cache
def modules() -> dict[str, ast.Module]:
    """Return the syntax of every module of the simulator, by its name."""
    return {
        ".".join(path.relative_to(SIM).with_suffix("").parts): ast.parse(path.read_text()) for path in SIM.rglob("*.py")
    }


def test_numba_has_no_other_form_of_a_function_than_its_lines() -> None:
    """Or else what is compiled could say something else than the rule's lines, and the test above would not see it."""
    extending = {
        (module, name.name)
        for module, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom | ast.Import)
        for name in node.names
        if (getattr(node, "module", None) or name.name).startswith("numba.")
    }
    assert extending == {("compiled", "register_jitable")}
    decorated = {
        ast.unparse(decorator)
        for tree in modules().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
    }
    assert {"compiled", "inlined"} <= decorated and not any("numba" in text or "jit" in text for text in decorated)


# Who asks which rule: the home's functions, and the modules that call them.
ASKED = {
    ("clock", "finish"): {
        "engines.simpy_engine",
        "engines.compiled_engine",
        "engines.fluid",
        "planner.operations",
        "tuning.bound_walk",
    },
    ("clock", "later"): {
        "engines.simpy_engine",
        "engines.compiled_engine",
        "engines.fluid",
        "planner.operations",
        "stalls",
        "tuning.bound_walk",
    },
    ("clock", "host_allows"): {"clock", "planner.operations"},
    ("memory", "level_during"): {"memory", "engines.simpy_engine", "planner.operations"},
    ("memory", "level_after"): {"memory", "engines.simpy_engine", "planner.operations"},
    ("stalls", "stall"): {"stalls", "planner.operations"},
    ("stalls", "is_to_blame"): {"stalls", "planner.operations"},
    ("overlap", "copying_and_hidden"): {"overlap", "policy_metrics"},
    ("overlap", "overlap"): {"metrics", "policy_metrics"},
    ("step_metrics", "overlap_share"): {"step_metrics"},
}


@pytest.mark.parametrize(("home", "rule"), ASKED)
def test_who_asks_a_rule_is_who_is_said_to(home: str, rule: str) -> None:
    """One definition in the whole package, in its home; and every engine, the walk and the metrics call that one."""
    defined, calling = set(), set()
    for module, tree in modules().items():
        imported = {
            name.asname or name.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == f"loadahead.sim.{home}"
            for name in node.names
            if name.name == rule
        }
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        if rule in functions and module == home:
            imported.add(rule)
        calls = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        if rule in functions:
            defined.add(module)
        if imported & calls:
            calling.add(module)
    if rule != "overlap":  # the compiled form of step_metrics' overlap_share; the metric has its name
        assert defined == {home}
    assert calling == ASKED[home, rule]


def test_the_documentation_names_each_rules_function() -> None:
    text = (SIM.parents[1] / "docs" / "architecture.md").read_text()
    for home, rule in ASKED:
        assert f"`sim/{home}.py`" in text and f"`{rule}`" in text, (home, rule)
