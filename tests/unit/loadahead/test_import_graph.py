"""The imports between our modules, those for types and those inside functions included, make no circle."""

from __future__ import annotations

import grimp


def circles(imports: dict[str, set[str]]) -> set[str]:
    """Return the modules that lie on a circle or between two: what is left when ends are taken away again and again."""
    left = {module: set(others) for module, others in imports.items()}
    while ends := [module for module in left if not left[module] & left.keys()]:
        for module in ends:
            del left[module]
    while starts := [module for module in left if not any(module in others for others in left.values())]:
        for module in starts:
            del left[module]
    return set(left)


def test_a_circle_is_found() -> None:
    chain: dict[str, set[str]] = {"a": {"b"}, "b": {"c"}, "c": set(), "d": {"a"}}
    assert circles(chain) == set()
    assert circles(chain | {"c": {"b"}}) == {"b", "c"}


def test_there_is_no_circle_of_imports() -> None:
    graph = grimp.build_graph("loadahead")
    imports = {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}
    assert {"loadahead.api", "loadahead.cli.main", "loadahead.sim.planner.lower"} <= imports.keys()
    assert circles(imports) == set()
