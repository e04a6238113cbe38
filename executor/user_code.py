"""The user's own code: functions that a scenario names, imported from the folder beside it.

Python keeps imported modules by name for the whole process, and a scenario's ``model.py`` must neither stay in the way
of another scenario's nor of a module of the caller's. :func:`importable_from` therefore puts the folder's modules into
place for as long as they are needed, and puts ``sys.path`` and ``sys.modules`` back.
"""

from __future__ import annotations

import importlib
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from loadahead.sim.errors import InputError, one_line

Modules = dict[str, ModuleType]

_INSTALLED = tuple({Path(sysconfig.get_path(n)).resolve() for n in ("stdlib", "platstdlib", "purelib", "platlib")})
# What a folder cannot take the place of, whatever it holds.
_OWN_NAMES = ("loadahead", "__main__")
# sys.path and sys.modules are the whole process': one thread at a time may change them.
_lock = threading.RLock()


@dataclass(slots=True)
class _Folder:
    """The modules that were imported from one folder, and how their files looked then."""

    modules: Modules = field(default_factory=dict)
    files: dict[str, tuple[int, int]] = field(default_factory=dict)

    def keep(self, modules: Modules) -> None:
        self.modules.update(modules)
        paths = [getattr(module, "__file__", None) for module in modules.values()]
        self.files.update({path: _state(path) for path in paths if path})

    def is_stale(self) -> bool:
        return any(_state(path) != state for path, state in self.files.items())


# Each folder's modules are imported once in a process, and again when one of their files has changed.
_folders: dict[str, _Folder] = {}


@contextmanager
def importable_from(folder: str | None) -> Iterator[None]:
    """Let imports inside find the folder's modules first; afterwards ``sys.path`` and ``sys.modules`` are as before.

    A module of the same name that the caller imported from elsewhere is put aside for that time. Installed packages and
    the standard library are not: a folder cannot take the place of one that is imported already. ``None`` changes
    nothing. Where the folder stands first on ``sys.path`` anyway, what is imported from it stays imported.
    """
    if folder is None:
        yield
        return
    folder = str(Path(folder).resolve())
    with _lock:
        path, stays = list(sys.path), _is_first(folder)
        aside = _modules_in_the_way(folder)
        for name in aside:
            del sys.modules[name]
        before = set(sys.modules)
        known = _folders.setdefault(folder, _Folder())
        if known.is_stale():
            known = _folders[folder] = _Folder()
        for name, module in known.modules.items():
            sys.modules.setdefault(name, module)
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
        try:
            yield
        finally:
            sys.path[:] = path
            own = {n: m for n, m in list(sys.modules.items()) if n not in before and _is_of(n, m, folder)}
            if not stays:
                for name in own:
                    del sys.modules[name]
                known.keep(own)
            sys.modules.update(aside)


def _is_first(folder: str) -> bool:
    return bool(sys.path) and str(Path(sys.path[0]).resolve()) == folder


def _modules_in_the_way(folder: str) -> Modules:
    """Return loaded modules that are neither installed nor the folder's, and whose top-level name the folder has."""
    try:
        names = {path.stem for path in Path(folder).iterdir() if path.suffix == ".py" or path.is_dir()}
    except OSError:
        return {}
    names -= {*_OWN_NAMES, *sys.stdlib_module_names}
    tops = {
        name
        for name in names & set(sys.modules)
        if not _lies_in(sys.modules[name], Path(folder)) and not _is_installed(sys.modules[name])
    }
    return {name: module for name, module in list(sys.modules.items()) if name.partition(".")[0] in tops}


def _is_of(name: str, module: ModuleType, folder: str) -> bool:
    """Return whether a module is the folder's own: a virtual environment or Loadahead itself may lie below it."""
    own = name.partition(".")[0] not in _OWN_NAMES
    return own and _lies_in(module, Path(folder)) and not _is_installed(module)


def _is_installed(module: ModuleType) -> bool:
    return any(_lies_in(module, folder) for folder in _INSTALLED)


def _lies_in(module: ModuleType, folder: Path) -> bool:
    """Return whether the module's file, or the folder of a namespace package, is below a folder."""
    paths = [getattr(module, "__file__", None), *_namespace_folders(module)]
    return any(Path(path).resolve().is_relative_to(folder) for path in paths if path)


def _namespace_folders(module: ModuleType) -> list[str]:
    try:
        return [str(path) for path in getattr(module, "__path__", ())]
    except (KeyError, TypeError):  # a namespace package whose parent was put aside
        return []


def _state(path: str) -> tuple[int, int]:
    """Return a file's time of change and size; zeros where there is none."""
    try:
        stat = Path(path).stat()
    except OSError:
        return 0, 0
    return stat.st_mtime_ns, stat.st_size


def find_function(path: str, key: str, folder: str | None) -> Callable[..., Any]:
    """Return the function that ``"package.module:function"`` names, looked for in the folder first.

    ``key`` is the scenario's, for the InputError that says in one line why there is no such function.
    """
    module_name, _, function_name = path.partition(":")
    if not module_name or not function_name:
        raise InputError(f'model.{key} is {path!r}; it must be "package.module:function"')
    try:
        with importable_from(folder):
            module = importlib.import_module(module_name)
            function = getattr(module, function_name, None)
    except ImportError as error:
        raise InputError(f"model.{key} is {path!r}; {module_name} cannot be imported: {one_line(error)}") from error
    except (Exception, SystemExit) as error:  # whatever the user's module does when it is imported
        kind = type(error).__name__
        reason = f"importing {module_name} fails: {kind}: {one_line(error)}"
        raise InputError(f"model.{key} is {path!r}; {reason}") from error
    if function is None:
        raise InputError(f"model.{key} is {path!r}; {module_name} has no function {function_name!r}")
    if not callable(function):
        raise InputError(f"model.{key} is {path!r}; {function_name!r} is no function")
    return function  # type: ignore[no-any-return]
