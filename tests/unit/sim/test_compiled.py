"""What numba compiled is kept where it may be, for just these sources, and nobody else's settings are touched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import pytest

import loadahead
from loadahead.sim import compiled

# One operation of 7 ns through the compiled engine, in a Python of its own; what it compiled is counted.
ENGINE = """
import json
import numpy as np
from loadahead.sim.engines.compiled_engine import _forward, forward
from loadahead.sim.ir.builder import PlanBuilder
from loadahead.sim.ir.kinds import Kind

builder = PlanBuilder()
builder.op(0, Kind.FORWARD, (0, 0, 0))
nothing = np.zeros(1, dtype=np.int64)
times = forward(builder.freeze("one", 1, 1, {}), np.asarray([7]), (nothing, nothing))
print(json.dumps([times.end_ns.tolist(), sum(_forward.stats.cache_misses.values())]))
"""
# Nothing can be put in a file's place any more.
FULL = """import json, os

def replace(*paths):
    raise OSError(28, "No space left on device")

os.replace = replace
"""
CALLEE = """
from loadahead.sim.compiled import compiled

@compiled
def callee(x):
    return x + 1
"""
CALLER = """
from loadahead.sim.callee import callee
from loadahead.sim.compiled import compiled

@compiled
def caller(x):
    return callee(x)
"""


def output_of(code: str, tree: Path, **environment: str) -> Any:
    """What a Python prints that imports Loadahead from this folder."""
    return json.loads(finished(started(code, tree, **environment)))


def started(code: str, tree: Path, **environment: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    # Python's own bytecode knows a source by its second and its size, which an edit of a test need not change.
    kept |= {"PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tree,
        env=kept | {"PYTHONPATH": str(tree)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


def kept_files(folder: Path) -> list[Path]:
    return list(folder.rglob("compiled-*/**/*.nbc"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with a copy of the simulator in a package of the same name."""
    package = Path(loadahead.__file__).parent
    shutil.copytree(package / "sim", tmp_path / "loadahead" / "sim", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "version.py"):
        shutil.copy(package / name, tmp_path / "loadahead" / name)
    return tmp_path


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1, f"{path.name} was rewritten: choose another line to edit"
    path.write_text(text.replace(before, after))


def test_after_an_edit_an_engine_goes_by_the_rule_that_is_said_in_another_file(tree: Path) -> None:
    """numba by itself looks at the caller's file alone, which is as it was."""
    assert output_of(ENGINE, tree) == [[7], 1]
    assert output_of(ENGINE, tree) == [[7], 0]  # it is kept
    edit(tree / "loadahead/sim/clock.py", "return max(start + duration, issued)", "return max(start + 9, issued)")
    assert output_of(ENGINE, tree) == [[9], 1]


def test_so_it_does_where_the_edited_function_is_compiled_by_itself(tree: Path) -> None:
    (tree / "loadahead/sim/callee.py").write_text(CALLEE)
    (tree / "loadahead/sim/caller.py").write_text(CALLER)
    code = "from loadahead.sim.caller import caller; print(caller(1))"
    assert output_of(code, tree) == 2
    edit(tree / "loadahead/sim/callee.py", "return x + 1", "return x + 2")
    assert output_of(code, tree) == 3


def test_an_installation_that_cannot_be_written_keeps_it_in_the_users_cache(tree: Path) -> None:
    # A file in the folder's place stops root too.
    (tree / "loadahead/sim/__pycache__").write_text("")
    cache = tree / "cache"
    assert output_of(ENGINE, tree, XDG_CACHE_HOME=str(cache)) == [[7], 1]
    assert kept_files(cache / "loadahead")
    assert output_of(ENGINE, tree, XDG_CACHE_HOME=str(cache)) == [[7], 0]


def test_where_nothing_can_be_written_it_compiles_and_keeps_nothing(tree: Path) -> None:
    (tree / "loadahead/sim/__pycache__").write_text("")
    assert output_of(ENGINE, tree, XDG_CACHE_HOME="/dev/null/none")[0] == [7]
    assert not kept_files(tree)


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_a_damaged_file_is_compiled_anew_and_replaced(suffix: str, tree: Path) -> None:
    assert output_of(ENGINE, tree) == [[7], 1]
    damaged = list((tree / "loadahead/sim/__pycache__").rglob(f"*.{suffix}"))
    assert damaged
    for path in damaged:
        path.write_bytes(b"garbage")
    assert output_of(ENGINE, tree) == [[7], 1]
    assert output_of(ENGINE, tree) == [[7], 0]


def test_a_file_that_cannot_be_kept_does_no_harm(tree: Path) -> None:
    """As on a full disk: numba's folders are there, and files in them cannot be made."""
    code = ENGINE.replace("import json", FULL)
    assert output_of(code, tree)[0] == [7]
    assert not list((tree / "loadahead/sim/__pycache__").rglob("*.nbc"))


def test_two_processes_that_compile_at_once_do_no_harm(tree: Path) -> None:
    both = [started(ENGINE, tree) for _ in range(2)]
    for process in both:
        assert json.loads(finished(process))[0] == [7]
    assert output_of(ENGINE, tree) == [[7], 0]


# ---- in this process ------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The sources are in a folder that cannot be written; the user's home is the other folder, which is returned."""
    sources, home = tmp_path / "sim", tmp_path / "home"
    sources.mkdir()
    (sources / "__pycache__").write_text("")
    (sources / "module.py").write_text("x = 1\n")
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: home)
    monkeypatch.setattr(compiled, "_SOURCES", sources)
    monkeypatch.setattr(compiled, "_warm_here", set())
    forget()
    yield home
    forget()


def forget() -> None:
    for remembered in (compiled.sources_digest, compiled.folder, compiled._marker):
        remembered.cache_clear()


def homeless() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_the_digest_is_of_names_and_contents(elsewhere: Path) -> None:
    digests = {compiled.sources_digest()}
    module = compiled._SOURCES / "module.py"
    for change in (lambda: module.write_text("x = 2\n"), lambda: module.rename(module.with_name("other.py"))):
        change()
        forget()
        digests.add(compiled.sources_digest())
    assert len(digests) == 3


def test_a_folder_in_the_users_home_is_the_second_choice(elsewhere: Path) -> None:
    assert compiled.folder() == elsewhere / ".cache/loadahead" / f"compiled-{compiled.sources_digest()}"


def test_the_folder_beside_the_sources_is_the_first(elsewhere: Path) -> None:
    (compiled._SOURCES / "__pycache__").unlink()
    assert compiled.folder() == compiled._SOURCES / "__pycache__" / f"compiled-{compiled.sources_digest()}"
    assert not elsewhere.exists()


def test_numbas_own_variable_takes_the_place_of_both(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(elsewhere / "numba"))
    assert compiled.folder() == elsewhere / "numba" / f"compiled-{compiled.sources_digest()}"
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/dev/null/none")
    compiled.folder.cache_clear()
    assert compiled.folder() is None


def test_a_user_without_a_home_gets_no_folder_and_right_answers(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", homeless)
    assert compiled.folder() is None
    assert compiled.compiled(plus_one)(41) == 42


def plus_one(x):  # type: ignore[no-untyped-def]
    return x + 1


@pytest.mark.parametrize("before", ["", "/somewhere/else"])
def test_other_packages_settings_stay_as_they_are(
    before: str, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: Any = numba.config
    monkeypatch.setattr(settings, "CACHE_DIR", before)
    assert compiled.compiled(plus_one)(1) == 2
    assert before == settings.CACHE_DIR
    assert kept_files(elsewhere)


def test_it_is_warm_once_marked_and_cold_again_with_other_sources(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not compiled.is_warm()
    compiled.mark_warm()
    monkeypatch.setattr(compiled, "_warm_here", set())  # as in the next process
    assert compiled.is_warm()
    (compiled._SOURCES / "module.py").write_text("x = 2\n")
    forget()
    assert not compiled.is_warm()


def test_where_nothing_is_kept_a_process_is_warm_once_it_has_compiled(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", homeless)
    assert not compiled.is_warm()
    compiled.mark_warm()
    assert compiled.is_warm()


def test_with_numba_switched_off_there_is_nothing_to_compile(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert compiled.is_warm()
