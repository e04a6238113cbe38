"""README.md and docs/ are right: examples are run, commands succeed and print what is shown, keys and links are there.

A file's blocks are one script, run from top to bottom in an empty folder:

- ``python`` blocks are executed, and ``toml`` blocks are parsed.
- ``pycon`` blocks are sessions whose output is compared.
- ``console`` blocks hold commands after ``$ `` and what they print, compared too; ``...`` stands for lines left out.

``<!-- file: NAME -->`` before a block writes it to a file, and ``<!-- not executed: REASON -->`` skips it.
"""

from __future__ import annotations

import doctest
import io
import re
import shlex
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import loadahead
from loadahead.cli.main import COMMANDS, app, run
from loadahead.executor.shipped_models import SHIPPED_MODELS
from loadahead.scenarios.catalogue.hardware import ACCELERATORS
from loadahead.scenarios.catalogue.transformers import TRANSFORMERS
from loadahead.scenarios.kinds import KINDS
from loadahead.scenarios.loader import shipped_names
from loadahead.scenarios.schema import Scenario
from loadahead.sim.costs import Costs, SharedLinks, UnitCost

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.glob("*.md"))]
MOST_README_LINES = 150
# These take long, or need a GPU: their command lines are only parsed.
SLOW = {"demo", "execute", "calibrate", "validate"}

_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n+)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, with the number of its first line and the comment before it."""

    page: Path
    line: int
    language: str
    text: str
    mark: str

    @property
    def name(self) -> str:
        return f"{self.page.name} line {self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("text")) + 1
        yield Block(page, line, match["language"], match["text"], match["mark"] or "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "example"}
    for block in blocks(page):
        if block.mark.startswith("not executed: "):
            continue
        if block.mark.startswith("file: "):
            Path(block.mark.removeprefix("file: ")).write_text(block.text, encoding="utf-8")
        if block.language == "python" and not block.mark:
            exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), namespace)
        elif block.language == "pycon":
            run_session(block, namespace)
        elif block.language == "console":
            run_commands(block)
        elif block.language == "toml":
            tomllib.loads(block.text)


def run_session(block: Block, namespace: dict[str, Any]) -> None:
    """Run a session and compare what it prints."""
    test = doctest.DocTestParser().get_doctest(block.text, namespace, block.name, str(block.page), block.line - 1)
    test.globs = namespace  # later blocks see what this one defines
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=report.append, clear_globs=False)
    assert not runner.failures, "".join(report)


def run_commands(block: Block) -> None:
    """Run a block's commands; each must succeed and print the lines that are shown below it, in their order."""
    commands = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    for command in commands[1:]:
        line, _, shown = command.partition("\n")
        words = shlex.split(line, comments=True)
        if words[0] != "loadahead":
            continue
        assert words[1] in COMMANDS, f"{block.name}: {line}"
        if words[1] in SLOW:
            with redirect_stderr(io.StringIO()):
                require_known_options(block, words[1:])
            continue
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as errors:
            status = run(words[1:])
        assert status == 0, f"{block.name}: {line}: {errors.getvalue()}"
        printed = iter([found.rstrip() for found in out.getvalue().splitlines()])
        for wanted in shown.splitlines():
            if wanted.strip() not in ("", "..."):
                assert wanted.rstrip() in printed, f"{block.name}: {line} does not print {wanted!r}"


def options_of(command: str) -> set[str]:
    """Return the names of a command's options, as they are written after it."""
    from typer.main import get_command

    parameters = get_command(app).commands[command].params  # type: ignore[attr-defined]
    return {name for one in parameters for name in (*one.opts, *one.secondary_opts) if name.startswith("-")}


def require_known_options(block: Block, words: list[str]) -> None:
    known = options_of(words[0])
    for word in words[1:]:
        assert not word.startswith("-") or word in known, f"{block.name}: `{words[0]}` has no option {word}"


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= MOST_README_LINES


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for first, second in _LINK.findall(page.read_text(encoding="utf-8")):
        target, _, heading = (first or second).partition("#")
        if "://" in target:
            continue
        linked = page.parent / target if target else page
        assert linked.exists(), f"{page.name} links {target}"
        assert not heading or heading in headings(linked), f"{page.name} links {target}#{heading}"


def headings(page: Path) -> set[str]:
    """Return the names under which a page's headings are linked, as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in found}


def test_every_page_is_reached_from_the_readme() -> None:
    text = README.read_text(encoding="utf-8")
    assert [page.name for page in DOCS.glob("*.md") if f"(docs/{page.name})" not in text] == []


def missing(page: str, names: list[str]) -> list[str]:
    """Return the names that a page does not have in code type."""
    code = " ".join(re.findall(r"`[^`\n]+`", (DOCS / page).read_text(encoding="utf-8")))
    return [name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", code)]


def test_every_public_name_is_documented() -> None:
    assert missing("python.md", loadahead.__all__) == []


def test_every_command_and_option_is_documented() -> None:
    names = [name for command in COMMANDS for name in (f"loadahead {command}", *sorted(options_of(command)))]
    assert missing("command-line.md", [name for name in names if name != "--help"]) == []


def test_every_key_of_a_scenario_is_documented() -> None:
    tables = [Scenario, *KINDS.values()]
    fields = Scenario.model_fields.values()
    tables += [f.annotation for f in fields if isinstance(f.annotation, type) and issubclass(f.annotation, BaseModel)]
    assert missing("scenarios.md", [key for table in tables for key in table.model_fields]) == []


def test_what_comes_with_loadahead_is_documented() -> None:
    names = [*shipped_names(), *KINDS, *ACCELERATORS, *SHIPPED_MODELS]
    assert missing("scenarios.md", names) == []
    assert missing("models.md", [*TRANSFORMERS]) == []


def test_every_key_of_a_costs_file_is_documented() -> None:
    assert missing("costs.md", [key for part in (Costs, UnitCost, SharedLinks) for key in part.model_fields]) == []
