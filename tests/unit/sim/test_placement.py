"""Where processes stand, against tables worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from loadahead.sim.errors import InputError
from loadahead.sim.placement import PLACEMENT_ORDERS, Placement, Reach

# Twelve processes: 2 replicas, a pipeline of 3 ranks, 2 tensor-parallel parts. Each row says which D, P and T process
# 0, 1, 2, ... has; the order's last letter changes from one process to the next.
BY_HAND = {
    "DPT": ("000000111111", "001122001122", "010101010101"),
    "DTP": ("000000111111", "012012012012", "000111000111"),
    "PDT": ("001100110011", "000011112222", "010101010101"),
    "PTD": ("010101010101", "000011112222", "001100110011"),
    "TDP": ("000111000111", "012012012012", "000000111111"),
    "TPD": ("010101010101", "001122001122", "000000111111"),
}


@pytest.mark.parametrize("order", sorted(BY_HAND))
def test_every_order_of_d_p_and_t(order: str) -> None:
    found = Placement.model_validate({"order": order, "data": 2, "tensor": 2}).table(3)
    columns = ("".join(map(str, column.tolist())) for column in (found.d, found.p, found.t))
    assert tuple(columns) == BY_HAND[order]
    assert found.rank.tolist() == found.gpu.tolist() == list(range(12)) and set(found.host.tolist()) == {0}


def test_these_are_all_orders() -> None:
    assert sorted(BY_HAND) == sorted(PLACEMENT_ORDERS)


def test_hosts_and_switches_are_filled_one_after_the_other() -> None:
    """Ten processes on hosts of four GPUs, two or three behind a switch."""
    found = Placement(data=5, gpus_per_host=4).table(2, gpus_per_switch=2)
    assert found.host.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert found.gpu.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert found.switch.tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 0, 0]
    assert Placement(data=5, gpus_per_host=4).table(2, 3).switch.tolist() == [0, 0, 0, 1, 0, 0, 0, 1, 0, 0]
    assert found.hosts == 3
    assert found.rows()[5] == {"rank": 5, "host": 1, "gpu": 1, "switch": 0, "d": 2, "p": 1, "t": 0}


def test_how_many_gpus_of_a_host_work_for_each_rank() -> None:
    """Cluster puts a rank's parts side by side: a host of four has two ranks. Spread puts every rank on every host."""
    cluster, spread = (Placement.model_validate({"order": o, "tensor": 2, "gpus_per_host": 4}) for o in ("DPT", "TPD"))
    # Rows of host, rank, GPUs.
    assert cluster.occupancy(4).tolist() == [[0, 0, 2], [0, 1, 2], [1, 2, 2], [1, 3, 2]]
    assert spread.occupancy(4).tolist() == [[0, 0, 1], [0, 1, 1], [0, 2, 1], [0, 3, 1]]
    assert spread.table(4).by_host(4).tolist() == [[host, rank, 1] for host in (0, 1) for rank in range(4)]
    assert Placement(data=3).occupancy(2).tolist() == [[0, 0, 3], [0, 1, 3]]


def reach(placement: Placement, ranks: int) -> list[list[int]]:
    """Return the reach from every rank to every one."""
    sender, receiver = np.divmod(np.arange(ranks * ranks), ranks)
    found = placement.reach(ranks, sender, receiver)
    assert placement.is_apart(ranks) == bool(found.any())
    return found.reshape(ranks, ranks).tolist()


def test_which_sends_leave_a_host() -> None:
    """Ranks 0 and 1 on one host, 2 and 3 on another; with the pipeline outermost each rank has a host of its own."""
    stays, some, leaves = Reach.HOST, Reach.BOTH, Reach.NETWORK
    apart = reach(Placement(tensor=2, gpus_per_host=4), 4)
    assert apart == [[stays, stays, leaves, leaves]] * 2 + [[leaves, leaves, stays, stays]] * 2
    own = reach(Placement(order="PDT", data=2, gpus_per_host=2), 2)
    assert own == [[stays, leaves], [leaves, stays]]
    assert reach(Placement(data=9), 2) == [[stays, stays]] * 2 and not Placement(data=9).is_apart(2)
    # Hosts of three: replica 0 is on one host, replica 1 on two.
    assert reach(Placement(data=2, gpus_per_host=3), 2) == [[stays, some], [some, stays]]


def test_the_process_of_each_rank_in_each_lane() -> None:
    assert Placement(data=2, tensor=2).lanes(2).tolist() == [[0, 2], [1, 3], [4, 6], [5, 7]]
    spread = Placement(order="TPD", data=2, tensor=2)
    assert spread.lanes(2).tolist() == [[0, 2], [4, 6], [1, 3], [5, 7]]


def test_more_processes_than_can_be_placed() -> None:
    with pytest.raises(InputError, match="of 200000 x 2 x 1 need 400000 processes; at most 200000 can be placed"):
        Placement(data=200_000).table(2)
