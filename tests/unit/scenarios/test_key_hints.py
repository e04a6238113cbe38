"""A key in the wrong place is told where it belongs: every key of every table, from the schema."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import loadahead as la
from loadahead.scenarios.key_hints import ALIASES
from loadahead.scenarios.loader import load_scenario
from loadahead.sim.errors import InputError

# A scenario of each kind of model.
KINDS = {"uniform": "uniform", "transformer": "four-rank", "module": "demo"}
DOCS = Path(__file__).parents[3] / "docs" / "scenarios.md"


def documented() -> dict[str, set[str]]:
    """Return each table's keys as the tables of docs/scenarios.md have them, the model's by its kind."""
    out: dict[str, set[str]] = {}
    for section in re.split(r"\n##+ ", DOCS.read_text()):
        head = re.match(r'`\[(\w+)\]`|`kind = "(\w+)"`', section)
        if head is None:
            continue
        rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
        out[head[1] or head[2]] = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    return out


def line(source: str, path: str) -> str:
    with pytest.raises(InputError) as error:
        load_scenario(source, {path: 1})
    return str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_documented_key_at_the_top_is_told_with_its_full_path(kind: str) -> None:
    tables = documented()
    keys = {f"{table}.{key}" for table in tables if table not in (*KINDS, "model") for key in tables[table]}
    keys |= {f"model.{key}" for key in tables[kind]}
    assert len(keys) > 40
    for path in sorted(keys):
        name = path.rpartition(".")[2]
        told = line(KINDS[kind], name)
        assert told.startswith(f"{KINDS[kind]}: {name}: is not a key of a scenario; did you mean ")
        assert path in told.partition("did you mean ")[2].rstrip("?").split(" or ")


def test_a_key_of_another_table() -> None:
    assert line("uniform", "parallel.d2h").endswith(
        "parallel.d2h: is not a key of a scenario; did you mean hardware.d2h?"
    )
    assert line("uniform", "model.microbatches").endswith("did you mean parallel.microbatches?")
    assert line("uniform", "offload.name").endswith("did you mean name?")


@pytest.mark.parametrize("name", ALIASES)
def test_what_other_names_stand_for_is_a_key(name: str) -> None:
    path = ALIASES[name]
    load_scenario("uniform", {path: 2})
    for wrong in (name, f"jitter.{name}"):
        assert f"did you mean {path}?" in line("uniform", wrong)


def test_a_misspelled_key_of_its_own_table_is_found_there_as_before() -> None:
    assert "; did you mean forward? Allowed: kind, units_per_stage" in line("uniform", "model.foward")
    assert "; allowed: offload_activations, " in line("uniform", "offload.quite_another")


def test_a_sweep_names_the_axis() -> None:
    with pytest.raises(InputError, match=r"did you mean horizon \(offload.activation_loading_horizon\)\?"):
        la.sweep("uniform", {"activation_loading_horizon": [1, 2]})
    with pytest.raises(InputError, match=r"offload.horizon: .* did you mean offload.activation_loading_horizon\?"):
        la.sweep("uniform", {"offload.horizon": [1, 2]})
    with pytest.raises(InputError, match=r"foward: .* did you mean forward\?"):
        la.sweep("uniform", {"model.foward": ["1 ms"]})
