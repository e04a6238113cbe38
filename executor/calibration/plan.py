"""Makes the plan that a calibration runs: every unit's operations in a realistic order, one rank at a time.

It has all FORWARDs of a few microbatches, then their RECOMPUTEs and BACKWARDs. With checkpointing every boundary is
offloaded and brought back, but for those of the frozen front, which their FORWARDs free. Each stage is a rank of its
own, so that what is measured is a stage's, on whatever rank it will be; stages send to each other. Edges between the
ranks' tasks keep ranks from running at once, so that none is measured while another takes its time.
"""

from __future__ import annotations

from collections.abc import Sequence

from loadahead.sim.ir.builder import PlanBuilder
from loadahead.sim.ir.kinds import Kind, Role, Space
from loadahead.sim.ir.plan import Plan
from loadahead.sim.workload import UnitShape, Workload

Key = tuple[int, int, int]  # (stage, unit, microbatch)

_ARRIVES_AS = {
    Kind.SEND_ACTIVATION: (Kind.RECV_ACTIVATION, Role.BOUNDARY),
    Kind.SEND_GRADIENT: (Kind.RECV_GRADIENT, Role.GRADIENT),
}


def calibration_plan(workload: Workload, microbatches: int, checkpoint: bool) -> Plan:
    """Return a plan of that many microbatches over the workload's units; the verifier accepts it."""
    return _Building(workload, microbatches, checkpoint).run()


class _Building:
    """Builds the plan; it names buffers and operations by their positions in it."""

    def __init__(self, workload: Workload, microbatches: int, checkpoint: bool) -> None:
        self._stages, self._microbatches, self._checkpoint = workload.stages, microbatches, checkpoint
        self._frozen, self._passed = workload.frozen_units, workload.passed
        self._out = PlanBuilder()
        self._units = [(stage, unit) for stage, units in enumerate(self._stages) for unit in range(len(units))]
        self._boundary: dict[Key, int] = {}
        self._gradient: dict[Key, int] = {}  # the gradient of the unit's output
        self._saved: dict[Key, int] = {}
        self._handed: dict[tuple[int, int, int], int] = {}  # by its number, rank and microbatch
        self._slot: dict[Key, tuple[int, int]] = {}  # the host buffer, and the OFFLOAD that fills it
        self._arrivals: dict[Key, list[int]] = {}  # the RECV and PREFETCH that the key's next task waits for
        self._releases: list[list[tuple[int, int, Key]]] = [[] for _ in self._stages]
        self._turn: tuple[int, int] | None = None  # rank and operation of the task before

    def run(self) -> Plan:
        """Return the whole plan."""
        for microbatch in range(self._microbatches):
            for unit in self._units:
                self._forward((*unit, microbatch))
        for rank in range(len(self._releases)):
            self._release(rank, keep=0)
        for microbatch in range(self._microbatches):
            for unit in reversed(self._units[self._frozen :]):
                self._backward((*unit, microbatch))
        for rank in range(len(self._releases)):
            self._release(rank, keep=0)
            self._task(rank, Kind.OPTIMIZER_STEP, (-1, -1, -1))
        facts = {"sentence": "Made to measure what operations cost."}
        ranks = len(self._releases)
        return self._out.freeze("calibration", ranks, self._microbatches, facts, frozen_units=self._frozen)

    # ---- tasks ----

    def _forward(self, key: Key) -> None:
        rank, above, shape = self._rank(key), self._neighbour(key, +1), self._shape(key)
        self._release(rank, keep=1)
        taken: list[int] = []
        if key not in self._boundary:
            taken.append(self._device(key, shape.boundary_bytes, Role.BOUNDARY))
            self._boundary[key] = taken[0]
        sends = above is not None and self._rank(above) != rank
        if above is not None:
            role, named = (Role.OUTPUT, key) if sends else (Role.BOUNDARY, above)
            taken.append(self._device(named, self._shape(above).boundary_bytes, role, rank))
            if not sends:
                self._boundary[above] = taken[-1]
        output = taken[-1] if taken else -1
        frozen = self._number(key) < self._frozen
        if not frozen and (not self._checkpoint or shape.state_bytes):
            nbytes = shape.state_bytes if self._checkpoint else shape.saved_bytes
            self._saved[key] = self._device(key, nbytes, Role.WORKSPACE)
            taken.append(self._saved[key])
        handed, fresh, last = self._handed_on(key, Kind.FORWARD)
        reads = [self._boundary[key], *handed]
        frees = [self._boundary.pop(key), *last] if frozen else last
        done = self._task(rank, Kind.FORWARD, key, reads=reads, writes=[*taken, *fresh], frees=frees)
        if self._checkpoint and not frozen:
            self._offload(key, done)
        if above is not None and sends:
            nbytes = self._shape(above).boundary_bytes
            self._boundary[above] = self._transfer(key, above, Kind.SEND_ACTIVATION, done, output, nbytes)

    def _backward(self, key: Key) -> None:
        rank, above, below = self._rank(key), self._neighbour(key, +1), self._neighbour(key, -1)
        self._release(rank, keep=1)
        if self._checkpoint:
            self._load(key)
            if below is not None and self._rank(below) == rank:
                self._load(below)
            state = [self._saved[key]] if key in self._saved else []
            handed, _, _ = self._handed_on(key, Kind.RECOMPUTE)
            self._task(rank, Kind.RECOMPUTE, key, reads=[self._boundary[key], *state, *handed])
        frees = [self._boundary.pop(key)]
        if above is not None:
            frees.append(self._gradient.pop(key))
        reads = list(frees)
        if key in self._saved:
            frees.append(self._saved.pop(key))
            reads = reads if self._checkpoint else list(frees)
        handed, _, last = self._handed_on(key, Kind.BACKWARD)
        wanted = below is not None and self._number(below) >= self._frozen
        made = [self._device(key, self._shape(key).gradient_bytes, Role.GRADIENT)] if wanted else []
        done = self._task(rank, Kind.BACKWARD, key, reads=[*reads, *handed], writes=made, frees=[*frees, *last])
        if below is None or not wanted:
            return
        if self._rank(below) == rank:
            self._gradient[below] = made[0]
            return
        nbytes = self._shape(key).gradient_bytes
        self._gradient[below] = self._transfer(key, below, Kind.SEND_GRADIENT, done, made[0], nbytes)

    def _task(
        self,
        rank: int,
        kind: Kind,
        key: Key,
        *,
        reads: Sequence[int] = (),
        writes: Sequence[int] = (),
        frees: Sequence[int] = (),
    ) -> int:
        """Add a compute operation, which takes what it writes, and return its position.

        It waits for what arrives for it, and for the task before it on another rank.
        """
        after = self._arrivals.pop(key, [])
        if self._turn is not None and self._turn[0] != rank:
            after.append(self._turn[1])
        op = self._out.op(rank, kind, key, after=after, reads=reads, writes=writes, allocs=writes, frees=frees)
        self._turn = rank, op
        return op

    def _handed_on(self, key: Key, kind: Kind) -> tuple[list[int], list[int], list[int]]:
        """Return the buffers handed on that a task reads; of these, the ones that it takes and those that it frees."""
        reads, takes, frees = [], [], []
        rank, unit, microbatch = self._rank(key), self._number(key), key[2]
        for number, tensor in enumerate(self._passed):
            own = [reader for reader in tensor.readers if self._rank((*self._units[reader], microbatch)) == rank]
            if unit not in own:
                continue
            trained = [reader for reader in own if reader >= self._frozen]
            place = number, rank, microbatch
            if kind == Kind.FORWARD and unit == own[0]:
                self._handed[place] = self._device(key, tensor.nbytes, Role.WORKSPACE)
                takes.append(self._handed[place])
            reads.append(self._handed[place])
            if (kind, unit) == ((Kind.BACKWARD, trained[0]) if trained else (Kind.FORWARD, own[-1])):
                frees.append(self._handed[place])
        return reads, takes, frees

    # ---- transfers ----

    def _offload(self, key: Key, done: int) -> None:
        rank, nbytes, buffer = self._rank(key), self._shape(key).boundary_bytes, self._boundary[key]
        slot = self._out.buffer(rank, Space.HOST, nbytes, Role.BOUNDARY, key)
        copy = self._out.op(
            rank, Kind.OFFLOAD, key, after=[done], reads=[buffer], writes=[slot], allocs=[slot], nbytes=nbytes
        )
        self._slot[key] = slot, copy
        self._releases[rank].append((copy, buffer, key))

    def _load(self, key: Key) -> None:
        """Add ACQUIRE and PREFETCH, unless it was done before."""
        if key not in self._slot:
            return
        rank, nbytes = self._rank(key), self._shape(key).boundary_bytes
        slot, offload = self._slot.pop(key)
        self._boundary[key] = self._device(key, nbytes, Role.BOUNDARY)
        made = [self._boundary[key]]
        acquire = self._out.op(rank, Kind.ACQUIRE, key, allocs=made)
        copy = self._out.op(
            rank, Kind.PREFETCH, key, after=[acquire, offload], reads=[slot], writes=made, frees=[slot], nbytes=nbytes
        )
        self._arrivals.setdefault(key, []).append(copy)

    def _transfer(self, key: Key, to: Key, kind: Kind, done: int, buffer: int, nbytes: int) -> int:
        """Add ACQUIRE, SEND and RECV of what the task ``done`` of ``key`` wrote, and return the receive buffer.

        The ACQUIRE waits for no other rank, so it is through long before the SEND, while nothing of its rank runs.
        """
        arrives, role = _ARRIVES_AS[kind]
        landing = self._device(to, nbytes, role)
        acquire = self._out.op(self._rank(to), Kind.ACQUIRE, to, allocs=[landing])
        send = self._out.op(self._rank(key), kind, key, after=[done, acquire], reads=[buffer], nbytes=nbytes)
        self._releases[self._rank(key)].append((send, buffer, key))
        arrived = self._out.op(self._rank(to), arrives, to, after=[send], writes=[landing], nbytes=nbytes)
        self._arrivals.setdefault(to, []).append(arrived)
        return landing

    def _release(self, rank: int, keep: int) -> None:
        """Free what was offloaded or sent longest ago, all but the last few."""
        waiting = self._releases[rank]
        while len(waiting) > keep:
            waited, buffer, key = waiting.pop(0)
            self._out.op(rank, Kind.RELEASE, key, after=[waited], frees=[buffer])

    # ---- names ----

    @staticmethod
    def _rank(key: Key) -> int:
        """Return the rank that runs a unit: that of its stage's number."""
        return key[0]

    def _shape(self, key: Key) -> UnitShape:
        return self._stages[key[0]][key[1]]

    def _number(self, key: Key) -> int:
        """Return the unit's place in the model."""
        return self._units.index((key[0], key[1]))

    def _neighbour(self, key: Key, step: int) -> Key | None:
        """Return the unit above (+1) or below (-1) for the same microbatch; None beyond the model's ends."""
        at = self._units.index((key[0], key[1])) + step
        return (*self._units[at], key[2]) if 0 <= at < len(self._units) else None

    def _device(self, key: Key, nbytes: int, role: Role, rank: int | None = None) -> int:
        return self._out.buffer(self._rank(key) if rank is None else rank, Space.DEVICE, nbytes, role, key)
