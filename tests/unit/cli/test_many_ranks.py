"""A step of thousands of ranks: nothing has a place for every two of them, and tables show the first and the last."""

from __future__ import annotations

import numpy as np
import pytest

from loadahead.cli.main import run
from loadahead.cli.texts import MOST_RANKS, some_rows
from loadahead.reports.tables import Grid
from loadahead.sim.costs import SharedLinks
from loadahead.sim.placement import Placement, Reach
from loadahead.sim.routes import LinkTable
from tests.support.plans import GB, uniform_costs

RANKS = 20_000


def test_what_is_kept_grows_with_the_ranks() -> None:
    placement = Placement(gpus_per_host=8)
    occupancy = placement.occupancy(RANKS)
    assert occupancy.shape == (RANKS, 3) and np.unique(occupancy[:, 0]).size == RANKS // 8
    sender = np.arange(RANKS - 1)
    reach = placement.reach(RANKS, sender, sender + 1)
    # Every eighth rank sends to the next host.
    assert np.flatnonzero(reach != Reach.HOST).tolist() == list(range(7, RANKS - 1, 8))


def test_links_grow_with_the_sends() -> None:
    ranks = 300
    changes = {"placement": Placement(gpus_per_host=8), "p2p_link": "pcie", "shared": SharedLinks(duplex=GB)}
    costs = uniform_costs(ranks, **changes)
    table = LinkTable.of(costs, ranks)
    assert len(table.sends) == 2 * (ranks - 1) and len(table.own) == 2 * ranks + len(table.sends)
    sender = np.arange(ranks - 1)
    assert np.unique(table.send(sender, sender + 1)).size == ranks - 1
    assert (table.send(sender, sender) == -1).all()


def test_a_long_table_has_its_first_and_last_rows() -> None:
    grid = Grid(headers=("a", "b"), rows=tuple((str(n), "x") for n in range(9)))
    assert some_rows(grid, 9) is grid
    assert [row[0] for row in some_rows(grid, 4).rows] == ["0", "1", "...", "7", "8"]


@pytest.mark.parametrize("more", [0, 1])
def test_that_ranks_are_left_out_is_said(capsys: pytest.CaptureFixture[str], more: int) -> None:
    ranks = MOST_RANKS + more
    assert run(["simulate", "uniform", "--set", f"parallel.pipeline_parallel_degree={ranks}"]) == 0
    text = capsys.readouterr().out
    said = f"Of {ranks} ranks the first and the last are shown (all of them: --json)."
    assert (said in text.splitlines()) == bool(more)
    assert f"\n {ranks - 1:>4}  " in text
