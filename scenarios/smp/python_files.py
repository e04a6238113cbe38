"""Finds the options in a Python file, which is read and never run.

Values are literals, names that were given literals earlier in the file, ``dict(...)``, ``int(...)``, ``float(...)``
and arithmetic on those. All else is a :class:`~loadahead.scenarios.smp.values.NotKnown`, which matters where its key
does.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping
from typing import Any

from loadahead.scenarios.smp.python_statements import DISTRIBUTION, MPI, SMP, SMP_CLASS, Found, Given, found_in
from loadahead.scenarios.smp.python_tables import settled
from loadahead.scenarios.smp.values import NotKnown
from loadahead.sim.errors import InputError, one_line

# A line of a notebook that is a command to it, e.g. "!pip install sagemaker" or "%%time".
_COMMAND = re.compile(r"^[ \t]*[!%].*$", re.MULTILINE)


def options_in(text: str, source: str) -> dict[str, Any]:
    """Return the options that a Python file's text gives, as its dictionaries have them.

    Raise InputError in one line where the text is no Python, gives no options, or gives several that differ.
    """
    tree = _parsed(text, source)
    try:
        return _options(found_in(tree), _names_read(tree), source)
    except RecursionError as error:
        raise InputError(f"{source}: is nested too deeply; give the options alone") from error


def _parsed(text: str, source: str) -> ast.Module:
    """Return a file's statements; where it is none, without a notebook's commands."""
    try:
        return _tree(text)
    except SyntaxError as error:
        without = _COMMAND.sub(_left_out, text)
        try:
            if without != text:
                return _tree(without)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            pass
        line = "" if error.lineno is None else f" line {error.lineno}"
        raise InputError(f"{source}{line}: is not Python ({one_line(error.msg, 80)}); mend it") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{source}: is not Python ({one_line(error, 80)}); mend it") from error


def _left_out(command: re.Match[str]) -> str:
    """Return a statement of as many letters before it that does nothing, so that a block is not left empty."""
    line = command.group()
    return line[: len(line) - len(line.lstrip())] + "pass"


def _tree(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an escape that is none
        return ast.parse(text)


def _names_read(tree: ast.Module) -> frozenset[str]:
    return frozenset(
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    )


def _options(found: Found, read: frozenset[str], source: str) -> dict[str, Any]:
    """Return the one set of options of a file, whose code reads these names."""
    assigned = {
        name: [Given(given.line, settled(given.value)) for given in several] for name, several in found.assigned.items()
    }
    calls = [given for given in found.distributions if _is_model_parallel(given.value)]
    named = [given for given in assigned.get(DISTRIBUTION, ()) if _is_model_parallel(given.value)]
    if calls:
        options: dict[str, Any] = _the_one(calls, DISTRIBUTION, source)
        if SMP not in read:
            _require_equal(calls[0], assigned, source)
        return options
    if found.classes:
        options = {SMP: _the_one(found.classes, f"{SMP_CLASS}(...)", source)}
    elif SMP in assigned:
        options = {name: _the_one(assigned[name], name, source) for name in (SMP, MPI) if name in assigned}
        if named:
            _require_equal(named[-1], assigned, source)
    else:
        options = {DISTRIBUTION: _the_one(named, DISTRIBUTION, source)} if named else {}
    unknown = next((given.value for given in found.distributions if isinstance(given.value, NotKnown)), None)
    if not options and unknown is not None:
        raise InputError(
            f"{source} line {unknown.line}: distribution is {one_line(unknown.text, 60)}, which only running "
            "the file would tell; write the dictionary"
        )
    if not options:
        raise InputError(
            f"{source}: has no options of SageMaker's model parallel library; it must have smp_options = "
            '{...}, or distribution={"smdistributed": {"modelparallel": ...}} in a call'
        )
    if found.instances and all(given.value == found.instances[0].value for given in found.instances):
        options |= found.instances[0].value
    return options


def _the_one(found: list[Given], what: str, source: str) -> Any:
    """Return what was given, once or several times alike."""
    first = found[0]
    for other in found[1:]:
        if other.value == first.value:
            continue
        if other.line == first.line:  # in a loop or a function, by what is changed while or after it is gone through
            raise InputError(
                f"{source} line {first.line}: {what} differs with when it is run, which only running the file would "
                "tell; write the dictionary"
            )
        raise InputError(
            f"{source}: lines {first.line} and {other.line} give {what} different values; leave the one to be taken"
        )
    value = first.value
    if isinstance(value, NotKnown):
        raise InputError(
            f"{source} line {value.line}: {what} is {one_line(value.text, 60)}, which only running the file "
            "would tell; write the dictionary"
        )
    return value


def _require_equal(distribution: Given, assigned: Mapping[str, list[Given]], source: str) -> None:
    """Raise InputError where the name ``smp_options`` has other options than a ``distribution``."""
    options = distribution.value.get(DISTRIBUTION, distribution.value)["smdistributed"]
    ours = _parameters(options.get("modelparallel")) if isinstance(options, dict) else None
    for given in assigned.get(SMP, ()):
        if _parameters(given.value) != ours:
            raise InputError(
                f"{source}: line {given.line} gives {SMP} and line {distribution.line} {DISTRIBUTION}, which differ; "
                "leave the one to be taken"
            )


def _parameters(value: Any) -> Any:
    """Return the parameters of a table that has them inside, or is them."""
    return value.get("parameters", value) if isinstance(value, dict) else value


def _is_model_parallel(value: Any) -> bool:
    """Return whether an estimator's arguments, or its ``distribution``, ask for the model parallel library."""
    if isinstance(value, dict) and DISTRIBUTION in value:
        value = value[DISTRIBUTION]
    return isinstance(value, dict) and "smdistributed" in value
