"""Records of a validation as it could have gone: every claim holds, until a test changes a figure."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from loadahead.validation.grid import Configuration
from loadahead.validation.grids import GRIDS
from loadahead.validation.identity import planned

MS = 1_000_000
MIB = 2**20

Record = dict[str, Any]
# Boundaries in MiB of those models that have large ones.
LARGE = {"8b-like": 64, "middle": 64}
# Configurations of the records.
COUNT = len(GRIDS["gpu"].configurations)


def links(busy_ns: int, span_ns: int, expected_ns: int, mib: int) -> Record:
    one = {"transfers": 8, "bytes": 8 * mib * MIB, "busy_ns": busy_ns, "span_ns": span_ns, "expected_ns": expected_ns}
    return {"d2h": dict(one), "h2d": dict(one)}


def figures(one: Configuration, times: float = 1.0) -> Record:
    """A step of 100 ms for each microbatch; the link is the limit where a boundary is copied more than ten times."""
    offloaded = one.microbatches * 5 if one.offload else 0
    limited = one.offload and one.copies > 10
    step = one.microbatches * 100 * MS
    if limited:
        step = step * 2 - one.horizon * 2 * one.microbatches * MS
    return {
        "step_time_ns": round(step * times),
        "offloaded": offloaded,
        "kept": one.microbatches * 5 - offloaded,
        "peak_device_bytes": (200 + (2 * one.horizon if one.offload else 4 * one.microbatches)) * MIB,
        "peak_boundary_bytes": 8 * MIB,
        "peak_host_bytes": offloaded * MIB,
        "compute_ns": one.microbatches * 100 * MS,
        "copy_ns": one.copies * MS * offloaded,
        "stall_release_ns": 0,
        "stall_prefetch_ns": step // 2 if limited else 0,
        "overlap": 0.5 if limited else 1.0,
        "links": links(
            980 * MS if limited else 100 * MS, 985 * MS if limited else 800 * MS, 975 * MS, LARGE.get(one.model, 2)
        ),
    }


def configuration(one: Configuration, times: float = 0.98) -> Record:
    """Predicted, and measured to take ``times`` that."""
    ratio = 0.06 * one.copies if one.offload else 0.0
    predicted = figures(one) | {"copy_to_compute": ratio}
    found = figures(one, times)
    found |= {"step_times_ns": [found["step_time_ns"]] * 3, "losses": [5.0, 4.0], "warnings": []}
    own = {"status": "measured", "seconds": 2.5, "predicted": predicted, "measured": found}
    return {"kind": "configuration", **one.to_dict(), **own}


def peer(name: str, case: Any, times: float, mib: int) -> Record:
    step = round(case.microbatches * 98 * MS * times)
    own = {"model": case.model, "microbatches": case.microbatches, "pipeline": case.pipeline, "status": "measured"}
    found = {"step_time_ns": step, "step_times_ns": [step] * 3, "peak_device_bytes": mib * MIB, "losses": [5.0, 4.0]}
    return {"kind": "peer", "peer": name, **own, **found}


def records(grid: str = "gpu") -> list[Record]:
    """The journal of the whole grid."""
    return copy.deepcopy(list(_records(grid)))


def _records(grid: str) -> Iterator[Record]:
    chosen = GRIDS[grid]
    machine = {"processor": "Some CPU", "gpu": "Some GPU", "gpu_memory_bytes": 80 * 2**30, "torch": "2.9.0"}
    yield {
        "kind": "machine",
        "loadahead": "0.1.0",
        "device": "cpu" if grid == "cpu" else "cuda",
        "grid": grid,
        "limit_s": 540.0,
        "claims": dict(chosen.claims),
        "planned": planned(chosen),
        "machine": machine,
        "packages": {"trl": "0.20.0", "deepspeed": None},
    }
    for size in chosen.sizes:
        yield {
            "kind": "model",
            "model": size.name,
            "status": "measured",
            "options": size.options,
            "autocast": size.autocast,
            "units": 6,
            "static_bytes": 100 * MIB,
            "d2h_bandwidth": 50 * 10**9,
            "h2d_bandwidth": 51 * 10**9,
            "issue_ns": 2 * MS,
            "device_ns": (1 if size.name == "launch-bound" else 100) * MS,
        }
        for one in chosen.of(size):
            yield {"kind": "prediction", **one.to_dict(), "predicted": figures(one) | {"copy_to_compute": 0.1}}
            yield configuration(one)
        for one in chosen.gradients:
            if one.model == size.name:
                own = {"status": "measured", "max_grad_error": 0.0, "steps": 3}
                yield {"kind": "gradients", **one.to_dict(), **own}
        for case in chosen.peers:
            if case.model == size.name:
                yield peer("none", case, 1.0, 250)
                yield peer("save_on_cpu", case, 1.4, 230)
                yield peer("trl", case, 1.1, 225)
                skipped = {"status": "skipped", "reason": "deepspeed is not installed", "seconds": 0.1}
                own = {"model": case.model, "microbatches": case.microbatches, "pipeline": case.pipeline}
                yield {"kind": "peer", "peer": "deepspeed", **own, **skipped}
    yield {"kind": "end", "stopped": None}
