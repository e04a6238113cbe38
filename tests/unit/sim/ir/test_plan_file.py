"""What a plan's files say of its version and its frozen units, and which files of version 1 are still read."""

from __future__ import annotations

from typing import Any

import pytest

from loadahead.sim.errors import InputError
from loadahead.sim.ir.builder import PlanBuilder
from loadahead.sim.ir.json_form import dumps_plan, plan_from_json, plan_to_json
from loadahead.sim.ir.kinds import Kind, Role, Space
from loadahead.sim.ir.plan import Plan
from loadahead.sim.ir.text_form import plan_from_text, plan_to_text

AGAIN = "plan: is of version 1, whose SENDs do not wait for the memory they write into; plan it again"


def transfer(waits: bool = True, frozen_units: int = 0) -> Plan:
    """Two ranks: an output is sent into memory that the other rank has taken, or into whatever there is."""
    builder = PlanBuilder()
    output = builder.buffer(0, Space.DEVICE, 8, Role.OUTPUT, (0, 0, 0))
    received = builder.buffer(1, Space.DEVICE, 8, Role.BOUNDARY, (1, 0, 0))
    forward = builder.op(0, Kind.FORWARD, (0, 0, 0), allocs=[output], writes=[output])
    acquire = builder.op(1, Kind.ACQUIRE, (1, 0, 0), allocs=[received])
    after = [forward, acquire] if waits else [forward]
    send = builder.op(0, Kind.SEND_ACTIVATION, (0, 0, 0), after=after, reads=[output], nbytes=8)
    builder.op(1, Kind.RECV_ACTIVATION, (1, 0, 0), after=[send], writes=[received])
    return builder.freeze("transfer", 2, 1, {}, frozen_units=frozen_units)


def file_of(plan: Plan, **changes: Any) -> dict[str, Any]:
    return plan_to_json(plan) | changes


def test_the_head_of_a_file() -> None:
    file = plan_to_json(transfer(frozen_units=3))
    assert list(file) == [
        "format",
        "version",
        "name",
        "ranks",
        "microbatches",
        "policy",
        "frozen_units",
        "decisions",
        "buffers",
        "ops",
    ]
    assert (file["version"], file["frozen_units"]) == (2, 3)
    assert plan_to_json(transfer())["frozen_units"] == 0


def test_frozen_units_need_not_be_written() -> None:
    file = file_of(transfer())
    del file["frozen_units"]
    assert plan_from_json(file).frozen_units == 0
    assert dumps_plan(plan_from_json(file)) == dumps_plan(transfer())


def test_the_text_form_names_frozen_units_where_there_are_any() -> None:
    assert plan_to_text(transfer()).splitlines()[0] == 'loadahead-plan 2 "transfer" ranks 2 microbatches 1'
    text = plan_to_text(transfer(frozen_units=3))
    assert text.splitlines()[0] == 'loadahead-plan 2 "transfer" ranks 2 microbatches 1 frozen-units 3'
    assert plan_from_text(text).frozen_units == 3


@pytest.mark.parametrize("number", [-1, 2**31, True, "1", 1.0, None])
def test_frozen_units_are_a_whole_number(number: object) -> None:
    with pytest.raises(InputError, match=r"^plan: frozen_units = "):
        plan_from_json(file_of(transfer(), frozen_units=number))


def test_too_many_frozen_units_in_a_text() -> None:
    text = plan_to_text(transfer(frozen_units=3)).replace("frozen-units 3", f"frozen-units {2**31}")
    with pytest.raises(InputError, match=r"^plan text: frozen_units = 2147483648"):
        plan_from_text(text)
    with pytest.raises(InputError, match=r"^plan text line 1: .* may end in ' frozen-units K'$"):
        plan_from_text(text.replace("frozen-units", "frozen"))


def test_version_1_is_read_where_it_means_the_same() -> None:
    plan = plan_from_json(file_of(transfer(), version=1))
    assert dumps_plan(plan) == dumps_plan(transfer())
    text = plan_to_text(transfer())
    assert plan_to_text(plan_from_text(text.replace("loadahead-plan 2", "loadahead-plan 1"))) == text


def test_version_1_without_sends_is_read() -> None:
    builder = PlanBuilder()
    builder.op(0, Kind.OPTIMIZER_STEP)
    plan = builder.freeze("no sends", 1, 1, {})
    assert dumps_plan(plan_from_json(file_of(plan, version=1))) == dumps_plan(plan)


def test_version_1_whose_sends_do_not_wait_is_planned_again() -> None:
    with pytest.raises(InputError) as caught:
        plan_from_json(file_of(transfer(waits=False), version=1))
    assert str(caught.value) == AGAIN
    text = plan_to_text(transfer(waits=False)).replace("loadahead-plan 2", "loadahead-plan 1")
    with pytest.raises(InputError) as caught:
        plan_from_text(text)
    assert str(caught.value) == AGAIN.replace("plan:", "plan text:")


def test_version_2_whose_sends_do_not_wait_is_for_the_verifier() -> None:
    assert len(plan_from_json(file_of(transfer(waits=False)))) == 4


@pytest.mark.parametrize("version", [0, 3, -1, True, 1.0, "2", None, [2]])
def test_other_versions(version: object) -> None:
    with pytest.raises(InputError, match=r"^plan: version = .*: it must be 1 or 2$"):
        plan_from_json(file_of(transfer(), version=version))


@pytest.mark.parametrize("number", ["9" * 5000, "²"])
def test_numbers_that_are_none(number: str) -> None:
    text = plan_to_text(transfer())
    for damaged in (
        text.replace("ranks 2", f"ranks {number}"),
        text.replace("buffer 0", f"buffer {number}"),
        text.replace("#8", f"#{number}"),
        text + f"op-ids {number} 1 2 3\n",
    ):
        assert damaged != text
        with pytest.raises(InputError, match=r"^plan text"):
            plan_from_text(damaged)
