"""Makes the page's section on a tuned plan: rank by rank what leaves and why, and which boundaries these are."""

from __future__ import annotations

from loadahead.reports.page.markup import element, joined, table
from loadahead.reports.page.outline import Section, section
from loadahead.reports.speed import format_percent
from loadahead.reports.tables import NOTHING, Grid
from loadahead.reports.tuning_facts import RankFacts, TuningFacts
from loadahead.sim.units import format_bytes, format_duration


def tuned_section(tuning: TuningFacts | None) -> Section:
    """Return what leaves each rank, what keeping all would need there, how busy its links are, and what waits."""
    key, title = "tuned", "What leaves, and why"
    if tuning is None or tuning.reasons is None or not tuning.chosen.offloaded:
        return section(key, title)
    reasons = tuning.reasons
    which = element("p", f"Which leave: {reasons.which_leave}.") if reasons.which_leave else ""
    what = "boundaries" if tuning.of_boundaries else "device memory"
    note = element(
        "p",
        f"All kept, tuned: the peak of {what} with every boundary kept, and in this plan. Copies: the share of the "
        "step in which the link out and the link back run. Waits: how long compute waits for copies.",
        class_="note",
    )
    return section(key, title, joined(table(reasons_grid(tuning, reasons.ranks), title), note, which))


def reasons_grid(tuning: TuningFacts, ranks: tuple[RankFacts, ...]) -> Grid:
    """Return the ranks as a table; peaks are of what the budget limits."""
    with_horizon = any(rank.horizon_waits_ns is not None for rank in ranks)
    ends = ("waits", "waits, best horizon") if with_horizon else ("waits",)
    headers = ("rank", "leave", "bytes", "all kept", "tuned", "away", "copies out", "back", *ends)
    rows = []
    for rank in ranks:
        before, now = rank.keep_all_device_bytes, rank.peak_device_bytes
        if tuning.of_boundaries:
            before, now = rank.keep_all_boundary_bytes, rank.peak_boundary_bytes
        waits = NOTHING if rank.horizon_waits_ns is None else format_duration(rank.horizon_waits_ns)
        rows.append(
            (
                str(rank.rank),
                f"{rank.leave} of {rank.boundaries}",
                format_bytes(rank.leave_bytes),
                format_bytes(before),
                format_bytes(now),
                _away(rank),
                _share(rank.d2h_ns, tuning.chosen.step_time_ns),
                _share(rank.h2d_ns, tuning.chosen.step_time_ns),
                format_duration(rank.waits_ns),
                *((waits,) if with_horizon else ()),
            )
        )
    return Grid(headers=headers, rows=tuple(rows), text_columns=frozenset())


def _away(rank: RankFacts) -> str:
    if rank.away_ns is None:
        return NOTHING
    least, most = map(format_duration, rank.away_ns)
    return least if least == most else f"{least} to {most}"


def _share(part: int, whole: int) -> str:
    return format_percent(part / whole) if whole else NOTHING
