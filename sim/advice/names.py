"""What can stand in the way of a smaller horizon, or of any, by name."""

from __future__ import annotations

# These lengthen the step. Each can be thought away: copies out that take no time, copies in that take none, operations
# that the host issues at once.
OFFLOAD_STALLS, PREFETCH_STALLS, LAUNCHES = "offload_stalls", "prefetch_stalls", "launches"
# The host has no room for the slots.
HOST_MEMORY = "host_memory"
# No BACKWARD comes late enough after its FORWARD for anything to leave the device, or for what leaves to be away when
# memory peaks.
TOO_FEW_TASKS = "too_few_tasks"
# Every boundary has fewer bytes than min_bytes.
TOO_SMALL = "min_bytes"
