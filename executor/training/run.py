"""Trains a plan's model: checked and metered, timed, and anew where a unit does what was not foreseen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch

from loadahead.executor.backends import Backend
from loadahead.executor.links import Links
from loadahead.executor.model.spec import Batch, ModelSpec
from loadahead.executor.model.unit import Foreseen, Unforeseen
from loadahead.executor.replay.plan_match import stage_ranks
from loadahead.executor.shipped_models.kept import KEPT
from loadahead.executor.tensors.sparse import sparse_weights
from loadahead.executor.torch_settings import (
    compiled_layers,
    reset_process,
    uncompiled,
)
from loadahead.executor.training.differences import DEPENDS, Differences, recompute_differences, require_finite
from loadahead.executor.training.oracle import PlainTraining, pass_orders
from loadahead.executor.training.results import StepRecords
from loadahead.executor.training.session import Session, UnitKey
from loadahead.executor.training.step import BoundStep, Taken, unlike_costs
from loadahead.sim.errors import CheckFailed, InputError, LoadaheadError
from loadahead.sim.ir.plan import Plan
from loadahead.sim.units import counted
from loadahead.sim.workload import Workload

OnStep = Callable[[int, float], None]  # (step, loss)


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """Trains a plan's model from its start, as often as it takes, and collects what the steps leave behind.

    Attributes:
        lean: the units that are checkpointed the lean way, where the same comes out so.
        foreseen: what units do that a traced microbatch does not show, by their names.
        dtype: the process' default type of floating-point numbers when all began.
        in_turns: holds something once ranks take turns.
    """

    plan: Plan
    workload: Workload
    spec: ModelSpec
    backend: Backend
    links: Links
    steps: int
    records: StepRecords
    lean: frozenset[UnitKey] = frozenset()
    foreseen: dict[str, Foreseen] = field(default_factory=dict)
    dtype: torch.dtype = field(default_factory=torch.get_default_dtype)
    in_turns: list[bool] = field(default_factory=list)

    def until_equal(self, checked: bool, on_step: OnStep | None, proven: bool) -> None:
        """Train; where ranks of a proven plan come out otherwise than plain training, once more, with ranks in turns.

        Ranks share a process, and a layer may set something of it for a while: a kernel, a default, a cache.
        """
        failure: LoadaheadError | None = None
        try:
            self.until_foreseen(checked, on_step)
        except (CheckFailed, InputError) as error:
            if not _may_be_shared(error):
                raise
            failure = error
        found = self.records.differences
        if failure is None and (found is None or found.first is None) and not self.records.unlike_runs:
            return
        kept = {name: getattr(self.records, name) for name in self.records.__slots__}
        if self.plan.ranks > 1 and proven:
            self.records.clear()
            self.in_turns.append(True)
            try:
                self.until_foreseen(checked, on_step)
            except (CheckFailed, InputError):
                pass
            else:
                again = self.records.differences
                if (again is None or again.first is None) and not self.records.unlike_runs:
                    self.records.warnings.append(
                        "units of different ranks took turns: a layer sets something of the whole process while it "
                        "runs, such as a kernel, a default or a cache, and ranks share a process here; measured times "
                        "are longer than those of as many processes"
                    )
                    return
        if failure is not None:
            raise failure
        for name, value in kept.items():
            setattr(self.records, name, value)

    def until_foreseen(self, checked: bool, on_step: OnStep | None) -> None:
        """Train, and begin anew as long as a watched unit does what was not foreseen."""
        while True:
            try:
                self.train_all(checked, on_step)
            except Unforeseen as error:
                known = self.foreseen.get(error.unit, Foreseen())
                if (known | error.what) == known:
                    paths = ", ".join(sorted(error.what.paths)) or "random numbers"
                    raise InputError(
                        f"the model's unit {error.unit} changes {paths} in a way that RECOMPUTE cannot start from; use "
                        "checkpoint.enabled = false"
                    ) from error
                self.foreseen[error.unit] = known | error.what
                self.records.clear()
                continue
            for unit, what in self.foreseen.items():
                if what.paths:
                    self.records.warnings.append(
                        f"unit {unit} changes {', '.join(sorted(what.paths)[:3])} at some time and did not when it was "
                        "traced; RECOMPUTE starts from the values before, which the plan's memory does not count"
                    )
            return

    def train_all(self, checked: bool, on_step: OnStep | None) -> None:
        """Train as often as the backend, and layers that torch compiles, need it."""
        session = self._session()
        self.records.warnings += unlike_costs(session.in_units.not_lean(self.lean))
        compiled = compiled_layers(session.model.module)
        drawing = [unit.name for unit in session.in_units.units.values() if unit.draws.torch]
        eager = bool(compiled) and self.plan.ranks > 1 and bool(drawing)
        if eager:
            self.records.warnings.append(
                f"layers that torch.compile compiles ({_several(compiled)}) run uncompiled: ranks that share a process "
                "draw random numbers operator by operator; measured times are longer than compiled ones"
            )
        with uncompiled() if eager else nullcontext():
            if self.backend.metering_is_free:
                self.train(session, checked=checked, watched=True, timed=True, on_step=on_step)
            elif compiled and not eager:
                self.records.warnings.append(
                    f"memory was metered with layers that torch.compile compiles ({_several(compiled)}) run as they "
                    "are written; times are those of compiled layers"
                )
                with uncompiled():
                    self.train(session, checked=False, watched=True, timed=False, on_step=on_step)
                del session
                self.records.losses.clear()
                self.train(self._session(), checked=checked, watched=False, timed=True, on_step=None)
            else:
                self.train(session, checked=checked, watched=True, timed=False, on_step=on_step)
                del session  # its weights and gradients
                self.train(self._session(), checked=False, watched=False, timed=True, on_step=None)

    def _session(self) -> Session:
        reset_process(self.dtype)
        ranks = stage_ranks(self.plan, self.workload)
        return Session(
            self.spec,
            self.workload,
            ranks,
            self.backend.device,
            self.plan.microbatches,
            self.foreseen,
            self.lean,
            one_at_a_time=bool(self.in_turns),
        )

    def train(self, session: Session, *, checked: bool, watched: bool, timed: bool, on_step: OnStep | None) -> None:
        """Train all steps: compared with plain training, watched for what RECOMPUTE does otherwise, or timed.

        Where metering memory takes time, a run is either metered in every step or timed; else one does both.
        """
        plan, backend, records = self.plan, self.backend, self.records
        before = backend.allocated()
        oracle = PlainTraining(session, *pass_orders(plan)) if checked else None
        if checked and backend.device.type == "cpu":
            session.copy_gradients()
        foreign = backend.allocated() - before + KEPT.nbytes(backend.device)
        step_of = BoundStep(plan, session.in_units, session, backend, self.links)
        losses = []
        sparse = sparse_weights(session.model.module)
        if sparse and watched:
            records.warnings.append(
                f"{counted(len(sparse), 'weight')} had sparse gradients, which take as much memory as microbatches use "
                "rows: predicted peaks may differ from measured ones"
            )
        for step in range(self.steps):
            batches = session.batches(step, plan.microbatches)
            metered = step == backend.warm_ups if timed else True
            metered = metered and (watched or not timed)
            session.in_units.watch(watched and (not timed or step < backend.warm_ups))
            one_by_one = step_of.is_timed(step)
            peaked = timed and backend.metering_is_free and not metered
            taken = step_of.run(step, batches, metered=metered, peaked=peaked, one_by_one=one_by_one, foreign=foreign)
            if taken.peak is not None:
                records.peaks.append([taken.peak])
            if taken.meter is not None:
                records.metered(taken.meter)
            elif timed and step > backend.warm_ups:
                assert taken.measured is not None, "a step that is waited for is measured"
                (records.timed if one_by_one else records.bare).append(taken.measured)
            losses.append(taken.loss)
            if watched or oracle is not None:
                self._check(step, session, oracle, batches, taken)
            if on_step is not None:
                on_step(step, taken.loss)
            del taken  # its losses lie on the device, and are no part of the next step's memory
        if not records.losses:
            records.losses = losses
        elif losses != records.losses:
            step = next(at for at, pair in enumerate(zip(losses, records.losses, strict=True)) if pair[0] != pair[1])
            sentence = (
                f"step {step}: the loss is {losses[step]!r} in the timed run and was {records.losses[step]!r} in the "
                "one before; the model, its data or its loss does not do the same in two runs from one start"
            )
            if records.differences is not None:
                raise CheckFailed(sentence)
            records.unlike_runs = True
            records.warnings.append(sentence)
        if timed:
            records.weights = session.weights()

    def _check(
        self, step: int, session: Session, oracle: PlainTraining | None, batches: Sequence[Batch], taken: Taken
    ) -> None:
        """Compare a step with plain training; where that is not done, RECOMPUTEs are compared with FORWARDs alone."""
        if oracle is None:
            require_finite(step, session, taken.losses, taken.loss, plain=False)
            reread, different = recompute_differences(session)
            if reread is not None:
                raise CheckFailed(f"step {step}: {reread}: the plan lets an operation read another's memory")
            if different is not None:
                raise InputError(f"step {step}: {different}; {DEPENDS}")
            return
        self.records.differences = self.records.differences or Differences()
        plain_losses = oracle.train(step, batches)
        self.records.differences.compare(step, session, oracle, taken.losses, plain_losses)
        require_finite(step, session, taken.losses, taken.loss, plain=True)
        oracle.optimize()


def _may_be_shared(error: LoadaheadError) -> bool:
    """Return whether an error is of a kind that ranks bring about which disturb each other."""
    return isinstance(error, CheckFailed) or any(part in str(error) for part in ("RECOMPUTE", "backward pass"))


def _several(names: Sequence[str]) -> str:
    """Return some names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
