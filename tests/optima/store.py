"""What was proven of each instance, as ``store.json`` keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("store.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What is known of one instance.

    Attributes:
        digest: that of the instance this was found for.
        status: ``"OPTIMAL"``, or ``"FEASIBLE"`` where no better plan was found and ``bound_ns`` is less.
        optimum_ns: the step time of the best plan that was found.
        bound_ns: no plan takes less.
        keep_all_ns, keep_all_boundary_bytes: step time and largest peak where all stay, whatever the cap.
        without_send_queue_ns: the optimum where a rank's SENDs need not wait for each other; None: it was not asked.
        decisions: on the boundaries that leave in a best plan, as a plan file has them.
        seconds: what the search took.
        solver: its name and version.
    """

    digest: str
    status: str
    optimum_ns: int
    bound_ns: int
    keep_all_ns: int
    keep_all_boundary_bytes: int
    without_send_queue_ns: int | None
    decisions: tuple[Mapping[str, int], ...]
    seconds: float
    solver: str


def read() -> dict[str, Stored]:
    """What is stored, by the instances' names; nothing where there is no store."""
    if not PATH.exists():
        return {}
    rows: dict[str, dict[str, Any]] = json.loads(PATH.read_text("utf-8"))
    return {name: Stored(**row | {"decisions": tuple(row["decisions"])}) for name, row in rows.items()}


def write(stored: Mapping[str, Stored]) -> None:
    """Store these, a line for each instance."""
    lines = [f"{json.dumps(name)}: {json.dumps(asdict(one))}" for name, one in stored.items()]
    PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
