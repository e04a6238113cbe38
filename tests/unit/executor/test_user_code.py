"""A scenario's own code is imported from its folder, and the process is afterwards as it was before."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from loadahead.executor.user_code import find_function, importable_from
from loadahead.sim.errors import InputError


@pytest.fixture(autouse=True)
def nothing_stays(tmp_path: Path) -> Iterator[None]:  # tmp_path comes first: making it imports modules of pytest's
    """Whatever a test here does: ``sys.path`` and the names of loaded modules are as before it."""
    path, names = list(sys.path), set(sys.modules)
    yield
    assert sys.path == path
    assert set(sys.modules) == names


def write(folder: Path, files: dict[str, str] | None = None, **modules: str) -> str:
    """Write modules by name, and files by their paths; return the folder."""
    for name, text in ({f"{name}.py": text for name, text in modules.items()} | (files or {})).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(folder)


def test_two_folders_with_one_name(tmp_path: Path) -> None:
    one = write(tmp_path / "one", model="def build(): return 1")
    two = write(tmp_path / "two", model="def build(): return 2")
    found = [find_function("model:build", "python", folder) for folder in (one, two, one)]
    assert [build() for build in found] == [1, 2, 1]


def test_a_folders_modules_are_imported_once(tmp_path: Path) -> None:
    """So that what they keep is one thing: the model's module and the data's are the same."""
    folder = write(tmp_path, model="SEEN = []\ndef note(): SEEN.append(1); return len(SEEN)\ndef seen(): return SEEN")
    assert find_function("model:note", "python", folder)() == 1
    assert find_function("model:note", "data", folder)() == 2
    assert find_function("model:seen", "loss", folder)() == [1, 1]


def test_the_callers_module_of_that_name_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = ModuleType("model")
    part = ModuleType("model.part")
    monkeypatch.setitem(sys.modules, "model", theirs)
    monkeypatch.setitem(sys.modules, "model.part", part)
    folder = write(tmp_path, model="def build(): return 3", broken="raise ValueError('no')")
    assert find_function("model:build", "python", folder)() == 3
    assert (sys.modules["model"], sys.modules["model.part"]) == (theirs, part)
    with pytest.raises(InputError, match="importing broken fails: ValueError: no"):
        find_function("broken:build", "python", folder)
    with pytest.raises(ZeroDivisionError), importable_from(folder):
        raise ZeroDivisionError
    assert (sys.modules["model"], sys.modules["model.part"]) == (theirs, part)
    monkeypatch.undo()


def test_a_models_own_imports_come_from_its_folder(tmp_path: Path) -> None:
    """Whatever their names, in packages with and without ``__init__.py``, and at the time of the call too."""
    model = (
        "import sim\nfrom pieces.parts import PART\n"
        "def build():\n    import reports\n    return sim.SIZE, PART, reports.LATE"
    )
    packages = {"sim/__init__.py": "SIZE = 7", "pieces/parts.py": "PART = 8"}
    folder = write(tmp_path, packages, model=model, reports="LATE = 9")
    build = find_function("model:build", "python", folder)
    with importable_from(folder):
        assert build() == (7, 8, 9)


def test_installed_packages_and_the_standard_library_are_not_put_aside(tmp_path: Path) -> None:
    junk = "raise RuntimeError('imported')"
    packages = {"numpy/__init__.py": junk, "loadahead/__init__.py": junk}
    model = "import json, numpy\ndef build(): return json, numpy"
    folder = write(tmp_path, packages, json=junk, model=model)
    assert find_function("model:build", "python", folder)() == (json, np)


def test_without_a_folder_the_callers_path_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path, on_the_path="def build(): return 4")
    with pytest.raises(InputError, match="on_the_path cannot be imported"):
        find_function("on_the_path:build", "python", None)
    monkeypatch.syspath_prepend(folder)
    assert find_function("on_the_path:build", "python", None)() == 4
    assert find_function("on_the_path:build", "python", folder)() == 4  # an ordinary import, which stays
    assert sys.modules.pop("on_the_path").build() == 4
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("model", 'it must be "package.module:function"'),
        (":build", 'it must be "package.module:function"'),
        ("nowhere:build", "nowhere cannot be imported: No module named 'nowhere'"),
        ("needs:build", "needs cannot be imported: No module named 'nothing_of_that_name'"),
        ("model:built", "model has no function 'built'"),
        ("model:SIZE", "'SIZE' is no function"),
        ("fails:build", "importing fails fails: KeyError: 'x'"),
        ("typo:build", "importing typo fails: SyntaxError"),
    ],
)
def test_what_is_wrong_with_it_is_one_line(path: str, says: str, tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        model="SIZE = 1\ndef build(): return SIZE",
        needs="import nothing_of_that_name",
        fails="raise KeyError('x')",
        typo="def build(:",
    )
    with pytest.raises(InputError) as caught:
        find_function(path, "python", folder)
    assert str(caught.value).startswith(f"model.python is {path!r}; ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_installed_modules_below_the_folder_stay_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual environment often lies in the project's folder: what is installed there is not the folder's own."""
    installed = tmp_path / "venv" / "site-packages"
    write(installed, some_package="VALUE = 1")
    monkeypatch.setattr("loadahead.executor.user_code._INSTALLED", (installed,))
    monkeypatch.syspath_prepend(str(installed))
    with importable_from(write(tmp_path, model="import some_package")):
        import model  # type: ignore[import-not-found]
    assert sys.modules["some_package"] is model.some_package
    assert "model" not in sys.modules
    del sys.modules["some_package"]
    monkeypatch.undo()


def test_an_edited_module_is_imported_anew(tmp_path: Path) -> None:
    folder = write(tmp_path, model="import helper\ndef build(): return helper.VALUE", helper="VALUE = 1")
    assert find_function("model:build", "python", folder)() == 1
    write(tmp_path, helper="VALUE = 22")
    assert find_function("model:build", "python", folder)() == 22


def test_the_callers_module_of_the_same_folder_stays_the_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path, model="def build(): return 5")
    assert find_function("model:build", "python", folder)() == 5
    with monkeypatch.context() as patch:
        patch.syspath_prepend("/nowhere")
        patch.syspath_prepend(folder)
        import model

        mine = model
        sys.path.remove(folder)
        assert find_function("model:build", "python", folder)() == 5
        assert sys.modules["model"] is mine
    del sys.modules["model"]


def test_the_scenarios_folder_comes_before_others_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = write(tmp_path / "one", model="def build(): return 1")
    two = write(tmp_path / "two", model="def build(): return 2")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(two)
        patch.syspath_prepend(one)
        assert find_function("model:build", "python", two)() == 2


def test_a_module_that_exits_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="importing leaving fails: SystemExit: 0"):
        find_function("leaving:build", "python", write(tmp_path, leaving="import sys\nsys.exit(0)"))


def test_an_attribute_error_inside_a_module_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"importing odd fails: AttributeError: .*nope"):
        find_function("odd:build", "python", write(tmp_path, odd="import sys\nsys.nope"))


def test_what_a_module_appends_to_the_path_does_not_stay(tmp_path: Path) -> None:
    folder = write(tmp_path, model="import sys\nsys.path.append('/elsewhere')\ndef build(): return 1")
    assert find_function("model:build", "python", folder)() == 1
    assert "/elsewhere" not in sys.path


def test_threads_get_their_own_folders_modules(tmp_path: Path) -> None:
    text = "import time\ntime.sleep(0.01)\nimport helper\ndef build(): return helper.VALUE"
    folders = [write(tmp_path / str(n), model=text, helper=f"VALUE = {n}") for n in range(6)]
    with ThreadPoolExecutor(6) as pool:
        built = list(pool.map(lambda folder: find_function("model:build", "python", folder)(), folders))
    assert built == list(range(6))
