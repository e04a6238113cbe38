"""One step of a plan in the user's own training loop: the model, data, optimizer and all else stay the user's."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload

from loadahead.arguments import Estimate, costs_given, decisions_given, order_given, require_device
from loadahead.jobs import Job, job_of_prepared, named, prepare_scenario, refuse_choices, times_needed, with_choice
from loadahead.plan_files import is_plan_file, read_plan
from loadahead.prediction import predict
from loadahead.sim.errors import InputError
from loadahead.sim.ir.plan import Plan
from loadahead.sim.shown import Shown
from loadahead.sim.units import counted
from loadahead.sim.workload import IN_MEMORY

if TYPE_CHECKING:
    from loadahead.arguments import DecisionsSource, OrderSource
    from loadahead.executor.model.foreseen import Foreseen, Unforeseen
    from loadahead.executor.model.spec import Batch, LossFunction, Modules
    from loadahead.executor.training.users_model import Condition, Device, Dtype, Tensor
    from loadahead.executor.training.users_step import UsersStep
    from loadahead.scenarios.loader import Overrides, ScenarioSource
    from loadahead.scenarios.prepare import Prepared
    from loadahead.scenarios.schema import Scenario
    from loadahead.sim.costs import Costs
    from loadahead.sim.ir.decisions import Decisions
    from loadahead.sim.planner import Order
    from loadahead.sim.step_metrics import StepMetrics
    from loadahead.sim.timeline import Timeline
    from loadahead.sim.workload import ModuleShapes

_GIVEN_UP = (
    "the step was given up, and its gradients, or a part of them, were added; zero them and call again, from now on "
    "it is known"
)

# What of a scenario's table [model] says how layers are run that are given.
_KEPT = ("autocast", "loss", "search_path", "seed")


@dataclass(frozen=True, slots=True)
class _Recipe:
    """Says what a step's plan is made of, once the shapes of the layers are known.

    Attributes:
        plan: the plan where one was given.
        scenario: the scenario, whose model is the layers.
        warnings: sentences about what is without effect.
    """

    scenario: Scenario
    plan: Plan | None = None
    costs: Costs | None = None
    order: Order | None = None
    decisions: Decisions | None = None
    warnings: tuple[str, ...] = ()

    @property
    def microbatches(self) -> int:
        """Return how many microbatches a step has."""
        given = self.plan or self.order
        return self.scenario.parallel.microbatches if given is None else given.microbatches

    def job(self, shapes: ModuleShapes, device: str, autocast: str | None) -> Job:
        """Return the proven plan of layers with these shapes."""
        scenario = self.scenario
        if autocast is not None:
            table = scenario.model.model_copy(update={"autocast": autocast})
            scenario = scenario.model_copy(update={"model": table})
        with named(scenario):
            if self.plan is None:
                prepared = prepare_scenario(scenario, self.costs, device, order=self.order, shapes=shapes)
                job = job_of_prepared(self._noted(prepared), self.decisions)
                if job.undecided:
                    raise times_needed(scenario.name)
                return job
            placement = tuple(self.plan.stage_rank.tolist())
            prepared = prepare_scenario(
                scenario, self.costs, device, len(placement), placement=placement, shapes=shapes
            )
        prepared = self._noted(prepared)
        return Job(
            name=self.plan.name,
            plan=self.plan,
            prepared=prepared,
            costs=prepared.costs,
            warnings=prepared.warnings,
            by_horizon=False,
        )

    def _noted(self, prepared: Prepared) -> Prepared:
        return replace(prepared, warnings=(*self.warnings, *prepared.warnings))


class Seeds:
    """Gives the seeds of a step's units, for ``torch.manual_seed`` before the first layer of a unit.

    ``seeds[step, unit, microbatch]`` is one, with units counted through the model; ``seeds[step]`` holds all of a
    step, as ``[unit][microbatch]``.
    """

    def __init__(self, training: TrainingStep) -> None:
        """Look seeds up for a step."""
        self._training = training

    @overload
    def __getitem__(self, at: int) -> list[list[int]]: ...

    @overload
    def __getitem__(self, at: tuple[int, int, int]) -> int: ...

    def __getitem__(self, at: int | tuple[int, int, int]) -> int | list[list[int]]:
        """Return one seed, or a step's."""
        from loadahead.executor.training.users import unit_seed

        seed = self._training.seed
        if isinstance(at, tuple) and [*map(type, at)] == [int] * 3 and min(at) >= 0:
            return unit_seed(seed, *at)
        if type(at) is int and at >= 0:
            units = len(self._training.units)
            microbatches = self._training.microbatches
            return [[unit_seed(seed, at, unit, mb) for mb in range(microbatches)] for unit in range(units)]
        raise InputError(f"seeds[{at!r:.40}]: give a step, or (step, unit, microbatch), whole numbers from 0 on")


class TrainingStep(Shown):
    """Runs one step of a plan over layers, data and a loss that are the caller's, and leaves gradients to the caller.

    ``mean_loss = training(batches)`` takes as many pairs (input, target) as the plan has microbatches, divides each
    loss by their number, returns the mean, and adds the gradients to those there are. Weights, gradients, buffers,
    hooks and train flags are the layers' own, which are never copied. Optimizer, schedule, clipping and scaler stay
    the caller's; OPTIMIZER_STEP does nothing and takes no time. On the CPU each rank is a thread.

    What is planned depends on the shapes of the data, and they come with the first batch: the first call traces it,
    plans and proves. So does the first call after a train flag, ``requires_grad``, a weight or the caller's autocast
    has changed. On the CPU the first step after that is metered, which takes longer, and its memory stands for later
    ones; one more is, once as many gradients are there before a step as there will be.

    Args:
        layers: an ``nn.Sequential``, an ``nn.ModuleList`` or a list of modules, run one after the other.
        scenario: what :func:`loadahead.load` takes, whose table ``[model]`` may be left out; or a plan, or its file.
        loss: called as (output, target); returns a scalar, the mean over the microbatch. None: the scenario's
            ``model.loss``.
        device: ``"cpu"`` or ``"cuda"``; the layers and the data are there.
        costs: what the prediction uses, costs, their file or ``"estimate"``; None: the scenario's.
        overrides: new values by the key's full path.
        order, decisions: those of :func:`loadahead.plan`.

    Raises InputError, in one line, for a mistake in any of it.
    """

    def __init__(
        self,
        layers: Modules,
        scenario: ScenarioSource | Plan,
        *,
        loss: LossFunction | None = None,
        device: str | Device = "cpu",
        costs: Costs | str | Path | None = None,
        overrides: Overrides | None = None,
        order: OrderSource | None = None,
        decisions: DecisionsSource | None = None,
    ) -> None:
        """Look at everything that is known before the first batch."""
        from loadahead.executor.backends import torch_device
        from loadahead.executor.model.spec import require_no_weights
        from loadahead.executor.training.users_model import UsersModel, device_name, require_device_of

        self._name = device_name(device)
        require_device(self._name)
        where = torch_device(self._name)
        require_device_of(where, device)
        self._recipe, own_loss = _recipe(scenario, overrides, costs_given(costs), order, decisions)
        given = own_loss if loss is None else loss
        if given is None:
            raise InputError(
                "loss is missing: give loss = a function (output, target) -> one number", parameters=("loss",)
            )
        if not callable(given):
            raise InputError(
                f"loss is of type {type(given).__name__}; it must be a function (output, target) -> number"
            )
        require_no_weights(given, "the loss given")
        self._loss, self._loss_name = given, "the loss given" if loss is not None else "the scenario's loss"
        self._model = UsersModel(layers, where)
        self._seed: int = self._recipe.scenario.model.seed  # type: ignore[attr-defined]
        self._step = 0
        self._bound: UsersStep | None = None
        self._job: Job | None = None
        self._condition: Condition | None = None
        self._planned: Any = ()
        self._finalizer: weakref.finalize[..., TrainingStep] | None = None
        self._closed = False
        # What units did that their traced microbatch had not shown, by their names.
        self._foreseen: dict[str, Foreseen] = {}
        # Units that are not the same without a graph, by their names.
        self._sparing: set[str] = set()

    def __call__(self, batches: Iterable[Batch], *, scaler: Any = None) -> Tensor:
        """Run one step, and return its mean loss, a tensor on the device; gradients are added to those there are.

        ``scaler`` is a ``torch.amp.GradScaler``: gradients are scaled as by ``scaler.scale(loss).backward()``, and the
        loss that is returned is not. After a step that failed, the next one works; it has the failed one's number.
        """
        from loadahead.executor.backends.cpu import in_queue
        from loadahead.executor.model.foreseen import Unforeseen
        from loadahead.executor.training.users_data import batches_of, require_shapes
        from loadahead.executor.training.users_model import require_gradients_on, scale_of
        from loadahead.executor.training.users_step import NotAlike

        if self._closed:
            raise InputError("the step is closed; make a new TrainingStep")
        if in_queue():
            raise InputError(
                "the step is called while another one runs, from its layers or its loss, and would wait for it for "
                "ever; call one after the other"
            )
        require_gradients_on()
        given = batches_of(batches, self.microbatches, self._model.device)
        scale = scale_of(scaler, self._model.device)
        condition = self._model.condition(self._scenario_autocast())
        if self._planned:
            require_shapes(given, self._planned)
        if self._bound is None or condition != self._condition:
            self._bind(given, condition)
        assert self._bound is not None
        try:
            mean = self._bound.run(self._step, given, scale)
        except Unforeseen as error:
            raise self._learnt(error) from error
        except NotAlike as error:
            self._sparing.add(error.unit)
            self._unbind()
            raise InputError(
                f"unit {error.unit} makes other numbers without a graph than with one, and its costs are those of a "
                f"FORWARD without: {_GIVEN_UP}"
            ) from error
        self._step += 1
        return mean

    def _lean(self, job: Job) -> set[tuple[int, int]]:
        """Return the units that the costs say to checkpoint the lean way, without those that did not do the same."""
        lean = set() if job.costs is None else job.costs.lean_units
        return {(stage, unit) for stage, unit in lean if f"{stage}.{unit}" not in self._sparing}

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy begins with: layers and settings; it plans and binds anew at its first call."""
        return self.__dict__ | {"_bound": None, "_condition": None, "_finalizer": None}

    def _learnt(self, error: Unforeseen) -> InputError:
        """Remember what a unit does, for the next binding; return the error of the step that it came out in."""
        from loadahead.executor.model.foreseen import Foreseen

        self._foreseen[error.unit] = self._foreseen.get(error.unit, Foreseen()) | error.what
        self._unbind()
        paths = ", ".join(sorted(error.what.paths)[:3])
        return InputError(
            f"unit {error.unit} {f'changes {paths}' if paths else 'draws random numbers'}, which it did not do when "
            f"the first batch was traced: {_GIVEN_UP}"
        )

    def __enter__(self) -> Self:
        """Return the step itself, to be closed at the end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the step."""
        self.close()

    def close(self) -> None:
        """Give threads and pinned memory back; the step cannot be called any more. Layers stay as they are."""
        self._closed = True
        self._unbind()

    # ---- what is asked of it ----

    def _in_a_line(self) -> str:
        """Return where it runs, and its plan; before the first batch there is none."""
        planned = f"{self._job.plan.name!r}" if self._job is not None else "not planned yet, as no batch was seen"
        return f" on {self._name}: {planned}, {self.microbatches} microbatches, {counted(self.step, 'step')} done"

    @property
    def step(self) -> int:
        """How many steps are done, which is the number of the next one."""
        return self._step

    @property
    def seed(self) -> int:
        """What all seeds are made of: the scenario's ``model.seed``, or that of a state that was loaded."""
        return self._seed

    @property
    def seeds(self) -> Seeds:
        """The seeds by step, unit and microbatch, see :class:`Seeds`."""
        return Seeds(self)

    @property
    def microbatches(self) -> int:
        """How many batches a step takes."""
        return self._recipe.microbatches

    @property
    def units(self) -> tuple[int, ...]:
        """How many layers each unit has, in the model's order; InputError before the first batch."""
        stages = self._known().known().workload.stages
        return tuple(unit.layers[1] - unit.layers[0] for stage in stages for unit in stage)

    @property
    def plan(self) -> Plan:
        """The plan; InputError before the first batch, unless one was given."""
        return self._recipe.plan or self._known().plan

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about settings that do not do what they seem to; more may come with the first batch."""
        known = self._recipe.warnings if self._job is None else self._job.warnings
        return known if self._bound is None else (*known, *self._bound.warnings)

    @property
    def predicted(self) -> Timeline:
        """The step on the simulator's clock, without an optimizer; InputError where no costs are known."""
        job = self._known()
        if job.costs is None:
            raise InputError(
                "no costs are known to predict the step with: give costs=la.calibrate(...) or a costs file",
                parameters=("costs",),
            )
        own = {"static_bytes": job.known().static_bytes, "optimizer_ns": (), "optimizer_workspace": ()}
        costs = job.costs.model_copy(update=own)
        return predict(replace(job, costs=costs), costs)

    @property
    def metrics(self) -> StepMetrics:
        """The time and the ranks' peaks, stalls and overlap of :meth:`timeline`."""
        return self.timeline().metrics

    @property
    def measured(self) -> Timeline:
        """What :meth:`timeline` returns, by the name that a run has it by."""
        return self.timeline()

    def timeline(self) -> Timeline:
        """Return the last step's measured timeline; on a GPU that of the last step that was timed, one in four.

        Its memory is that of a metered step: see ``header["metering"]``. The optimizer's state is the caller's and is
        not in it.
        """
        if self._bound is None:
            raise InputError("no step was taken yet: call the step with batches first")
        measured = self._bound.timeline()
        job = self._known()
        header = {"scenario": job.name, **measured.header}
        return replace(measured, header=header | {"warnings": [*job.warnings, *measured.header["warnings"]]})

    def state_dict(self) -> dict[str, int]:
        """Return the number of the next step and the seed, to go on elsewhere; layers and optimizer have their own."""
        return {"step": self._step, "seed": self._seed}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from a state: the next step has its number, and all seeds are made of its seed."""
        given: Any = state
        values = [given[name] for name in ("step", "seed") if name in given] if isinstance(given, Mapping) else []
        if len(values) != 2 or not all(type(value) is int and value >= 0 for value in values):
            raise InputError(f"the state is {given!r:.60}; it must be what state_dict() returned: a step and a seed")
        self._step, self._seed = state["step"], state["seed"]
        if self._bound is not None:
            self._bound.seed_from(self._seed)

    # ---- parts of them ----

    def _known(self) -> Job:
        if self._job is None:
            raise InputError("the plan is made of the shapes of the first batch: call the step with batches first")
        return self._job

    def _scenario_autocast(self) -> Dtype | None:
        from loadahead.executor.model.spec import AUTOCAST

        return AUTOCAST[self._recipe.scenario.model.autocast]  # type: ignore[attr-defined]

    def _bind(self, batches: list[Batch], condition: Condition) -> None:
        """Trace the first batch, plan, prove, and bind the plan to the layers as they are now."""
        from loadahead.executor.backends import make_backend
        from loadahead.executor.links import Hardware
        from loadahead.executor.trace import trace_users_layers
        from loadahead.executor.training.users_data import require_shapes, shapes_of
        from loadahead.executor.training.users_model import autocast_name
        from loadahead.executor.training.users_step import UsersStep
        from loadahead.scenarios.placement import placement_of

        self._unbind()
        shapes = shapes_of(batches[0])
        require_shapes(batches, shapes)
        self._model.require_runnable()
        module = self._model.module
        traced = trace_users_layers(
            module, batches[0], self._loss, self._loss_name, self._model.device, condition.autocast, self._seed
        )
        job = self._recipe.job(traced, self._name, autocast_name(condition.autocast))
        scenario = job.known().scenario
        links = scenario.hardware.links()
        backend = make_backend(self._name)
        try:
            bound = UsersStep(
                job.plan,
                job.known().workload,
                module,
                loss=self._loss,
                loss_name=self._loss_name,
                batch=batches[0],
                seed=self._seed,
                autocast=condition.autocast,
                backend=backend,
                hardware=Hardware(**links) if job.costs is None else Hardware.of(job.costs),
                placement=placement_of(scenario.parallel, scenario.hardware),
                lean=self._lean(job),
                foreseen=self._foreseen,
            )
        except BaseException:
            backend.close()
            raise
        self._finalizer = weakref.finalize(self, backend.close)
        self._bound, self._job, self._condition, self._planned = bound, job, condition, shapes

    def _unbind(self) -> None:
        if self._finalizer is not None:
            self._finalizer()
        self._bound = self._condition = self._finalizer = None


def _recipe(
    source: ScenarioSource | Plan,
    overrides: Overrides | None,
    costs: Costs | Estimate | None,
    order: OrderSource | None,
    decisions: DecisionsSource | None,
) -> tuple[_Recipe, LossFunction | None]:
    """Return what a plan is made of, and the loss that the scenario names; None where it names none."""
    from loadahead.sim.verify import check

    if isinstance(source, Plan) or (isinstance(source, str | Path) and is_plan_file(source)):
        plan = source if isinstance(source, Plan) else read_plan(source)
        refuse_choices(source.name if isinstance(source, Plan) else str(source), overrides, order, decisions)
        check(plan)
        scenario, loss, warnings = _scenario_of(_echo(plan), None)
        scenario, known = _with_choice(scenario, costs)
        return _Recipe(scenario, plan, known, warnings=warnings), loss
    chosen = order_given(order)
    if isinstance(chosen, str):
        overrides, chosen = {**(overrides or {}), "parallel.pipeline": chosen}, None
    with named(source):
        scenario, loss, warnings = _scenario_of(source, overrides)
        scenario, known = _with_choice(scenario, costs)
    return _Recipe(scenario, None, known, chosen, decisions_given(decisions), warnings), loss


def _with_choice(scenario: Scenario, costs: Costs | Estimate | None) -> tuple[Scenario, Costs | None]:
    """Return the scenario beside the costs given, and these; InputError where an estimate is wanted of no GPU."""
    from loadahead.scenarios.estimates import require_gpu

    scenario, known = with_choice(scenario, costs)
    if scenario.has_estimated_times:
        require_gpu(scenario.hardware)
    return scenario, known


def _echo(plan: Plan) -> dict[str, Any]:
    """Return the scenario that a plan was made of, or else one of as many microbatches and ranks and no given links."""
    echo = plan.policy.get("scenario")
    if isinstance(echo, dict):
        return echo
    return {
        "name": plan.name,
        "hardware": {"d2h": "1 TB/s", "h2d": "1 TB/s"},
        "parallel": {"microbatches": plan.microbatches, "pipeline_parallel_degree": plan.ranks},
    }


def _scenario_of(
    source: ScenarioSource, overrides: Overrides | None
) -> tuple[Scenario, LossFunction | None, tuple[str, ...]]:
    """Return the scenario with the layers as its model, its own loss, and a warning where its model was another."""
    from loadahead.executor.model.spec import named_loss
    from loadahead.scenarios.kinds.module import Module
    from loadahead.scenarios.loader import scenario_file

    file = scenario_file(source)
    content = copy.deepcopy(file.content)
    table = content.setdefault("model", {})
    if isinstance(table, dict):
        table.setdefault("kind", "module")
        if table["kind"] == "module":
            table.setdefault("python", IN_MEMORY)
    scenario = replace(file, content=content, objects=None).scenario(overrides)
    written = scenario.model
    own = written.model_dump(exclude_unset=True) if isinstance(written, Module) else {}
    kept = {name: own[name] for name in _KEPT if own.get(name) is not None}
    model = Module.model_validate({"kind": "module", "python": IN_MEMORY, **kept})
    warnings = []
    if not isinstance(written, Module):
        warnings.append(f'model.kind = "{written.kind}" has no effect: what is planned are the layers given')
    if own.get("dtype") is not None:
        warnings.append(f'model.dtype = "{own["dtype"]}" has no effect: the layers given keep their types')
    loss: LossFunction | None = None if file.objects is None else file.objects.loss
    if loss is None and "loss" in kept:
        loss = named_loss(kept["loss"], kept.get("search_path"))
    return scenario.model_copy(update={"model": model}), loss, tuple(warnings)
