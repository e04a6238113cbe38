"""The GPUs that communicate beside the pipeline's sends: in what groups, and how long a tensor takes them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from loadahead.scenarios.communication.collectives import Collectives
from loadahead.scenarios.communication.groups import Groups
from loadahead.scenarios.schema import Scenario

# The times are of a tensor of so many bytes: about a layer's activations of 4096 tokens, 8192 wide.
NBYTES = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTimes:
    """Says where the GPUs of a kind of group stand, and how long collectives of :data:`NBYTES` take them, in ns.

    Attributes:
        name: the kind, as docs/communication.md has it.
        gpus, hosts, lanes: see :class:`loadahead.scenarios.communication.groups.Group`.
    """

    name: str
    gpus: int
    hosts: int
    lanes: int
    all_reduce_ns: int
    all_gather_ns: int
    all_to_all_ns: int

    def to_dict(self) -> dict[str, Any]:
        """Return the group as plain data."""
        return asdict(self)


def groups_of(scenario: Scenario) -> tuple[GroupTimes, ...]:
    """Return the groups of several GPUs whose collectives are charged; of a model with experts, theirs too.

    They are charged to a transformer alone, and not where communication is ideal.
    """
    if scenario.model.undivided is not None:
        return ()
    setting = scenario.setting()
    collectives = setting.collectives
    if collectives is None:
        return ()
    # Replicas add up gradients among all of them, or among those of a shard and then among its copies.
    unused = ("shard", "copies") if setting.sharing.zero_stage == 0 else ("data",)
    names = [each.name for each in fields(Groups) if getattr(collectives, each.name).gpus > 1]
    return tuple(
        _times(name, collectives)
        for name in names
        if not name.endswith(unused) and (setting.sharing.expert > 1 or not name.startswith("expert"))
    )


def _times(name: str, collectives: Collectives) -> GroupTimes:
    group = getattr(collectives, name)
    return GroupTimes(
        name=name,
        gpus=group.gpus,
        hosts=group.hosts,
        lanes=group.lanes,
        all_reduce_ns=collectives.all_reduce(group, NBYTES),
        all_gather_ns=collectives.all_gather(group, NBYTES),
        all_to_all_ns=collectives.all_to_all(group, NBYTES),
    )
