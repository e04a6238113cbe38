"""What must hold of the archives: python check_dist.py SDIST WHEEL WHEEL_FROM_SDIST."""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

# Packages of loadahead; at the top of an archive they would be there a second time.
PACKAGES = ("cli", "executor", "reports", "scenarios", "sim", "sweeps", "validation")
SCENARIOS = ("demo", "uniform", "two-rank", "four-rank", "slow-link", "no-help", "shared-switch")
# What the page is made of: HTML, CSS and JavaScript, read as the package's data.
WEB = Path(__file__).parents[1] / "reports" / "web"
# Imported where a report or an export is made, and not before.
IMPORTED_LATE = ("jinja2", "matplotlib", "perfetto", "pyarrow")
GENERATED = ("loadahead/reports/measured/", "reports/measured/", "out/", "dist/", "build/")


def files_of_wheel(path: Path) -> list[str]:
    return sorted(zipfile.ZipFile(path).namelist())


def files_of_sdist(path: Path) -> list[str]:
    """Names below the archive's one folder."""
    with tarfile.open(path) as archive:
        members = archive.getmembers()
    links = [member.name for member in members if member.issym() or member.islnk()]
    assert not links, f"{path.name} holds the link {links[0]}"
    files = [PurePosixPath(member.name) for member in members if member.isfile()]
    assert len({name.parts[0] for name in files}) == 1, f"{path.name} holds more than one folder"
    return sorted(str(PurePosixPath(*name.parts[1:])) for name in files)


def check_content(archive: str, files: list[str]) -> None:
    assert len(set(files)) == len(files), f"{archive} holds a file twice"
    for package in PACKAGES:
        assert f"loadahead/{package}/__init__.py" in files, f"{archive} lacks loadahead.{package}"
        twice = [name for name in files if name.startswith(f"{package}/")]
        assert not twice, f"{archive} holds {twice[0]} beside loadahead/{twice[0]}"
    for scenario in SCENARIOS:
        assert f"loadahead/scenarios/{scenario}.toml" in files, f"{archive} lacks the scenario {scenario}"
    for path in filter(Path.is_file, WEB.rglob("*")):
        asset = f"loadahead/reports/web/{path.relative_to(WEB).as_posix()}"
        assert asset in files, f"{archive} lacks {asset}"
    strays = [
        name for name in files if name.startswith(GENERATED) or {"__pycache__", "node_modules"} & {*name.split("/")}
    ]
    assert not strays, f"{archive} holds {strays[0]}"


def required(wheel: Path) -> set[str]:
    """Names of what an installation without extras brings along."""
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    lines = archive.read(metadata).decode().splitlines()
    wanted = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    return {re.split(r"[^\w.-]", line)[0] for line in wanted if "extra ==" not in line}


def main(sdist: Path, wheel: Path, again: Path) -> None:
    wheel_files, sdist_files = files_of_wheel(wheel), files_of_sdist(sdist)
    check_content(wheel.name, wheel_files)
    check_content(sdist.name, sdist_files)
    tops = {name.partition("/")[0] for name in wheel_files}
    info = {top for top in tops if top.endswith(".dist-info")}
    assert len(info) == 1 and tops - info == {"loadahead"}, f"{wheel.name} installs {', '.join(sorted(tops))}"
    for name in ("pyproject.toml", "README.md", "LICENSE", "Makefile", "tests/unit/loadahead/test_imports.py"):
        assert name in sdist_files, f"{sdist.name} lacks {name}"
    undeclared = sorted(set(IMPORTED_LATE) - required(wheel))
    assert not undeclared, f"{wheel.name} does not require {undeclared[0]}"
    differing = set(wheel_files) ^ set(files_of_wheel(again))
    assert not differing, f"the wheel and that of the sdist differ in {sorted(differing)[0]}"
    print(f"{wheel.name} ({len(wheel_files)} files) and {sdist.name} ({len(sdist_files)}) hold what they must")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
