"""No text of the library names an option or a command: these are the command line's alone."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import typer

import loadahead
from loadahead.cli.main import COMMANDS, app
from tests.support.sources import texts

ROOT = Path(loadahead.__file__).parent
LIBRARY = [
    path
    for package in ("", "sim", "executor", "scenarios", "reports", "sweeps", "validation")
    for path in sorted((ROOT / package).glob("*.py") if not package else (ROOT / package).rglob("*.py"))
]


def option_names() -> set[str]:
    """Return every option of every command, e.g. --set and -o."""
    group = typer.main.get_command(app)
    commands = [group, *group.commands.values()]  # type: ignore[attr-defined]
    return {
        name
        for command in commands
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    }


# Other programs' commands, which may have options of the same names.
OTHERS = ("jupyter nbconvert --to script",)


def named_in(text: str) -> list[str]:
    """Return the options and commands of ours that a text names."""
    for command in OTHERS:
        text = text.replace(command, "")
    options = re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text)
    commands = re.findall(rf"loadahead (?:{'|'.join(COMMANDS)})\b", text)
    return [*(option for option in options if option in option_names()), *commands]


def test_the_options_are_found() -> None:
    assert {"--set", "--costs", "-o", "--fresh", "--no-check", "--set-range"} <= option_names()
    assert named_in("give it with --costs") == ["--costs"]
    assert named_in("give a file made by `loadahead plan -o`") == ["-o", "loadahead plan"]
    assert named_in("the -offset of a-o --ink") == []


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_library_text_names_an_option_or_a_command(path: Path) -> None:
    found = [(line, name) for line, text in texts(ast.parse(path.read_text())) for name in named_in(text)]
    assert found == []


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_library_prints_nothing(path: Path) -> None:
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert calls == []
