"""A transfer carries what its task wrote to the rank that reads it, in its turn, into memory that was taken for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from loadahead.sim.compiled import compiled
from loadahead.sim.ir.kinds import RECV_KINDS, SEND_KINDS, SENT_AS, Kind, Role
from loadahead.sim.ir.plan import Ints, Plan, Ragged
from loadahead.sim.verify.happens_before import Flags, HappensBefore
from loadahead.sim.verify.naming import buffer_name, is_kind
from loadahead.sim.verify.pairs import Pairs, owner, where_both_exist
from loadahead.sim.verify.violation import Violation, title
from loadahead.sim.verify.whole_step import Step

_NONE = -1
# By kind: what a RECV receives, and the step from the unit that reads it to the one that sends it; 0 for other kinds.
_SENT = np.zeros(len(Kind), dtype=np.int64)
_STEP = np.zeros(len(Kind), dtype=np.int64)
for _received, (_sent, _step) in SENT_AS.items():
    _SENT[_received], _STEP[_received] = _sent, _step


@compiled
def _find_senders(kind, unit, microbatch, starts, values, sender, partners):  # type: ignore[no-untyped-def]
    """Fill in the SEND of each RECV, and how many each SEND and each RECV has for a partner."""
    for i in range(len(kind)):
        step = _STEP[kind[i]]
        if step == 0:
            continue
        for e in range(starts[i], starts[i + 1]):
            s = values[e]
            alike = kind[s] == _SENT[kind[i]] and microbatch[s] == microbatch[i]
            if alike and unit[s] == unit[i] + step and unit[s] >= 0:
                sender[i] = s
                partners[i] += 1
                partners[s] += 1


def senders(plan: Plan, step: Step) -> tuple[Ints, Ints]:
    """Return the SEND that each RECV comes directly after, or -1, and the number of partners of each operation.

    What a SEND sends is read by the unit above or, a gradient, by the unit below: so its RECV is told from another.
    Both have shape (operations,).
    """
    sender, partners = np.full(len(plan), _NONE, dtype=np.int64), np.zeros(len(plan), dtype=np.int64)
    after = plan.ops.after
    names = (step.names.of_op, plan.ops.microbatch)
    _find_senders(plan.ops.kind, *names, after.starts, after.values, sender, partners)
    return sender, partners


def sends_and_receives_pair(plan: Plan, step: Step, order: HappensBefore) -> Iterator[Violation]:
    """Require that each RECV comes directly after the SEND of what its task reads, and each SEND before one RECV.

    They are of one size, and the RECV is on the rank of its task's stage, which is another than the SEND's.
    """
    ops = plan.ops
    sender, partners = senders(plan, step)
    receives, sends = is_kind(plan, *RECV_KINDS), is_kind(plan, *SEND_KINDS)
    pair = receives & (partners == 1)
    at = np.flatnonzero(pair)
    # The bytes are the SEND's; a RECV may say them again.
    wrong = (ops.nbytes[at] != 0) & (ops.nbytes[at] != ops.nbytes[sender[at]])
    wrong |= ops.rank[at] == ops.rank[sender[at]]
    wrong |= ops.rank[at] != step.unit_rank[step.names.of_op[at]]
    pair[at] = ~wrong
    for op in np.flatnonzero(receives & ~pair).tolist():
        yield _pair_violation(plan, op, ops.after[op][sends[ops.after[op]]].tolist())
    for op in np.flatnonzero(sends & (partners != 1)).tolist():
        text = f"{title(plan, op)} is received {int(partners[op])} times; once is needed, by the unit that reads it"
        yield Violation("send-recv-pair", text, (op,))


def _pair_violation(plan: Plan, recv: int, sends: list[int]) -> Violation:
    b = plan.op(recv)
    kind, step = SENT_AS[b.kind]
    beside = "below" if step < 0 else "above"
    wanted = f"it needs one {kind.name} of the unit {beside}, of the same microbatch and size"
    if len(sends) != 1:
        text = f"{title(plan, recv)} comes directly after {len(sends)} sends; {wanted} from another rank"
        return Violation("send-recv-pair", text, (recv, *sends))
    a = plan.op(sends[0])
    text = f"{title(plan, recv)} of {b.nbytes} bytes comes after {title(plan, sends[0])} of {a.nbytes} bytes; {wanted}"
    return Violation("send-recv-pair", f"{text} from another rank to its stage's", (sends[0], recv))


def transfers_carry_their_own(plan: Plan, step: Step, order: HappensBefore) -> Iterator[Violation]:
    """Require that a SEND reads what its own task wrote, and that a RECV writes the buffer of its own name."""
    buffers = plan.buffers
    code, writer = step.code, owner(plan.ops.writes, len(buffers))
    for kind, task, role in (
        (Kind.SEND_ACTIVATION, step.forward, Role.OUTPUT),
        (Kind.SEND_GRADIENT, step.backward, Role.GRADIENT),
    ):
        rows, read = _entries(plan.ops.reads, is_kind(plan, kind))
        own = np.where(code[rows] >= 0, task[code[rows]], _NONE)
        wrong = (own < 0) | (writer[read] != own) | (buffers.role[read] != role)
        for entry in np.flatnonzero(wrong).tolist():
            op, buffer, by = int(rows[entry]), int(read[entry]), int(writer[read[entry]])
            wrote = f", which {title(plan, by)} writes" if by >= 0 else ""
            text = f"{title(plan, op)} sends {buffer_name(plan, buffer)}{wrote}; it sends the {role.label} that "
            text += f"{title(plan, int(own[entry]))} writes" if own[entry] >= 0 else "the task that it names writes"
            yield Violation("send-own", text, tuple(sorted({op, by} - {_NONE})))
    for kind, role in ((Kind.RECV_ACTIVATION, Role.BOUNDARY), (Kind.RECV_GRADIENT, Role.GRADIENT)):
        rows, written = _entries(plan.ops.writes, is_kind(plan, kind))
        # A gradient that arrives may be called by the unit that reads it, by the one whose input's it is, or by none.
        called = step.names.of_buffer[written]
        apart = called - step.names.of_op[rows]
        odd = (
            (apart < 0)
            | (apart > int(role == Role.GRADIENT))
            | (buffers.microbatch[written] != plan.ops.microbatch[rows])
        )
        wrong = (buffers.role[written] != role) | (odd & ((called >= 0) | (role != Role.GRADIENT)))
        for entry in np.flatnonzero(wrong).tolist():
            op = int(rows[entry])
            text = f"{title(plan, op)} receives into {buffer_name(plan, int(written[entry]))}; it writes a {role.label}"
            yield Violation("receive-own", f"{text} of its own stage, unit and microbatch", (op,))


def _entries(column: Ragged, chosen: Flags) -> tuple[Ints, Ints]:
    """Return the rows and the values of the entries of these rows."""
    rows = column.rows()
    own = chosen[rows]
    return rows[own], column.values[own].astype(np.int64)


def transfers_in_order(plan: Plan, step: Step, order: HappensBefore) -> Iterator[Violation]:
    """Require that what one rank sends to another is received in the order in which it is sent."""
    sender, _ = senders(plan, step)
    recv = np.flatnonzero(sender >= 0)
    send = sender[recv]
    ranks = plan.ops.rank[send].astype(np.int64) * plan.ranks + plan.ops.rank[recv]
    # A queue's order is that of the list.
    by_send = np.lexsort((send, ranks))
    same = ranks[by_send][1:] == ranks[by_send][:-1]
    crossed = same & (recv[by_send][1:] < recv[by_send][:-1])
    for index in np.flatnonzero(crossed).tolist():
        (a, b), (sent_a, sent_b) = recv[by_send[index : index + 2]].tolist(), send[by_send[index : index + 2]].tolist()
        text = (
            f"{title(plan, b)} stands before {title(plan, a)}, and {title(plan, sent_b)} behind {title(plan, sent_a)}; "
            "between two ranks what is sent first is received first"
        )
        yield Violation("transfer-order", text, (b, a))


def transfers_fit(plan: Plan, step: Step, order: HappensBefore) -> Iterator[Violation]:
    """Require that a RECV writes a buffer of the bytes that its SEND moves."""
    sender, _ = senders(plan, step)
    rows, written = _entries(plan.ops.writes, sender >= 0)
    send = sender[rows]
    for entry in np.flatnonzero(plan.buffers.nbytes[written] != plan.ops.nbytes[send]).tolist():
        ops, buffer = (int(send[entry]), int(rows[entry])), int(written[entry])
        text = f"{title(plan, ops[0])} moves {int(plan.ops.nbytes[ops[0]])} bytes; {title(plan, ops[1])} writes "
        text += f"{buffer_name(plan, buffer)} of {int(plan.buffers.nbytes[buffer])}"
        yield Violation("bytes", text, ops)


def sends_land_in_memory(plan: Plan, step: Step, order: HappensBefore) -> Iterator[Violation]:
    """Require that a SEND waits for the operation that takes the memory which its RECV writes."""
    sender, _ = senders(plan, step)
    rows, written = _entries(plan.ops.writes, sender >= 0)
    taken = owner(plan.ops.allocs, len(plan.buffers))
    pairs = Pairs("send-into-memory", "which takes {}, what is sent into")
    pairs.add(*where_both_exist(taken[written], sender[rows], written))
    yield from pairs.broken(plan, order)


TRANSFERS: tuple[Callable[[Plan, Step, HappensBefore], Iterator[Violation]], ...] = (
    sends_and_receives_pair,
    transfers_carry_their_own,
    transfers_in_order,
    transfers_fit,
    sends_land_in_memory,
)
