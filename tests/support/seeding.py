"""Seeds the CPU's random numbers as ``torch.manual_seed`` does, which a plain training loop calls for every unit.

Without a GPU that function notes a stack of its caller for every kind of device, in case one comes up later: some ms.
"""

from __future__ import annotations

import torch


def seed_cpu(number: int) -> None:
    """Seed the generator that every layer on the CPU draws from."""
    torch.default_generator.manual_seed(number)
