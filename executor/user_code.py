"""The user's own code: functions that a scenario names, imported from the folder beside it.

Python keeps imported modules by name for the whole process, and a scenario's ``model.py`` must neither stay in the way
of another scenario's nor of a module of the caller's. :func:`importable_from` therefore puts the folder's modules into
place for as long as they are needed, and puts ``sys.path`` and ``sys.modules`` back.
"""

from __future__ import annotations

import importlib
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from loadahead.sim.errors import InputError

Modules = dict[str, ModuleType]

# Modules that scenarios have imported, by the folder they lie in: each folder's are imported once in a process.
_imported: dict[str, Modules] = {}
_INSTALLED = tuple(
    {str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)


@contextmanager
def importable_from(folder: str | None) -> Iterator[None]:
    """Let imports inside find the folder's modules first; afterwards ``sys.path`` and ``sys.modules`` are as before.

    A module of the same name that the caller imported from elsewhere is put aside for that time. Installed packages and
    the standard library are not: a folder cannot take the place of one that is imported already. ``None`` and a folder
    that is on ``sys.path`` anyway change nothing.
    """
    if folder is None or folder in sys.path:
        yield
        return
    aside = _modules_in_the_way(folder)
    for name in aside:
        del sys.modules[name]
    before = set(sys.modules)
    sys.modules.update(_imported.get(folder, {}))
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
        own = {name: m for name, m in list(sys.modules.items()) if name not in before and _lies_in(m, folder)}
        for name in own:
            del sys.modules[name]
        _imported.setdefault(folder, {}).update(own)
        sys.modules.update(aside)


def _modules_in_the_way(folder: str) -> Modules:
    """Loaded modules that are neither installed nor the folder's, and whose top-level name the folder has too."""
    try:
        names = {path.stem for path in Path(folder).iterdir() if path.suffix == ".py" or path.is_dir()}
    except OSError:
        return {}
    names -= {"loadahead", "__main__"}
    tops = {
        name
        for name in names & set(sys.modules)
        if not _lies_in(sys.modules[name], folder) and not any(_lies_in(sys.modules[name], own) for own in _INSTALLED)
    }
    return {
        name: module
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in tops and name.partition(".")[0] not in sys.stdlib_module_names
    }


def _lies_in(module: ModuleType, folder: str) -> bool:
    """Whether the module's file, or the folder of a namespace package, is below a folder."""
    paths = [getattr(module, "__file__", None), *_namespace_folders(module)]
    return any(Path(path).resolve().is_relative_to(folder) for path in paths if path)


def _namespace_folders(module: ModuleType) -> list[str]:
    try:
        return [str(path) for path in getattr(module, "__path__", ())]
    except (KeyError, TypeError):  # a namespace package whose parent was put aside
        return []


def find_function(path: str, key: str, folder: str | None) -> Callable[..., Any]:
    """The function that ``"package.module:function"`` names, looked for in the folder first.

    ``key`` is the scenario's, for the InputError that says in one line why there is no such function.
    """
    module_name, _, function_name = path.partition(":")
    if not module_name or not function_name:
        raise InputError(f'model.{key} is {path!r}; it must be "package.module:function"')
    try:
        with importable_from(folder):
            found = getattr(importlib.import_module(module_name), function_name)
    except ImportError as error:
        raise InputError(f"model.{key} is {path!r}; {module_name} cannot be imported: {one_line(error)}") from error
    except AttributeError as error:
        raise InputError(f"model.{key} is {path!r}; {module_name} has no function {function_name!r}") from error
    except Exception as error:  # whatever the user's module does when it is imported
        kind = type(error).__name__
        raise InputError(
            f"model.{key} is {path!r}; importing {module_name} fails: {kind}: {one_line(error)}"
        ) from error
    if not callable(found):
        raise InputError(f"model.{key} is {path!r}; {function_name!r} is no function")
    return found  # type: ignore[no-any-return]


def one_line(error: BaseException) -> str:
    """The error's message without line breaks, cut short; its type's name where it has none."""
    return " ".join(str(error).split())[:200] or error.__class__.__name__
