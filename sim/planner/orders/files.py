"""An order file is the compute-only CSV of torch.distributed.pipelining: a row per rank, ``0F0,1F0,...,1B0``.

A pass is its stage, ``F`` or ``B``, and its microbatch; an empty cell, torch's bubble, says nothing.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from loadahead.sim.errors import InputError
from loadahead.sim.planner.orders.base import Order

# An order is a few cells per microbatch. A larger file is none, and would take long to read.
_LARGEST_FILE = 512 * 2**20


def read_order(path: str | Path) -> Order:
    """Read an order file; raise InputError in one line where it is none."""
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST_FILE + 1)
        if len(data) > _LARGEST_FILE:
            raise InputError(f"{path}: has more than {_LARGEST_FILE} bytes; an order file has at most so many")
        lines = io.StringIO(data.decode("utf-8-sig"), newline="")
        rows = [[cell for cell in row if cell.strip()] for row in csv.reader(lines, strict=True)]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path}: cannot be read as an order ({_reason(error)}); give a CSV file with a row per rank, e.g. "
            "0F0,0F1,0B0,0B1"
        ) from error
    while rows and not rows[-1]:
        rows.pop()
    if not rows:
        raise InputError(f"{path}: is empty; an order has a row per rank, e.g. 0F0,0F1,0B0,0B1")
    try:
        return Order.of(rows, Path(path).name)
    except InputError as error:
        raise error.about(str(path)) from error


def _reason(error: OSError | ValueError | csv.Error) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    return getattr(error, "strerror", None) or str(error)


def write_order(order: Order, path: str | Path) -> None:
    """Write an order as a file that :func:`read_order` and torch.distributed.pipelining read."""
    with Path(path).open("w", encoding="utf-8", newline="") as out:
        csv.writer(out, lineterminator="\n").writerows(order.rows())
