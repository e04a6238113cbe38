"""The table of peers follows from what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from loadahead.executor.links import Links
from loadahead.executor.peers.emulated import emulated_save_on_cpu
from loadahead.executor.peers.run import PeerResult, PeerSkipped
from loadahead.executor.peers.side_by_side import Model
from loadahead.sim.planner import Policy, build_plan
from tests.bench.bench_peers import MIB, Case, main, notes, peers, rows_of, table
from tests.support.models import HARDWARE, tiny_spec, workload_of

OURS = PeerResult(name="ours", step_times_ns=[4_000_000, 5_000_000, 9_000_000], losses=[1.0], peak_device_bytes=2 * MIB)
SLOW = PeerResult(name="slow", step_times_ns=[10_000_000] * 3, losses=[1.0], peak_device_bytes=3 * MIB)
DARK = PeerResult(name="dark", step_times_ns=[5_000_000] * 3, losses=[1.0], peak_device_bytes=None)
GONE = PeerSkipped(name="gone", reason="it is not here")


def model() -> Model:
    spec = tiny_spec()
    return Model(spec=spec, workload=workload_of(spec), device=torch.device("cpu"), links=Links.of(HARDWARE))


def test_ratios_are_of_medians_and_peaks_to_the_first() -> None:
    rows = rows_of([OURS, SLOW, DARK, GONE])
    assert [row.get("step_time_ratio") for row in rows] == [1.0, 2.0, 1.0, None]
    assert [row.get("peak_device_ratio") for row in rows] == [1.0, 1.5, None, None]
    assert [line.split() for line in table(rows)][1:] == [
        ["ours", "5.0", "(4.5", "to", "7.0)", "1.000", "2.00", "1.000"],
        ["slow", "10.0", "(10.0", "to", "10.0)", "2.000", "3.00", "1.500"],
        ["dark", "5.0", "(5.0", "to", "5.0)", "1.000", "-", "-"],
        ["gone", "skipped:", "it", "is", "not", "here"],
    ]


def test_notes_count_those_that_have_times() -> None:
    case = Case(
        scenario="tiny", model=model(), entrants=[], advice="advised", ways="Lean.", order="3 microbatches, simple"
    )
    losses, ways, link, memory = notes(case, rows_of([OURS, SLOW, GONE]))
    assert losses.startswith("The losses of the 2 that have times are equal in every digit")
    assert ways == "Lean."
    assert "emulated link" in link and case.model.links.in_words(1) in link
    assert "but for host copies" in memory


def test_a_peer_that_copies_nothing_on_a_cpu_is_emulated_there_and_says_so() -> None:
    one = model()
    plan = build_plan(one.workload, Policy(ranks=1, microbatches=2, offload=False))
    names = {device: [entrant.name for entrant in peers(plan, device, one.links)] for device in ("cpu", "cuda")}
    emulated = "torch's save_on_cpu, over the emulated link"
    assert emulated in names["cpu"] and "torch's save_on_cpu" not in names["cpu"]
    assert names["cuda"] == [name.replace(", over the emulated link", "") for name in names["cpu"]]
    assert emulated_save_on_cpu(one.links).name in emulated


def test_one_command_prints_the_table_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "peers.json"
    size = "{ blocks = 2, width = 16, heads = 2, context = 16, batch = 2, dropout = 0.1 }"
    changes = ["--set", f"model.options={size}", "--set", "parallel.microbatches=4"]
    assert main([*changes, "--rounds", "1", "-o", str(out)]) == 0
    said, written = capsys.readouterr().out, json.loads(out.read_text())
    assert written["order"] == "4 microbatches, simple" and written["device"] == "cpu"
    names = [row["name"] for row in written["rows"]]
    assert names[0].startswith("ours, horizon ") and "ours, no offload" in names
    assert all(name in said for name in names)
    assert [name for name, row in zip(names, written["rows"], strict=True) if "skipped" in row] == [
        "TRL's OffloadActivations",
        "DeepSpeed's offload of inputs",
    ]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--scenario", "uniform"], "has no tensors to run"),
        (["--set", "nope"], "it must be KEY=VALUE"),
        (["--set", "parallel.microbatches=0"], "it must be an integer of at least 1"),
    ],
)
def test_bad_input_gets_one_line(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert line in said.err.splitlines()[-1] and not said.out
