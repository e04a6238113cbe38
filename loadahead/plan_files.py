"""Plan files, in either of their two forms."""

from __future__ import annotations

from pathlib import Path

from loadahead.sim.errors import InputError
from loadahead.sim.ir.json_form import load_plan, save_plan
from loadahead.sim.ir.plan import Plan
from loadahead.sim.ir.text_form import plan_from_text, plan_to_text

# How a plan's text form begins.
_TEXT_START = b"loadahead-plan "
JSON_SUFFIX = ".json"


def is_plan_file(argument: str | Path) -> bool:
    """Return whether an argument names a plan: a .json file, or one that holds a plan under another name."""
    path = Path(argument)
    if path.suffix == JSON_SUFFIX:
        return True
    try:
        with path.open("rb") as file:
            start = file.read(64).lstrip()
    except (OSError, ValueError):
        return False  # a scenario's name, or a path that its loader will complain about
    return start.startswith((b"{", _TEXT_START))


def read_plan(path: str | Path) -> Plan:
    """Read a plan from its JSON or its text form; raise InputError in one line on anything malformed."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read as a plan file ({error.strerror}); give a plan file") from error
    if not data.startswith(_TEXT_START):
        return load_plan(path)
    try:
        return plan_from_text(data.decode())
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text; give a plan file in JSON or text form") from error
    except InputError as error:
        raise error.about(str(path)) from error


def write_plan(plan: Plan, path: Path, text: bool = False) -> None:
    """Write the plan's JSON form, or its text form, to a file."""
    if text:
        path.write_text(plan_to_text(plan), encoding="utf-8")
    else:
        save_plan(plan, path)
