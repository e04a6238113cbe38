"""Runs a plan on real tensors for several optimizer steps, and measures it and checks its gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from loadahead.executor.backends import Backend, make_backend
from loadahead.executor.checkpoint import Foreseen, Unforeseen
from loadahead.executor.differences import DEPENDS, Differences, recompute_differences, require_finite
from loadahead.executor.links import Hardware, Links
from loadahead.executor.metering import StepMeter
from loadahead.executor.operations import Operations
from loadahead.executor.oracle import PlainTraining, pass_orders
from loadahead.executor.plan_match import stage_ranks
from loadahead.executor.randomness import states_of_threads
from loadahead.executor.replay import StepRun, replay
from loadahead.executor.results import ExecutionResult, StepRecords, result_of
from loadahead.executor.session import Session
from loadahead.executor.sparse import sparse_weights
from loadahead.executor.spec import Batch, ModelSpec
from loadahead.executor.torch_settings import (
    compiled_layers,
    on_device,
    reset_process,
    single_threaded,
    uncompiled,
    without_garbage_collection,
)
from loadahead.executor.user_code import importable_from
from loadahead.sim.costs import Costs
from loadahead.sim.errors import CheckFailed, InputError, LoadaheadError, one_line
from loadahead.sim.ir.plan import Plan
from loadahead.sim.units import counted
from loadahead.sim.verify import check
from loadahead.sim.verify.counting import well_formed
from loadahead.sim.workload import Workload

# A run times at least this many steps.
FEWEST_TIMED = 1
# Where timing each operation costs something, one step in this many does: the others' median is the step time.
TIMED_EVERY = 4

OnStep = Callable[[int, float], None]  # (step, loss)


def execute(
    plan: Plan,
    workload: Workload,
    spec: ModelSpec,
    *,
    costs: Costs,
    steps: int = 6,
    device: str = "cpu",
    delays_seed: int | None = None,
    poison: bool = False,
    check_gradients: bool = True,
    verify: bool = True,
    on_step: OnStep | None = None,
    **backend_settings: Any,
) -> ExecutionResult:
    """Train for ``steps`` optimizer steps as the plan says, and return what was measured.

    Where metering memory takes time, all is done twice from the same start: a run in which every step is metered, and
    compared with plain training, and one whose steps are timed but for the first. Elsewhere the first step after a
    backend's warm-ups is metered operation by operation, and the others for their peaks. On a backend where timing
    every operation costs something, one step in four is timed so, the others as a whole.

    Args:
        workload: says which layers each unit holds.
        costs: the links' bandwidths and latencies, and the device's capacity; nothing else of them is used.
        delays_seed: put random delays before all operations; times then mean nothing.
        poison: fill memory with NaN when it is taken, freed or emptied.
        check_gradients: train a copy plainly, and compare losses, gradients and buffers of every step with it.
        verify: prove the plan first, unless it is proven; only a test of an unproven plan switches this off.
        on_step: called after each step with its number and its loss.
        backend_settings: keyword arguments of the backend's class, e.g. ``copies`` of the cuda backend.

    Raises InputError where plan, model and device do not go together, and CheckFailed for a plan with a race. A failed
    step leaves nothing running.
    """
    for violation in [] if verify else well_formed(plan):
        raise InputError(f"plan {plan.name!r} is malformed: {violation.rule}: {violation.message}")
    if verify:
        check(plan)
    backend = make_backend(device, delays=delays_seed, poisoned=poison, **backend_settings)
    untimed = backend.warm_ups + 1
    if steps < untimed + FEWEST_TIMED:
        backend.close()
        raise InputError(
            f"steps is {steps}; at least {untimed + FEWEST_TIMED} are needed on {device}, as the first "
            f"{untimed if untimed > 1 else 'one'} {'are' if untimed > 1 else 'is'} not timed"
        )
    records = StepRecords()
    run = _Run(plan, workload, spec, backend, Links.of(Hardware.of(costs)), steps, records)
    threads = states_of_threads() if plan.ranks > 1 else nullcontext()
    try:
        with single_threaded(), on_device(backend.device, check_gradients), importable_from(spec.search_path), threads:
            run.until_equal(check_gradients, on_step, proven=verify)
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"plan {plan.name!r} ran out of device memory ({one_line(error, 120)}); use a smaller "
            "horizon or release_window, fewer microbatches, or no second copy of the model (do not check gradients)"
        ) from error
    finally:
        backend.close()
    return result_of(plan, costs, backend, records)


@dataclass(frozen=True, slots=True)
class _Run:
    """Trains the plan's model from its start, once or twice, and collects what the steps leave behind."""

    plan: Plan
    workload: Workload
    spec: ModelSpec
    backend: Backend
    links: Links
    steps: int
    records: StepRecords
    foreseen: dict[str, Foreseen] = field(default_factory=dict)
    dtype: torch.dtype = field(default_factory=torch.get_default_dtype)
    in_turns: list[bool] = field(default_factory=list)  # holds something once ranks take turns

    def until_equal(self, checked: bool, on_step: OnStep | None, proven: bool) -> None:
        """Train; where ranks of a proven plan come out otherwise than plain training, once more, with ranks in turns.

        Ranks share a process, and a layer may set something of it for a while: a kernel, a default, a cache.
        """
        failure: LoadaheadError | None = None
        try:
            self.until_foreseen(checked, on_step)
        except (CheckFailed, InputError) as error:
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
        compiled = compiled_layers(session.model.module)
        drawing = [unit.name for unit in session.units.values() if unit.draws.torch]
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
        foreign = backend.allocated() - before
        operations = Operations(plan, session, backend, self.links)
        untimed, losses = backend.warm_ups + 1, []
        sparse = sparse_weights(session.model.module)
        if sparse and watched:
            records.warnings.append(
                f"{counted(len(sparse), 'weight')} had sparse gradients, which take as much memory as microbatches use "
                "rows: predicted peaks may differ from measured ones"
            )
        for step in range(self.steps):
            batches = session.batches(step, plan.microbatches)
            metered = step == backend.warm_ups if timed else True
            meter = StepMeter(operations, foreign) if metered and (watched or not timed) else None
            session.watch(watched and (not timed or step < backend.warm_ups))
            # Where a backend needs no warming up, timing is free; elsewhere each operation's time costs two events.
            one_by_one = backend.warm_ups == 0 or (step - untimed) % TIMED_EVERY == 0
            whole = None
            if timed and backend.metering_is_free and meter is None:
                whole = backend.meter(session.resident(0), [operations.losses], foreign)
                whole.start_operation()
            with without_garbage_collection():
                run = replay(operations, step, batches, meter, one_by_one)
            if whole is not None:
                records.peaks.append([whole.peak])
            if meter is not None:
                records.metered(meter)
            elif timed and step > backend.warm_ups:
                (records.timed if one_by_one else records.bare).append(run.measured)
            losses.append(run.loss)
            if watched or oracle is not None:
                self._check(step, session, oracle, batches, run)
            if on_step is not None:
                on_step(step, run.loss)
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
        self, step: int, session: Session, oracle: PlainTraining | None, batches: Sequence[Batch], run: StepRun
    ) -> None:
        """Compare a step with plain training; where that is not done, RECOMPUTEs are compared with FORWARDs alone."""
        if oracle is None:
            require_finite(step, session, run.losses, run.loss, plain=False)
            reread, different = recompute_differences(session)
            if reread is not None:
                raise CheckFailed(f"step {step}: {reread}: the plan lets an operation read another's memory")
            if different is not None:
                raise InputError(f"step {step}: {different}; {DEPENDS}")
            return
        self.records.differences = self.records.differences or Differences()
        plain_losses = oracle.train(step, batches)
        self.records.differences.compare(step, session, oracle, run.losses, plain_losses)
        require_finite(step, session, run.losses, run.loss, plain=True)
        oracle.optimize()


def _several(names: Sequence[str]) -> str:
    """Return some names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
