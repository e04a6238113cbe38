"""What compares real times: python -m tests.times [cpu|gpu]. Wants a quiet machine; `make test` has none of it.

Every check prints its figures with their spread, predictions beside measurements, and has three attempts.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping
from functools import partial

import torch

from tests.support.tuned_jobs import JOBS
from tests.times.advice import advice
from tests.times.judging import Check, failing
from tests.times.queues import a_copy, at_once
from tests.times.starting import starting
from tests.times.steps import copies, order_of_horizons, step_time
from tests.times.tuned import orders_of, tuned_beside_horizon
from tests.times.validation import claims


def cpu_checks() -> Mapping[str, Check]:
    return {
        "starting": starting,
        "advice": advice,
        "an emulated link": a_copy,
        "queues at once": at_once,
        **{f"step time at horizon {horizon}": partial(step_time, horizon) for horizon in (1, 2, 4, 8)},
        "order of horizons": order_of_horizons,
        "copies": copies,
        **{
            f"tuned plan of {job.name}, {order}": partial(tuned_beside_horizon, job, order)
            for job in JOBS
            for order in orders_of(job)
        },
        "validation of the CPU": claims,
    }


def gpu_checks() -> Mapping[str, Check]:
    if not torch.cuda.is_available():
        print("the GPU's checks are skipped: torch finds no NVIDIA GPU here")
        return {}
    from tests.times import gpu

    return {
        **{f"step times on a GPU, copied {count} times": partial(gpu.step_times, count) for count in (1, 16)},
        "large copies on a GPU": gpu.large_copies,
    }


GROUPS = {"cpu": cpu_checks, "gpu": gpu_checks}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.times", description="Compare real times with predictions.")
    parser.add_argument("group", nargs="?", choices=list(GROUPS), help="of one kind of device; otherwise all")
    only = parser.parse_args().group
    groups = list(GROUPS) if only is None else [only]
    began = time.monotonic()
    print(f"{os.cpu_count()} cores, load {', '.join(f'{load:.2f}' for load in os.getloadavg())}")
    checks = {name: check for group in groups for name, check in GROUPS[group]().items()}
    failed = failing(checks)
    print(f"{len(checks) - len(failed)} of {len(checks)} checks hold; {time.monotonic() - began:.0f} s")
    for name in failed:
        print(f"error: {name}: does not hold in any attempt", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
