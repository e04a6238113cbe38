"""Says what a quantity's unit was meant to be where it is none: bits, another case, a short form, no unit at all.

A unit is never taken for another one here: what may have been meant is said, and has to be written.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from decimal import Decimal

# Bits as they are written where no bytes can be meant: a small b behind a large prefix, the word, or "bps".
_BITS = re.compile(r"([kKMGTP]i?)?(?:[bB]its?(?:/s|ps)?|bps)|(?:[KMGTP]i?)b(?:/s)?")
# In one case throughout either may be meant.
_BITS_OR_BYTES = re.compile(r"(?:[kmgtp]i?)?b(?:/s)?|(?:[kmgtp]i?)bps")
# An amount from here on is meant in the smallest unit, if no unit is written.
LARGE = 10**6
# What is put behind a short form such as "80 G" to make a unit of it.
_ENDINGS = ("b", "ib", "/s", "b/s", "ib/s", "s", "in", "lop/s", "flop/s")


def meant(amount: str, unit: str, units: Collection[str]) -> str:
    """Return what was probably meant by an amount in a unit that is none of these, in a sentence without its end.

    Empty where there is no telling.
    """
    if not unit:
        return f"{amount} has no unit; write e.g. {_example(amount, units)}"
    sizes = [name for name in units if name.removesuffix("/s").endswith("B")]
    if sizes and _BITS.fullmatch(unit):
        return f"bits are not taken: {_in_bytes(amount, unit, sizes)}"
    close = _nearest(unit, units)
    if not close:
        return ""
    asked = f"did you mean {' or '.join(f'{amount} {name}' for name in close)}?"
    if sizes and _BITS_OR_BYTES.fullmatch(unit):
        return f"{asked} (if bits were meant, {_in_bytes(amount, unit, sizes)})"
    return asked


def _example(amount: str, units: Collection[str]) -> str:
    """Return the amount in a unit that is common where no unit was written."""
    common = next(name for name in ("GB", "GB/s", "ms", "TFLOP/s") if name in units)
    return f'"{amount} {common if Decimal(amount) < LARGE else next(iter(units))}"'


def _in_bytes(amount: str, unit: str, sizes: Collection[str]) -> str:
    """Return the amount of bits, and how much that is in bytes of the same prefix, e.g. ``8 Gbit/s is 1 GB/s``."""
    prefix = (re.match(r"[kmgtp]i?(?=b)", unit, re.IGNORECASE) or [""])[0]
    prefix = {"k": "k", "K": "k"}.get(prefix, prefix[:1].upper() + prefix[1:])
    per = "/s" if all(name.endswith("/s") for name in sizes) else ""
    told = f"{amount} {unit}" if "bit" in unit.lower() else f"{amount} {prefix}bit{per}"
    return f"{told} is {_plain(Decimal(amount) / 8)} {prefix}B{per}"


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _nearest(unit: str, units: Collection[str]) -> list[str]:
    """Return the units that are the same but for case, then those that a short form may stand for, then one alike."""
    spelled: dict[str, str] = {}
    for name in units:
        spelled.setdefault(_spelling(name), name)
    own = _spelling(unit)
    if own in spelled:
        return [spelled[own]]
    longer = list(dict.fromkeys(spelled[own + ending] for ending in _ENDINGS if own + ending in spelled))
    if longer:
        return longer
    shorter = own.removesuffix("/s")  # a size in place of a bandwidth, and the other way round
    if shorter in spelled:
        return [spelled[shorter]]
    return [spelled[close] for close in difflib.get_close_matches(own, spelled, n=1, cutoff=0.7)]


def _spelling(unit: str) -> str:
    """Return a unit without case, its rate as "/s", and times by their short names."""
    small = unit.lower().replace("μ", "µ").replace("flops/s", "flop/s")
    if small.endswith(("flops", "flop")):
        return f"{small.rstrip('s')}/s"
    small = re.sub(r"^(k)ilo|^(m)ega|^(g)iga|^(t)era|^(p)eta", lambda match: match[0][0], small)
    small = re.sub(r"bytes?(?=/|$|ps$)", "b", small)
    small = re.sub(r"(?<=b)ps$", "/s", small)
    small = re.sub(r"^(n|u|µ|m|)(?:sec|secs|second|seconds)$", r"\1s", small)
    return re.sub(r"^(?:minutes?|mins)$", "min", small)
