"""What can stand in the way of a smaller horizon, or of any, by name."""

from __future__ import annotations

# These lengthen the step. Each can be thought away: copies out that take no time, copies in that take none, operations
# that the host issues at once.
OFFLOAD_STALLS, PREFETCH_STALLS, LAUNCHES = "offload_stalls", "prefetch_stalls", "launches"
REMOVABLE = (OFFLOAD_STALLS, PREFETCH_STALLS, LAUNCHES)
# No BACKWARD comes late enough after its FORWARD for anything to leave the device.
TOO_FEW_TASKS = "too_few_tasks"
