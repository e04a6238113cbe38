"""Bandwidth sharing: cases worked out by hand, and a fluid model written apart from the one in use."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadahead.sim.costs import Costs, SharedLinks
from loadahead.sim.engines import ENGINES, find_engine, fluid, simulate
from loadahead.sim.errors import InputError
from loadahead.sim.ir.builder import PlanBuilder
from loadahead.sim.ir.kinds import Kind
from loadahead.sim.ir.plan import Plan
from loadahead.sim.links import max_min
from loadahead.sim.routes import LinkTable
from tests.support.fluid import Group, finish_times, water_fill
from tests.support.plans import GB, shared_links, uniform_costs

engines = pytest.mark.parametrize("engine", sorted(ENGINES))


def _costs(ranks: int, d2h: int = GB, h2d: int = GB, latency: int = 0, **shared: int) -> Costs:
    return uniform_costs(
        ranks,
        d2h_bandwidth=d2h,
        h2d_bandwidth=h2d,
        d2h_latency_ns=latency,
        h2d_latency_ns=latency,
        shared=SharedLinks(**shared),
    )


def _rates(costs: Costs, *flows: str) -> dict[str, int]:
    """Rates of flows named "d0" (D2H of rank 0), "h1", ... all at once."""
    links = {2 * int(flow[1:]) + (flow[0] == "h"): flow for flow in flows}
    table = LinkTable.of(costs, len(costs.units))
    return {links[link]: rate for link, rate in max_min(table, sorted(links)).items()}


def _copies(ranks: int, *copies: tuple[str, int]) -> Plan:
    """Copies of so many bytes; each waits for its queue only."""
    builder = PlanBuilder()
    for flow, nbytes in copies:
        rank = int(flow[1:])
        builder.op(rank, Kind.PREFETCH if flow[0] == "h" else Kind.OFFLOAD, (rank, 0, 0), nbytes=nbytes)
    return builder.freeze("copies", ranks, 1, {})


def _ends(engine: str, plan: Plan, costs: Costs) -> list[int]:
    ends: list[int] = find_engine(engine)(plan, costs).end_ns.tolist()
    return ends


def test_two_equal_flows_get_half_each() -> None:
    assert _rates(_costs(2, gpus_per_switch=2, uplink_d2h=GB), "d0", "d1") == {"d0": GB // 2, "d1": GB // 2}
    assert _rates(_costs(1, duplex=GB), "d0", "h0") == {"d0": GB // 2, "h0": GB // 2}


def test_unit_links_one_shared_uplink_and_a_duplex_cap() -> None:
    """The uplink is full at .5 each; rank 0's duplex cap of 1.4 leaves .9 for its H2D, whose own uplink is free."""
    costs = _costs(2, gpus_per_switch=2, uplink_d2h=GB, uplink_h2d=GB, duplex=14 * GB // 10)
    assert _rates(costs, "d0", "d1", "h0") == {"d0": GB // 2, "d1": GB // 2, "h0": 9 * GB // 10}


def test_weights_share_in_proportion_and_what_one_cannot_use_goes_to_the_others() -> None:
    costs = _costs(1, duplex=12 * GB // 10, d2h_weight=2)
    assert _rates(costs, "d0", "h0") == {"d0": 8 * GB // 10, "h0": 4 * GB // 10}
    # A cap of 1.8 at 2:1 would be 1.2 and .6, but the D2H's own link ends at 1.
    assert _rates(_costs(1, duplex=18 * GB // 10, d2h_weight=2), "d0", "h0") == {"d0": GB, "h0": 8 * GB // 10}


def test_the_measured_a100_out_and_in_at_once() -> None:
    """24.8 GB/s alone; both at once gave 24 out and 11 in: a duplex cap of 35 shared 24:11."""
    costs = _costs(1, 24_800_000_000, 24_800_000_000, duplex=35 * GB, d2h_weight=24, h2d_weight=11)
    assert _rates(costs, "d0", "h0") == {"d0": 24 * GB, "h0": 11 * GB}
    assert _rates(costs, "d0") == {"d0": 24_800_000_000}


def test_switches_are_apart_and_host_memory_is_for_all() -> None:
    costs = _costs(4, gpus_per_switch=2, uplink_d2h=GB)
    assert set(_rates(costs, "d0", "d1", "d2").items()) == {("d0", GB // 2), ("d1", GB // 2), ("d2", GB)}
    costs = _costs(4, host_memory_bandwidth=GB)
    assert set(_rates(costs, "d0", "d1", "h2", "h3").values()) == {GB // 4}


def test_thirds_are_rounded_down_and_nothing_stands_still() -> None:
    assert set(_rates(_costs(3, host_memory_bandwidth=GB), "d0", "d1", "d2").values()) == {GB // 3}
    assert set(_rates(_costs(3, host_memory_bandwidth=2), "d0", "d1", "d2").values()) == {1}


@engines
def test_a_flow_that_joins_in_the_middle(engine: str) -> None:
    """Rank 0: 1,000 B alone till 400 ns, then .5 B/ns. Rank 1's 100 B D2H waits for a send of 400 ns.

    At 400 ns 600 B are left; rank 1's 100 B take 200 ns at half speed, until 600, when 500 B are left: until 1,100.
    """
    builder = PlanBuilder()
    builder.op(0, Kind.OFFLOAD, (0, 0, 0), nbytes=1000)
    send = builder.op(1, Kind.SEND_ACTIVATION, (1, 0, 0), nbytes=1)
    builder.op(1, Kind.OFFLOAD, (1, 0, 0), after=[send], nbytes=100)
    costs = _costs(2, gpus_per_switch=2, uplink_d2h=GB).model_copy(update={"p2p_latency_ns": 400})
    assert _ends(engine, builder.freeze("joins", 2, 1, {}), costs) == [1100, 400, 600]


@engines
def test_latency_takes_no_bandwidth(engine: str) -> None:
    """Copies of 100 B with 50 ns latency; the first queue's second copy is in its latency from 250 to 300 ns.

    Both flow from 50 at half speed and end at 250. Rank 0's second flows alone from 300 till 400.
    """
    costs = _costs(2, latency=50, gpus_per_switch=2, uplink_d2h=GB)
    assert _ends(engine, _copies(2, ("d0", 100), ("d1", 100), ("d0", 100)), costs) == [250, 250, 400]
    # Two queued on rank 0 against one long one on rank 1: it has the link for itself while rank 0 is in its latency.
    # 50-250 both at half speed (d1 100 of 300 done), 250-300 d1 alone (150), 300-500 halves (250), d1 alone till 550.
    assert _ends(engine, _copies(2, ("d0", 100), ("d1", 300), ("d0", 100)), costs) == [250, 550, 500]


@engines
def test_a_copy_alone_takes_its_bytes_over_its_link_and_one_without_bytes_its_latency(engine: str) -> None:
    costs = _costs(2, d2h=3 * GB, latency=7, duplex=4 * GB, host_memory_bandwidth=4 * GB)
    plan = _copies(2, ("d0", 10), ("d0", 0), ("d0", 1))
    assert _ends(engine, plan, costs) == [11, 18, 26]  # 10/3 and 1/3 ns are rounded up
    assert (costs.durations(plan) == [11, 7, 8]).all()


@engines
def test_a_cap_below_a_link_is_always_in_the_way(engine: str) -> None:
    timeline = simulate(_copies(1, ("d0", 100)), _costs(1, duplex=GB // 4), engine)
    assert timeline.end_ns.tolist() == [400]
    assert timeline.header["contended"] == ["duplex of rank 0"]
    assert timeline.header["warnings"] == []


@engines
def test_huge_copies_are_the_reference_engines(engine: str) -> None:
    """10 GB at half of 1 GB/s: the work of 10**19 leaves int64."""
    timeline = simulate(_copies(2, ("d0", 10 * GB), ("d1", 10 * GB)), _costs(2, host_memory_bandwidth=GB), engine)
    assert timeline.end_ns.tolist() == [20 * GB, 20 * GB]
    said = ["times are the reference engine's (simpy): a copy has more than 9205357638 bytes"]
    assert timeline.header["warnings"] == (said if engine == "compiled" else [])


@engines
def test_what_cannot_end_within_int64_is_refused(engine: str) -> None:
    with pytest.raises(InputError, match="durations on shared links add up to"):
        find_engine(engine)(_copies(1, ("d0", 2**53)), _costs(1, duplex=1))


def _model(costs: Costs) -> tuple[dict[str, Fraction], dict[str, int], list[Group]]:
    """The costs for :mod:`tests.support.fluid`, spelled out per role."""
    ranks, shared = len(costs.units), costs.shared or SharedLinks()
    flows = [f"{way}{rank}" for rank in range(ranks) for way in "dh"]
    own = {f: Fraction(costs.d2h_bandwidth if f[0] == "d" else costs.h2d_bandwidth) for f in flows}
    weight = {f: shared.d2h_weight if f[0] == "d" else shared.h2d_weight for f in flows}
    caps: list[tuple[int | None, list[str]]] = [(shared.host_memory_bandwidth, flows)]
    caps += [(shared.duplex, [f"d{rank}", f"h{rank}"]) for rank in range(ranks)]
    per = shared.gpus_per_switch or 1
    for first in range(0, ranks, per):
        behind = range(first, min(first + per, ranks))
        caps += [(shared.uplink_d2h, [f"d{r}" for r in behind]), (shared.uplink_h2d, [f"h{r}" for r in behind])]
    return own, weight, [Group(flows=frozenset(f), capacity=Fraction(c)) for c, f in caps if c is not None]


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_rates_are_those_of_water_filling(data: st.DataObject) -> None:
    ranks = data.draw(st.integers(1, 5))
    rate = st.sampled_from([GB, GB // 3, 10 * GB, 100_000_000])
    costs = _costs(ranks, data.draw(rate), data.draw(rate)).model_copy(update={"shared": data.draw(shared_links())})
    own, weight, groups = _model(costs)
    flows = data.draw(st.lists(st.sampled_from(sorted(own)), min_size=1, unique=True))
    expected = water_fill({flow: own[flow] for flow in flows}, weight, groups)
    found = _rates(costs, *flows)
    # Each settling rounds what is left of a group by less than a byte/s per flow in it.
    for flow in flows:
        assert abs(found[flow] - expected[flow]) <= 1 + 2 * ranks * max(weight.values())


# Divides by 2 to 8, so that the first shares of up to four ranks are whole numbers.
WHOLE = 840_000_000


@engines
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_copies_end_when_the_fluid_model_says(engine: str, data: st.DataObject) -> None:
    """All copies begin at once; each change of rates may round an end by a nanosecond."""
    ranks = data.draw(st.integers(1, 4))
    cap = st.none() | st.integers(1, 12).map(lambda n: n * WHOLE)
    per: Any = data.draw(st.none() | st.integers(1, 4))
    shared = SharedLinks(
        gpus_per_switch=per,
        duplex=data.draw(cap),
        host_memory_bandwidth=data.draw(cap),
        uplink_d2h=data.draw(cap) if per else None,
        uplink_h2d=data.draw(cap) if per else None,
    )
    costs = _costs(ranks, 4 * WHOLE, 3 * WHOLE).model_copy(update={"shared": shared})
    own, weight, groups = _model(costs)
    flows = data.draw(st.lists(st.sampled_from(sorted(own)), min_size=1, unique=True))
    sizes = {flow: data.draw(st.integers(1, 10**6)) for flow in flows}
    plan = _copies(ranks, *sizes.items())
    work = {flow: Fraction(nbytes * 10**9) for flow, nbytes in sizes.items()}
    expected = finish_times(dict.fromkeys(flows, Fraction(0)), work, own, weight, groups)
    for end, flow in zip(_ends(engine, plan, costs), sizes, strict=True):
        assert -1 <= end - expected[flow] <= len(flows) + 1


def test_the_quick_pass_stands_where_nothing_is_contended(monkeypatch: pytest.MonkeyPatch) -> None:
    """One rank after the other uses the uplink; only when both do are flows followed."""
    followed = []
    monkeypatch.setattr(fluid, "run_flows", lambda *_: followed.append(1) or (None, None))
    builder = PlanBuilder()
    first = builder.op(0, Kind.OFFLOAD, (0, 0, 0), nbytes=100)
    builder.op(1, Kind.OFFLOAD, (1, 0, 0), after=[first], nbytes=100)
    costs = _costs(2, gpus_per_switch=2, uplink_d2h=GB)
    assert _ends("compiled", builder.freeze("turns", 2, 1, {}), costs) == [100, 200]
    assert not followed
    find_engine("compiled")(_copies(2, ("d0", 100), ("d1", 100)), costs)
    assert followed
