"""Plan files on the command line, in either form."""

from __future__ import annotations

from pathlib import Path

from loadahead.sim.errors import InputError
from loadahead.sim.ir.json_form import load_plan, save_plan
from loadahead.sim.ir.plan import Plan
from loadahead.sim.ir.text_form import plan_from_text, plan_to_text

# How a plan's text form begins.
_TEXT_START = b"loadahead-plan "
JSON_SUFFIX = ".json"


def is_plan_file(argument: str) -> bool:
    """Whether a SCENARIO|PLAN argument names a plan: a .json file, or one that holds a plan under another name."""
    path = Path(argument)
    if path.suffix == JSON_SUFFIX:
        return True
    try:
        with path.open("rb") as file:
            start = file.read(64).lstrip()
    except OSError:
        return False  # a scenario's name, or a path that its loader will complain about
    return start.startswith((b"{", _TEXT_START))


def read_plan(path: str | Path) -> Plan:
    """A plan from its JSON or its text form; InputError in one line on anything malformed."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read as a plan file ({error.strerror}); give a file made by `loadahead plan -o`"
        ) from error
    if not data.startswith(_TEXT_START):
        return load_plan(path)
    try:
        return plan_from_text(data.decode())
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text; give a file made by `loadahead plan --text -o`") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def write_plan(plan: Plan, path: Path, text: bool = False) -> None:
    """Write the JSON form, or the text form."""
    if text:
        path.write_text(plan_to_text(plan), encoding="utf-8")
    else:
        save_plan(plan, path)
