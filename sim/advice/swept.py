"""What a sweep's rows say of horizons: nothing is looked at but what was swept, and the same step with all kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadahead.sim.advice.within import Limits, limit_ns, slower, slower_text
from loadahead.sim.step_metrics import PEAK_DEVICE, STEP_TIME, SweepRow
from loadahead.sim.units import counted, format_bytes, part_of


@dataclass(frozen=True, slots=True, kw_only=True)
class SweptAdvice:
    """Says which swept horizon needs the least device memory of those whose step is as short as without offloading.

    Attributes:
        axes: the values of the sweep's other axes.
        keep_all: the same step with everything kept on the device.
        best: the row that is advised; None where no swept horizon saves memory in a step that is short enough.
        swept: how many horizons were swept.
        least_step_time_ns: the shortest step of those that save memory; None where none does.
        missing_host_bytes: what the host lacks at the least for one that saves memory in a step that is short enough;
            None where there is no such one.
    """

    axes: Mapping[str, Any]
    keep_all: SweepRow
    best: SweepRow | None
    swept: int
    least_step_time_ns: int | None
    missing_host_bytes: int | None = None

    @property
    def saved_bytes(self) -> int | None:
        """Return what the advised horizon saves of the largest rank's peak; None where none is advised."""
        return None if self.best is None else self.keep_all.peak_device_bytes - self.best.peak_device_bytes

    @property
    def slower(self) -> float | None:
        """Return by which share the advised horizon's step is longer; None where none is advised, or there is no share.

        There is none where keeping all takes no time.
        """
        return None if self.best is None else slower(self.best.step_time_ns, self.keep_all.step_time_ns)

    @property
    def sentence(self) -> str:
        """Return the advice in words."""
        step = "a step within 1 % of keeping all on the GPU"
        if self.keep_all.host_capacity_bytes is not None:
            step += " and slots that fit the host"
        if self.best is not None:
            saved = part_of(self.saved_bytes or 0, self.keep_all.peak_device_bytes)
            missing = self.best.missing_device_bytes
            room = f"; it needs {format_bytes(missing)} more than the device has" if missing else ""
            longer = slower_text(self.best.step_time_ns, self.keep_all.step_time_ns)
            name = f"of the {counted(self.swept, 'horizon')} swept, {self.best.horizon} needs the least device memory"
            return f"{name} in {step}: it saves {saved}, step {longer}{room}."
        one = self.swept == 1
        none = "the one horizon swept does not save" if one else f"none of the {self.swept} horizons swept saves"
        if self.least_step_time_ns is None:
            return f"{none} device memory on the rank that needs most."
        if self.missing_host_bytes is not None:
            lacks = f"the host lacks {format_bytes(self.missing_host_bytes)}{'' if one else ' or more'}"
            return f"{none} device memory in {step}: {lacks}."
        cost = slower_text(self.least_step_time_ns, self.keep_all.step_time_ns)
        costs = f"it costs {cost}" if one else f"each that saves any costs {cost} or more"
        return f"{none} device memory in {step}: {costs}."

    def to_dict(self) -> dict[str, Any]:
        """Return the advice as plain data, as the command line's JSON holds it."""
        best = self.best
        return {
            "axes": dict(self.axes),
            "horizon": None if best is None else best.horizon,
            STEP_TIME: None if best is None else best.step_time_ns,
            PEAK_DEVICE: None if best is None else best.peak_device_bytes,
            "saved_bytes": self.saved_bytes,
            "slower": self.slower,
            "keep_all": {
                STEP_TIME: self.keep_all.step_time_ns,
                PEAK_DEVICE: self.keep_all.peak_device_bytes,
            },
            "fits": None if best is None else best.fits,
            "swept": self.swept,
            "sentence": self.sentence,
        }


def advice_on_rows(axes: Mapping[str, Any], rows: Sequence[SweepRow], keep_all: SweepRow) -> SweptAdvice:
    """Return the advice on rows that differ in their horizon alone; ``keep_all`` is their step without offloading."""
    limits = Limits(limit_ns(keep_all.step_time_ns), keep_all.host_capacity_bytes)
    saving = [row for row in rows if row.peak_device_bytes < keep_all.peak_device_bytes]
    short = [row for row in saving if row.step_time_ns <= limits.step_time_ns]
    allowed = [row for row in saving if limits.allow(row.step_time_ns, row.host_bytes)]
    return SweptAdvice(
        axes=axes,
        keep_all=keep_all,
        best=min(allowed, key=lambda row: (row.peak_device_bytes, row.horizon), default=None),
        swept=len(rows),
        least_step_time_ns=min((row.step_time_ns for row in saving), default=None),
        missing_host_bytes=min((row.missing_host_bytes for row in short), default=None),
    )
