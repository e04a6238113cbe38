"""Sets of boundaries whose leaving makes room for every task, chosen without a clock: where searches start.

Of the boundaries that are not needed while room is lacking, the one goes that is needed last (Belady, "A study of
replacement algorithms for a virtual-storage computer", 1966). Copies take time, so that one counts only if so many
tasks lie between its own and the lack.
"""

from __future__ import annotations

from loadahead.sim.compiled import compiled


@compiled
def cover(level, room, forward_at, backward_at, sizes, before, behind, first, leaves):  # type: ignore[no-untyped-def]
    """Choose one rank's boundaries in ``leaves`` until no task lacks room, as far as possible.

    Args:
        level: bytes of boundaries during each task of the rank, which change as boundaries are chosen; shape (tasks,).
        room: the most that they may take; shape (tasks,).
        forward_at, backward_at, sizes: of each candidate, its tasks counted on the rank, and its bytes.
        before, behind: tasks between a candidate's FORWARD and a lack, and between the lack and its BACKWARD.
        first: whether of those needed equally late the one counts that is made first, rather than last.
        leaves: 1 where a candidate leaves; shape (candidates,).
    """
    for g in range(len(level)):
        wide = True  # whether candidates still have to be so far away
        while level[g] > room[g]:
            best = -1
            for i in range(len(leaves)):
                if leaves[i] or forward_at[i] >= g or backward_at[i] <= g:
                    continue
                if wide and (forward_at[i] + before >= g or backward_at[i] - behind <= g):
                    continue
                later = best >= 0 and backward_at[i] > backward_at[best]
                equal = best >= 0 and backward_at[i] == backward_at[best]
                if best < 0 or later or (equal and (forward_at[i] < forward_at[best]) == first):
                    best = i
            if best < 0:
                if not wide:
                    break
                wide = False
                continue
            leaves[best] = 1
            for k in range(forward_at[best] + 1, backward_at[best]):
                level[k] -= sizes[best]
