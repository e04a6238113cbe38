"""These are the words of a plan: queues, operation kinds, memory spaces and buffer roles.

Members are small integers, so that a plan of millions of operations is a handful of numpy columns;
their names are the strings of the plan's JSON form (DESIGN, sections 2 and 3).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal


class Queue(IntEnum):
    """Names the FIFOs of one rank; on a GPU each is a CUDA stream."""

    COMPUTE = 0
    D2H = 1
    H2D = 2
    SEND = 3
    RECV = 4

    @property
    def label(self) -> str:
        """Return the name as files write it."""
        return self.name.lower()


class Kind(IntEnum):
    """Names what an operation does; :data:`QUEUE_OF` says on which queue each kind runs."""

    FORWARD = 0
    RECOMPUTE = 1
    BACKWARD = 2
    BACKWARD_INPUT = 3
    BACKWARD_WEIGHT = 4
    OFFLOAD = 5
    RELEASE = 6
    ACQUIRE = 7
    PREFETCH = 8
    SEND_ACTIVATION = 9
    RECV_ACTIVATION = 10
    SEND_GRADIENT = 11
    RECV_GRADIENT = 12
    OPTIMIZER_STEP = 13


# The schemas of files take a kind by one of these names.
KindName = Literal[
    "FORWARD",
    "RECOMPUTE",
    "BACKWARD",
    "BACKWARD_INPUT",
    "BACKWARD_WEIGHT",
    "OFFLOAD",
    "RELEASE",
    "ACQUIRE",
    "PREFETCH",
    "SEND_ACTIVATION",
    "RECV_ACTIVATION",
    "SEND_GRADIENT",
    "RECV_GRADIENT",
    "OPTIMIZER_STEP",
]


class Space(IntEnum):
    """Names the memory that a buffer is in."""

    DEVICE = 0
    HOST = 1

    @property
    def label(self) -> str:
        """Return the name as files write it."""
        return self.name.lower()


class Role(IntEnum):
    """Names what a buffer holds."""

    BOUNDARY = 0
    OUTPUT = 1
    GRADIENT = 2
    WORKSPACE = 3

    @property
    def label(self) -> str:
        """Return the name as files write it."""
        return self.name.lower()


QUEUES_PER_RANK = len(Queue)

QUEUE_OF: dict[Kind, Queue] = {
    Kind.FORWARD: Queue.COMPUTE,
    Kind.RECOMPUTE: Queue.COMPUTE,
    Kind.BACKWARD: Queue.COMPUTE,
    Kind.BACKWARD_INPUT: Queue.COMPUTE,
    Kind.BACKWARD_WEIGHT: Queue.COMPUTE,
    Kind.OFFLOAD: Queue.D2H,
    Kind.RELEASE: Queue.COMPUTE,
    Kind.ACQUIRE: Queue.COMPUTE,
    Kind.PREFETCH: Queue.H2D,
    Kind.SEND_ACTIVATION: Queue.SEND,
    Kind.RECV_ACTIVATION: Queue.RECV,
    Kind.SEND_GRADIENT: Queue.SEND,
    Kind.RECV_GRADIENT: Queue.RECV,
    Kind.OPTIMIZER_STEP: Queue.COMPUTE,
}

# These kinds compute a unit. They are the first of all kinds, so that a kind is its place in a table of them.
UNIT_KINDS = (Kind.FORWARD, Kind.RECOMPUTE, Kind.BACKWARD, Kind.BACKWARD_INPUT, Kind.BACKWARD_WEIGHT)
assert list(UNIT_KINDS) == list(Kind)[: len(UNIT_KINDS)]
# These kinds compute; each is many kernels on a GPU.
TASK_KINDS = frozenset({*UNIT_KINDS, Kind.OPTIMIZER_STEP})
COPY_KINDS = frozenset({Kind.OFFLOAD, Kind.PREFETCH})
SEND_KINDS = frozenset({Kind.SEND_ACTIVATION, Kind.SEND_GRADIENT})
RECV_KINDS = frozenset({Kind.RECV_ACTIVATION, Kind.RECV_GRADIENT})
# What each RECV receives: the SEND's kind, and the step from the unit that reads it to the unit that made it.
SENT_AS = {Kind.RECV_ACTIVATION: (Kind.SEND_ACTIVATION, -1), Kind.RECV_GRADIENT: (Kind.SEND_GRADIENT, +1)}
