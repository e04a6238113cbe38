"""A scenario's inspection puts together what was understood of it; nothing is simulated or run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from loadahead.compiling import compile_first
from loadahead.inspection.copies import StageCopies, stages_of
from loadahead.inspection.groups import GroupTimes, groups_of
from loadahead.inspection.resources import Resource, crossing_sends, resources_of
from loadahead.inspection.room import Room, room_of
from loadahead.inspection.units import UnitPlace, units_of
from loadahead.jobs import named, tuned_or_nearest
from loadahead.scenarios.placement import placement_of
from loadahead.scenarios.prepare import Prepared
from loadahead.scenarios.schema import Scenario
from loadahead.sim.costs import Costs, SharedLinks
from loadahead.sim.placement import RankMap, Reach
from loadahead.sim.planner import Policy
from loadahead.sim.shown import Shown
from loadahead.sim.step_metrics import CAPACITY
from loadahead.sim.units import counted

_FITS_NOT_KNOWN = "What fits is not known: calibrate, and give the costs."


@dataclass(frozen=True, slots=True, kw_only=True)
class Degrees:
    """Says how many processes there are, by which degrees, on how many hosts, and in which order they fill these."""

    data_parallel_degree: int
    pipeline_parallel_degree: int
    tensor_parallel_degree: int
    processes: int
    hosts: int
    order: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Inspection(Shown):
    """Holds what was understood of a scenario.

    Attributes:
        policy: order, microbatches, checkpointing and offloading.
        units: each unit's place, bytes, FLOPs and times.
        ranks: where each process stands and what it works on.
        resources: what the GPUs of a host have and share.
        groups: the GPUs that communicate beside the pipeline's sends.
        stages: each stage's copies beside its computing.
        crossing_sends: the ranks of the pipeline that send to the next one on another host, in any replica or part.
        partly_crossing_sends: those of them that do so in some replicas or tensor parts, and in others do not.
        room: what fits; None where the units' costs are not known.
        costs: where times and workspaces come from; None where they are not known.
        warnings: sentences about settings that do not do what they seem to.
    """

    scenario: str
    policy: Policy
    degrees: Degrees
    units: tuple[UnitPlace, ...]
    ranks: RankMap
    resources: tuple[Resource, ...]
    groups: tuple[GroupTimes, ...]
    stages: tuple[StageCopies, ...]
    crossing_sends: tuple[int, ...]
    partly_crossing_sends: tuple[int, ...]
    room: Room | None
    costs: str | None = None
    warnings: tuple[str, ...] = ()

    def _in_a_line(self) -> str:
        """Return the scenario's name, how many processes and units there are, and whether they fit."""
        fits = {True: "it fits", False: "it does not fit", None: "what fits is not known"}[self.fits]
        processes = f"{self.degrees.processes} process{'es' * (self.degrees.processes != 1)}"
        return f" of {self.scenario!r}: {processes}, {counted(len(self.units), 'unit')}; {fits}"

    @property
    def fits(self) -> bool | None:
        """Return whether the plan fits and keeps its budget; None where the units' costs are not known."""
        return None if self.room is None else self.room.fits

    @property
    def room_sentences(self) -> tuple[str, ...]:
        """Return a sentence each about the devices' memory and the hosts', and on the budget where there is one."""
        return (_FITS_NOT_KNOWN,) if self.room is None else self.room.sentences

    def to_dict(self) -> dict[str, Any]:
        """Return the inspection as plain data (DESIGN, section 4, inspect). Times are in ns, sizes in bytes."""
        room = self.room
        return {
            "scenario": self.scenario,
            "policy": self.policy.to_dict(),
            "costs": self.costs,
            "degrees": asdict(self.degrees),
            "units": [unit.to_dict() for unit in self.units],
            "ranks": self.ranks.rows(),
            "resources": [resource.to_dict() for resource in self.resources],
            "groups": [group.to_dict() for group in self.groups],
            "stages": [stage.to_dict() for stage in self.stages],
            "crossing_sends": list(self.crossing_sends),
            "partly_crossing_sends": list(self.partly_crossing_sends),
            "memory": [] if room is None else [asdict(rank) for rank in room.ranks],
            CAPACITY: None if room is None else room.capacity_bytes,
            "hosts": [] if room is None else [host.to_dict() for host in room.hosts],
            "fits": self.fits,
            "sentences": list(self.room_sentences),
            "warnings": list(self.warnings),
        }


def inspect_prepared(prepared: Prepared) -> Inspection:
    """Return what was understood of a prepared scenario; raise InputError where its parts do not go together."""
    scenario, workload, policy, costs = prepared.scenario, prepared.workload, prepared.policy, prepared.costs
    with named(scenario.name):
        if costs is not None:
            costs.require_units([len(stage) for stage in workload.stages])
        compile_first()
        known = costs or _without_units(scenario)
        # Where tuning decides, what fits is its plan, or the nearest to it.
        tuning = tuned_or_nearest(prepared) if policy.is_tuned and costs is not None else None
        placement = known.placement
        places = placement.table(policy.ranks, (known.shared or SharedLinks()).gpus_per_switch)
        static = prepared.static_bytes if costs is None else costs.static_bytes or (0,) * len(workload.stages)
        return Inspection(
            scenario=scenario.name,
            policy=policy,
            degrees=Degrees(
                data_parallel_degree=placement.data,
                pipeline_parallel_degree=policy.ranks,
                tensor_parallel_degree=placement.tensor,
                processes=len(places.rank),
                hosts=places.hosts,
                order=placement.order,
            ),
            units=units_of(prepared, costs),
            ranks=places,
            resources=resources_of(known, places),
            groups=groups_of(scenario),
            stages=stages_of(workload, policy, costs, static),
            crossing_sends=crossing_sends(placement, policy.ranks, Reach.BOTH, Reach.NETWORK),
            partly_crossing_sends=crossing_sends(placement, policy.ranks, Reach.BOTH),
            room=None if costs is None else room_of(workload, policy, costs, places, scenario.name, tuning),
            costs=None if costs is None else costs.source,
            warnings=prepared.warnings,
        )


def _without_units(scenario: Scenario) -> Costs:
    """Return what the scenario says of links and hosts, as costs of no unit."""
    hardware = scenario.hardware
    places = {"placement": placement_of(scenario.parallel, hardware), "shared": hardware.shared()}
    known = {**hardware.links(), **hardware.routes(), **places}
    return Costs.model_construct(units=(), static_bytes=(), **known)
