"""Damages a plan's rows in one place; each damage says which rules may name it.

None of them is a damage that the plan alone does not show, see :func:`tests.support.plan_rows.unseen`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Set
from dataclasses import replace
from random import Random

from loadahead.sim.ir.kinds import COPY_KINDS, QUEUE_OF, RECV_KINDS, SEND_KINDS, UNIT_KINDS, Kind, Role, Space
from tests.support.plan_rows import LISTS, Key, Row, Rows, any_list_of, between, unseen

# Each changes the rows and returns the rules that may name it; None, and nothing is changed, where there is no place.
Damage = Callable[[Rows, Random], set[str] | None]

ORDER = {
    "well-formed",
    "read-after-write",
    "use-after-take",
    "free-after-use",
    "offload-after-forward",
    "slot-reuse",
    "slot-content",
    "backward-after-forward",
    "send-into-memory",
    "send-recv-pair",
}
PLACE = {"recompute-place", "transfer-order", "optimizer-last"}
OWN = {"reads-own", "writes-own", "takes-own", "workspace", "send-own", "receive-own", "slot-content"}
_LEFT_OUT = {
    Kind.FORWARD: {"whole-step", "labels"},  # the only one of its unit leaves a gap
    Kind.BACKWARD: {"whole-step"},
    Kind.RECOMPUTE: {"workspace"},
    Kind.OFFLOAD: {"slot-reuse", "taken-once", "slot-content"},
    Kind.PREFETCH: {"read-after-write"},
    Kind.RELEASE: {"freed-once"},
    Kind.ACQUIRE: {"taken-once"},
    Kind.SEND_ACTIVATION: {"send-recv-pair"},
    Kind.SEND_GRADIENT: {"send-recv-pair"},
    Kind.RECV_ACTIVATION: {"send-recv-pair"},
    Kind.RECV_GRADIENT: {"send-recv-pair"},
    Kind.OPTIMIZER_STEP: {"optimizer-once"},
}
_DOUBLED = {
    Kind.FORWARD: {"task-once"},
    Kind.BACKWARD: {"task-once"},
    Kind.RECOMPUTE: {"task-once"},
    Kind.OFFLOAD: {"slot-reuse", "taken-once", "free-after-use"},
    Kind.PREFETCH: {"written-once"},
    Kind.RELEASE: {"freed-once"},
    Kind.ACQUIRE: {"taken-once"},
    Kind.SEND_ACTIVATION: {"task-once", "send-recv-pair"},
    Kind.SEND_GRADIENT: {"task-once", "send-recv-pair"},
    Kind.RECV_ACTIVATION: {"written-once", "send-recv-pair"},
    Kind.RECV_GRADIENT: {"written-once", "send-recv-pair"},
    Kind.OPTIMIZER_STEP: {"optimizer-once"},
}


def _pick(rows: Rows, random: Random) -> Row:
    """Any operation, every kind as likely."""
    kind = random.choice(sorted({op.kind for op in rows.ops}))
    return random.choice([op for op in rows.ops if op.kind == kind])


def left_out(rows: Rows, random: Random) -> set[str] | None:
    op = _pick(rows, random)
    rows.remove(op)
    return _LEFT_OUT[op.kind]


def doubled(rows: Rows, random: Random) -> set[str] | None:
    op = _pick(rows, random)
    place = random.randrange(rows.ops.index(op) + 1, len(rows.ops) + 1)
    again = op.copy()
    rows.ops.insert(random.choice([rows.ops.index(op) + 1, place]), again)
    return _DOUBLED[op.kind]


def on_another_rank(rows: Rows, random: Random) -> set[str] | None:
    if rows.ranks == 1:
        return None
    op = _pick(rows, random)
    op.rank = random.choice([rank for rank in range(rows.ranks) if rank != op.rank])
    return {"optimizer-once"} if op.kind == Kind.OPTIMIZER_STEP else {"stage-rank", "own-rank"}


def with_its_buffers_on_another_rank(rows: Rows, random: Random) -> set[str] | None:
    """A whole unit, with all that it takes."""
    if rows.ranks == 1:
        return None
    key = random.choice([op.key for op in rows.ops if op.kind in UNIT_KINDS])
    own = [op for op in rows.ops if op.key == key and op.kind in UNIT_KINDS]
    rank = random.choice([rank for rank in range(rows.ranks) if rank != own[0].rank])
    for op in own:
        op.rank = rank
        for buffer in op.allocs:
            rows.buffers[buffer].rank = rank
    return {"stage-rank", "own-rank"}


def behind_its_reader(rows: Rows, random: Random) -> set[str] | None:
    """A writer is listed behind a reader, and what waits for it waits no more."""
    op, buffer = _entry(rows, random, "reads")
    writer = rows.writer(buffer)
    if writer is None or writer is op:
        return None
    rows.move(writer, rows.ops.index(op) + 1)
    rows.drop_forward_edges()
    return ORDER | PLACE


def before_its_writer(rows: Rows, random: Random) -> set[str] | None:
    op, buffer = _entry(rows, random, "reads")
    writer = rows.writer(buffer)
    if writer is None or writer is op:
        return None
    rows.move(op, rows.ops.index(writer))
    rows.drop_forward_edges()
    return ORDER | PLACE


def behind_the_optimizer(rows: Rows, random: Random) -> set[str] | None:
    tasks = [op for op in rows.ops if op.kind in UNIT_KINDS]
    op = random.choice(tasks)
    rows.move(op, len(rows.ops))
    rows.drop_forward_edges()
    return {"optimizer-last"}


def recompute_elsewhere(rows: Rows, random: Random) -> set[str] | None:
    """A task comes between a RECOMPUTE and its BACKWARD, or a RELEASE behind an ACQUIRE."""
    recomputes = [op for op in rows.ops if op.kind == Kind.RECOMPUTE]
    if not recomputes:
        return None
    op = random.choice(recomputes)
    queue = [other for other in rows.ops if other.queue == op.queue and other.kind != Kind.RELEASE]
    tasks = [other for other in queue[: queue.index(op)] if other.kind in UNIT_KINDS]
    if not tasks:
        return None
    rows.move(op, rows.ops.index(random.choice(tasks)))
    return ORDER | {"recompute-place"}


def transfers_crossed(rows: Rows, random: Random, kinds: Set[Kind] | None = None) -> set[str] | None:
    """Two transfers from one rank to another change places on one of their two queues, and the list follows."""
    queues, kinds = rows.queues(), kinds or random.choice([SEND_KINDS, RECV_KINDS])
    ranks = {id(op): (send.rank, receive.rank) for send, receive in rows.receives() for op in (send, receive)}
    found = [
        (ops, place)
        for ops in queues.values()
        for place, (op, other) in enumerate(itertools.pairwise(ops))
        if op.kind in kinds and other.kind in kinds and ranks[id(op)] == ranks[id(other)]
    ]
    if not found:
        return None
    ops, place = random.choice(found)
    ops[place : place + 2] = ops[place + 1], ops[place]
    listed = any_list_of(queues, random)
    if listed is None:
        return None
    rows.ops = listed
    return {"transfer-order"}


def sent_twice(rows: Rows, random: Random) -> set[str] | None:
    """A whole transfer once more, into memory that is taken and freed for it."""
    transfers = rows.receives()
    if not transfers:
        return None
    send, op = random.choice(transfers)
    buffer = len(rows.buffers)
    rows.buffers.append(replace(rows.buffers[op.writes[0]]))
    acquire = Row(op.rank, Kind.ACQUIRE, op.key, 0, allocs=[buffer])
    again = send.copy()
    again.after.append(acquire)
    received = replace(op, after=[again], writes=[buffer])
    release = Row(op.rank, Kind.RELEASE, op.key, 0, after=[received], frees=[buffer])
    place = rows.ops.index(send) + 1
    rows.ops[place:place] = [acquire, again, received, release]
    for other in rows.ops:
        if set(other.frees) & set(send.reads):
            other.after.append(again)
    return {"task-once"}


def names_exchanged(rows: Rows, random: Random) -> set[str] | None:
    """Two operations of a kind do what they did under each other's name."""
    op = _pick(rows, random)
    others = [o for o in rows.ops if o.kind == op.kind and o.key != op.key]
    if not others:
        return None
    other = random.choice(others)
    if rows.may_be_named(op, other.key) and rows.may_be_named(other, op.key):
        return None
    op.key, other.key = other.key, op.key
    return OWN | {"labels", "stage-rank", "send-recv-pair", "frozen-front", "backward-after-forward"}


def lists_exchanged(rows: Rows, random: Random) -> set[str] | None:
    """Two operations of a kind read, or write, each other's buffers."""
    op, name = _pick(rows, random), random.choice(["reads", "writes"])
    others = [o for o in rows.ops if o.kind == op.kind and getattr(o, name) != getattr(op, name)]
    if not others:
        return None
    other = random.choice(others)
    mine, theirs = getattr(op, name), getattr(other, name)
    setattr(op, name, theirs)
    setattr(other, name, mine)
    return OWN | {"own-rank", "send-recv-pair", "bytes", "slot-reuse"}


def relabelled(rows: Rows, random: Random) -> set[str] | None:
    op = _pick(rows, random)
    key = _other_key(rows, random, op.key)
    if rows.may_be_named(op, key):
        return None
    op.key = key
    if op.kind in UNIT_KINDS:
        return {"labels", "whole-step", "task-once", "frozen-front", "backward-after-forward", "recompute-place"}
    if op.kind in SEND_KINDS | RECV_KINDS:
        return {"labels", "task-once", "send-recv-pair", "send-own", "receive-own"}
    return {"labels", "slot-content", "frozen-front"}


def buffer_relabelled(rows: Rows, random: Random) -> set[str] | None:
    """What a device buffer names says whose it is; a host slot is for many boundaries, one after another."""
    number = random.randrange(len(rows.buffers))
    buffer = rows.buffers[number]
    key = _other_key(rows, random, buffer.key)
    if key in between(rows, number):
        return None
    if buffer.space == Space.HOST:
        key = (buffer.key[0], buffer.key[1], random.choice([rows.microbatches, 2**31 - 1, -1]))
    buffer.key = key
    return OWN | {"labels"}


def another_copy_read(rows: Rows, random: Random) -> set[str] | None:
    """A BACKWARD reads a copy of its boundary that was loaded after what it needs was made from the first one."""
    found = [op for op in rows.ops if op.kind == Kind.BACKWARD and rows.buffers[op.reads[0]].role == Role.BOUNDARY]
    if not found:
        return None
    backward = random.choice(found)
    old = backward.reads[0]
    if old not in backward.frees:
        return None
    kinds = [op.kind for op in rows.ops if op.key == backward.key]
    makes = Kind.RECOMPUTE if Kind.RECOMPUTE in kinds else Kind.FORWARD
    maker = next(op for op in rows.ops if op.kind == makes and op.key == backward.key)
    buffer = rows.buffers[old]
    new = len(rows.buffers)
    rows.buffers += [replace(buffer), replace(buffer, space=Space.HOST)]
    slot, size, rank, key = new + 1, buffer.nbytes, buffer.rank, backward.key
    stored = Row(rank, Kind.OFFLOAD, key, size, [maker], reads=[old], writes=[slot], allocs=[slot])
    taken = Row(rank, Kind.ACQUIRE, key, 0, allocs=[new])
    loaded = Row(rank, Kind.PREFETCH, key, size, [taken, stored], reads=[slot], writes=[new], frees=[slot])
    released = Row(rank, Kind.RELEASE, key, 0, [stored], frees=[old])
    for names in (backward.reads, backward.frees):
        names[names.index(old)] = new
    backward.after.append(loaded)
    place = rows.ops.index(maker)
    rows.ops[place:place] = [taken]
    place = rows.ops.index(backward)
    rows.ops[place:place] = [stored, loaded, released]
    return {"reads-own"}


def of_another_role(rows: Rows, random: Random) -> set[str] | None:
    buffer = random.choice(rows.buffers)
    buffer.role = random.choice([role for role in Role if role != buffer.role])
    return OWN


def of_another_size(rows: Rows, random: Random) -> set[str] | None:
    """A buffer that is copied or sent."""
    moved = [b for op in rows.ops if op.kind in COPY_KINDS | SEND_KINDS | RECV_KINDS for b in (*op.reads, *op.writes)]
    if not moved:
        return None
    rows.buffers[random.choice(moved)].nbytes += 1
    return {"bytes"}


def another_size_moved(rows: Rows, random: Random) -> set[str] | None:
    op = _pick(rows, random)
    op.nbytes += 1
    if op.kind in RECV_KINDS and op.nbytes == rows.buffers[op.writes[0]].nbytes:
        return None  # it says what its SEND says, and said 0 before
    return {"bytes"}


def buffer_elsewhere(rows: Rows, random: Random) -> set[str] | None:
    buffer = random.choice(rows.buffers)
    if rows.ranks > 1 and random.random() < 0.5:
        buffer.rank = random.choice([rank for rank in range(rows.ranks) if rank != buffer.rank])
        return {"own-rank"}
    buffer.space = Space.HOST if buffer.space == Space.DEVICE else Space.DEVICE
    return {"memory-on-compute", "operation-shape"}


def _other_key(rows: Rows, random: Random, key: Key) -> Key:
    """Another name: one of the plan's, or one that no task has."""
    keys = sorted({op.key for op in rows.ops if op.kind in UNIT_KINDS} - {key})
    if keys and random.random() < 0.6:
        return random.choice(keys)
    at = random.randrange(3)
    beyond = random.choice([2**31 - 1, 2**20 + 1, -1, rows.microbatches, len(rows.ops)])
    new = (*key[:at], beyond, *key[at + 1 :])
    if new == key or new in {op.key for op in rows.ops if op.kind in UNIT_KINDS}:
        return (2**31 - 1, 0, 0)
    return new  # type: ignore[return-value]


def _entry(rows: Rows, random: Random, *names: str) -> tuple[Row, int]:
    """A buffer in an operation's list."""
    found = [(op, buffer) for op in rows.ops for name in names for buffer in getattr(op, name)]
    return random.choice(found)


def another_buffer(rows: Rows, random: Random) -> set[str] | None:
    """One of an operation's lists names another buffer of the rank."""
    name = random.choice(LISTS)
    found = [(op, buffer) for op in rows.ops for buffer in getattr(op, name)]
    op, buffer = random.choice(found)
    others = [b for b, other in enumerate(rows.buffers) if b not in getattr(op, name) and other.rank == op.rank]
    alike = [b for b in others if rows.buffers[b].role == rows.buffers[buffer].role]
    others = alike or others if random.random() < 0.8 else others
    if not others:
        return None
    other = random.choice(others)
    # What one unit alone reads of what is passed on, and what its FORWARD keeps, differ by this read.
    looks_alike = unseen(rows, op, buffer) or {buffer, other} <= set(op.writes)
    if name == "reads" and op.kind == Kind.FORWARD and rows.buffers[other].role == Role.WORKSPACE and looks_alike:
        return None
    row = getattr(op, name)
    row[row.index(buffer)] = other
    if name in ("allocs", "frees"):
        return {"taken-once", "freed-once", "memory-on-compute"}
    return OWN | ORDER | {"written-once", "operation-shape", "bytes"}


def buffer_missing(rows: Rows, random: Random) -> set[str] | None:
    name = random.choice(LISTS)
    op, buffer = _entry(rows, random, name)
    if name == "reads" and unseen(rows, op, buffer):
        return None
    getattr(op, name).remove(buffer)
    if name == "reads":
        return {"reads-own", "workspace", "operation-shape"}
    if name == "writes":
        return {"writes-own", "read-after-write", "operation-shape", "takes-own"}
    return {"taken-once"} if name == "allocs" else {"freed-once"}


def buffer_added(rows: Rows, random: Random) -> set[str] | None:
    """An operation reads, writes, takes or frees one more of the rank's buffers."""
    name, op = random.choice(LISTS), _pick(rows, random)
    others = [b for b, other in enumerate(rows.buffers) if b not in getattr(op, name) and other.rank == op.rank]
    if not others:
        return None
    buffer = random.choice(others)
    if name == "reads" and unseen(rows, op, buffer):
        return None
    getattr(op, name).append(buffer)
    if name == "reads":
        return OWN | ORDER | {"operation-shape"}
    if name == "writes":
        return OWN | {"written-once", "operation-shape", "slot-reuse"}
    return {"taken-once"} if name == "allocs" else {"freed-once"}


def edge_missing(rows: Rows, random: Random) -> set[str] | None:
    """An edge without which an order is lost, or that says what a RECV receives."""
    edges = [(source, op) for op in rows.ops for source in op.after]
    if not edges:
        return None
    source, op = random.choice(edges)
    is_pair = op.kind in RECV_KINDS and source is rows.sender(op)
    op.after.remove(source)
    if is_pair or not rows.ordered(source, op):
        return ORDER
    op.after.append(source)
    return None


def edge_doubled(rows: Rows, random: Random) -> set[str] | None:
    edges = [(source, op) for op in rows.ops for source in op.after]
    if not edges:
        return None
    source, op = random.choice(edges)
    op.after.append(source)
    return {"well-formed"}


def freed_too_early(rows: Rows, random: Random) -> set[str] | None:
    """Another task or RELEASE of the rank frees a buffer, which not all that use it are behind."""
    op, buffer = _entry(rows, random, "frees")
    if rows.buffers[buffer].space == Space.HOST:
        return None
    place = rows.ops.index(op)
    able = [o for o in rows.ops[:place] if o.queue == op.queue and o.kind != Kind.ACQUIRE]
    if not able:
        return None
    other = random.choice(able)
    if all(user is other or rows.ordered(user, other) for user in rows.users(buffer)):
        return None
    op.frees.remove(buffer)
    other.frees.append(buffer)
    return {"free-after-use"}


def microbatch_left_out(rows: Rows, random: Random) -> set[str] | None:
    """All of its operations and buffers."""
    microbatch = random.randrange(rows.microbatches)
    for op in [op for op in rows.ops if op.key[2] == microbatch]:
        rows.remove(op)
    return {"whole-step"}


def unit_left_out(rows: Rows, random: Random) -> set[str] | None:
    unit = random.choice([op.key[:2] for op in rows.ops if op.kind in UNIT_KINDS])
    for op in [op for op in rows.ops if op.key[:2] == unit]:
        rows.remove(op)
    return None if not rows.ops else {"whole-step", "labels", "frozen-front", *OWN, *ORDER, "taken-once", "freed-once"}


def no_recompute(rows: Rows, random: Random) -> set[str] | None:
    recomputes = [op for op in rows.ops if op.kind == Kind.RECOMPUTE]
    for op in recomputes:
        rows.remove(op)
    return {"workspace"} if recomputes else None


def emptied(rows: Rows, random: Random) -> set[str] | None:
    rows.ops, keep = [], random.random() < 0.5
    if not keep:
        rows.buffers = []
    return {"whole-step"}


def head_changed(rows: Rows, random: Random) -> set[str] | None:
    if random.random() < 0.5:
        rows.microbatches = random.choice([rows.microbatches + 1, 2**31 - 1, max(rows.microbatches - 1, 1)])
        had = max(op.key[2] for op in rows.ops) + 1
        return None if rows.microbatches == had else {"whole-step", "labels"}
    had = rows.frozen_units
    rows.frozen_units = random.choice([had + 1, had - 1, 2**31 - 1])
    return {"whole-step", "frozen-front"}


def of_another_kind(rows: Rows, random: Random) -> set[str] | None:
    """On the same queue."""
    op = _pick(rows, random)
    kinds = [kind for kind in Kind if QUEUE_OF[kind] == QUEUE_OF[op.kind] and kind != op.kind]
    if not kinds:
        return None
    op.kind = random.choice(kinds)
    return {"whole-step", "workspace", "labels", "freed-once", "optimizer-once", "operation-shape", "frozen-front"} | {
        "send-recv-pair",
        "task-once",
    }


DAMAGES: tuple[Damage, ...] = (
    left_out,
    doubled,
    on_another_rank,
    with_its_buffers_on_another_rank,
    behind_its_reader,
    before_its_writer,
    behind_the_optimizer,
    recompute_elsewhere,
    transfers_crossed,
    sent_twice,
    names_exchanged,
    lists_exchanged,
    relabelled,
    buffer_relabelled,
    another_copy_read,
    of_another_role,
    of_another_size,
    another_size_moved,
    buffer_elsewhere,
    another_buffer,
    buffer_missing,
    buffer_added,
    edge_missing,
    edge_doubled,
    freed_too_early,
    microbatch_left_out,
    unit_left_out,
    no_recompute,
    emptied,
    head_changed,
    of_another_kind,
)
