"""Plan files, in either of their two forms, and files of decisions."""

from __future__ import annotations

import difflib
import json
import re
from codecs import BOM_UTF8
from pathlib import Path
from typing import Any

from loadahead.scenarios.text_files import read_at_most, require_text
from loadahead.sim.errors import InputError, one_line
from loadahead.sim.ir.decisions import Decisions, DecisionsDisagree
from loadahead.sim.ir.json_form import FORMAT, load_plan, plan_from_json, save_plan
from loadahead.sim.ir.plan import Plan
from loadahead.sim.ir.text_form import plan_from_text, plan_to_text

# How a plan's text form begins.
_TEXT_START = b"loadahead-plan "
JSON_SUFFIX = ".json"
# Keys that only a plan's file has.
_PLAN_KEYS = ("format", "version", "ops", "decisions", "buffers", "policy")
# How a plan's file begins as we write it: such a file is read at once as a plan, the quicker way.
_PLAN_START = re.compile(rb'\s*\{\s*"format"\s*:\s*"' + FORMAT.encode())


def is_plan_file(argument: str | Path) -> bool:
    """Return whether an argument names a plan: a .json file, or one that holds a plan under another name.

    A JSON file of SageMaker's options is none.
    """
    path = Path(argument)
    try:
        start = read_at_most(path, 64).removeprefix(BOM_UTF8).lstrip()
    except (OSError, ValueError):
        # Else a scenario's name, or a path that its loader will complain about.
        return path.suffix == JSON_SUFFIX
    if start.startswith(_TEXT_START) or _PLAN_START.match(start):
        return True
    return (path.suffix == JSON_SUFFIX or start.startswith(b"{")) and not _has_options(path)


def _has_options(path: Path) -> bool:
    from loadahead.scenarios.smp.reading import is_options_file

    return is_options_file(path)


def read_plan(path: str | Path) -> Plan:
    """Read a plan from its JSON or its text form; raise InputError in one line on anything malformed.

    Where its operations are not what its decisions say, and are no plan that is safe to run either, raise CheckFailed:
    the rule that is broken says more.
    """
    plan, disagreement = read_operations(path)
    if disagreement is not None:
        from loadahead.sim.verify import check

        check(plan)
        raise disagreement
    return plan


def read_operations(path: str | Path) -> tuple[Plan, DecisionsDisagree | None]:
    """Read a plan as its operations say it, and return it with the error if its decisions say otherwise."""
    try:
        return _read(path), None
    except DecisionsDisagree as error:
        return error.plan, error


def _read(path: str | Path) -> Plan:
    try:
        data = read_at_most(Path(path), None).removeprefix(BOM_UTF8)
    except OSError as error:
        raise InputError(f"{path}: cannot be read as a plan file ({error.strerror}); give a plan file") from error
    if not data.startswith(_TEXT_START):
        if not _PLAN_START.match(data):
            _require_plan(Path(path), data)
        return load_plan(path)
    try:
        return plan_from_text(data.decode())
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text; give a plan file in JSON or text form") from error
    except InputError as error:
        raise error.about(str(path)) from error


def _require_plan(path: Path, data: bytes) -> None:
    """Raise InputError in one line where a file is not meant as a plan: it says what the file is."""
    give = "give a plan file, or SageMaker's options in JSON"
    require_text(path, data, give)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no JSON object; {give}")
    if not content or any(name in _PLAN_KEYS for name in content):
        return
    from loadahead.scenarios.smp.options import SCENARIO_KEYS, is_options, names_of_options

    if is_options(content):
        raise InputError(f"{path}: holds SageMaker's options and no plan; plan them first, as any scenario")
    name = next(iter(content))
    if name in SCENARIO_KEYS:
        raise InputError(
            f"{path}: is JSON and {name} is a key of a scenario, which is a TOML file; write it as TOML, with tables "
            "such as [model]"
        )
    close = difflib.get_close_matches(name, [*_PLAN_KEYS, *names_of_options()], n=1)
    meant = f"did you mean {close[0]}?" if close else give
    raise InputError(f"{path}: {one_line(name, 60)!r} is a key neither of a plan nor of SageMaker's options; {meant}")


def read_decisions(path: str | Path) -> Decisions:
    """Read the decisions of a plan file, or a JSON file of rows as a plan file has them.

    Such a file holds a list of rows, or an object with them under ``decisions``. Raise InputError in one line on
    anything malformed.
    """
    try:
        data = Path(path).read_bytes().removeprefix(BOM_UTF8)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be read as decisions ({reason}); {_DECISIONS}") from error
    if data.startswith(_TEXT_START) or _PLAN_START.match(data):
        return Decisions.of(read_plan(path))
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON text; {_DECISIONS}") from error
    if isinstance(content, dict) and content.get("format") == FORMAT:
        return Decisions.of(plan_from_json(content, str(path)))
    return Decisions.from_rows(_rows_of(content, path), f"{path}: decisions")


_DECISIONS = "give a plan file, or a JSON file with a list of decisions"


def _rows_of(content: Any, path: str | Path) -> list[Any]:
    if isinstance(content, dict) and list(content) == ["decisions"]:
        content = content["decisions"]
    if not isinstance(content, list):
        raise InputError(f"{path}: holds neither a plan nor a list of decisions; {_DECISIONS}")
    return content


def write_plan(plan: Plan, path: Path, text: bool = False) -> None:
    """Write the plan's JSON form, or its text form, to a file."""
    if text:
        path.write_text(plan_to_text(plan), encoding="utf-8")
    else:
        save_plan(plan, path)
