"""la.TrainingStep in a loop of the user's own, beside the plain loop: losses, gradients and buffers bit for bit."""

from __future__ import annotations

import gc
import io
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import loadahead as la
from loadahead.executor.shipped_models import byte_gpt
from loadahead.plan_files import write_plan
from tests.e2e.test_docs import blocks
from tests.support.plain_loop import gradients, plain_step, same, same_state

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
M = 4
HARDWARE = {"d2h": "10 GB/s", "h2d": "10 GB/s"}
OPTIONS = {"blocks": 2, "width": 16, "heads": 2, "context": 8, "batch": 2, "dropout": 0.2}
# No test leaves threads behind: of closed steps, and of those that are gone.
BEFORE = "loadahead-queue"


@pytest.fixture(autouse=True)
def no_threads_stay() -> Iterator[None]:
    yield
    if queue_threads():
        gc.collect()  # of steps that are gone, which takes longer than many a test
    assert not queue_threads()


def queue_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(BEFORE)]


def scenario(**tables: Any) -> dict[str, Any]:
    parallel = {"microbatches": M} | tables.pop("parallel", {})
    return {"hardware": HARDWARE, "parallel": parallel, "offload": {"activation_loading_horizon": 1}} | tables


def gpt() -> nn.Sequential:
    torch.manual_seed(3)
    return byte_gpt.build(**OPTIONS)  # type: ignore[arg-type]


def text(step: int, microbatches: int = M) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [byte_gpt.batch(step, number, microbatches, **OPTIONS) for number in range(microbatches)]


def cross_entropy(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(output.flatten(0, -2).float(), target.flatten())


def mixed() -> nn.Sequential:
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Linear(8, 16),
        nn.BatchNorm1d(16),
        nn.Dropout(0.3),
        nn.Sequential(nn.GELU(), nn.Linear(16, 16)),
        nn.Linear(16, 4),
    )


def numbers(step: int, rows: int = 6, microbatches: int = M) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(step)
    return [
        (torch.randn(rows, 8, generator=generator), torch.randint(4, (rows,), generator=generator))
        for _ in range(microbatches)
    ]


def require_equal(
    build: Callable[[], nn.Sequential],
    data: Callable[[int], Any],
    tables: Any,
    steps: int = 3,
    around: Any = nullcontext,
    optimizer: Any = lambda weights: torch.optim.AdamW(weights, lr=1e-2),
    **settings: Any,
) -> None:
    """Train a model and its twin, and compare losses, gradients, weights and buffers of every step."""
    model, twin = build(), build()
    ours, theirs = optimizer(model.parameters()), optimizer(twin.parameters())
    with la.TrainingStep(model, tables, loss=cross_entropy, **settings) as training:
        for step in range(steps):
            with around():
                mean = training(data(step))
            plain = plain_step(twin, training, step, data(step), cross_entropy, around=around)
            assert (mean.dtype, mean.shape, mean.requires_grad) == (plain.dtype, plain.shape, False)
            assert torch.equal(mean, plain)
            assert same(gradients(model), gradients(twin))
            for one in (ours, theirs):
                one.step()
                one.zero_grad()
            assert same_state(model, twin)
        assert training.step == steps


# ---- the script of the docs ----


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_script_and_its_twin_have_equal_losses(ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are equal in every digit over 20 steps, with dropout, AdamW, a schedule, clipping and autocast."""
    script, twin = [block.text for block in blocks(PAGE) if block.language == "python"][:2]
    assert len(script.splitlines()) < 40
    threads = torch.get_num_threads()
    changed = script.replace('{"microbatches": 4}', f'{{"microbatches": 4, "pipeline_parallel_degree": {ranks}}}')
    assert changed != script
    names: dict[str, Any] = {"__name__": "script"}
    try:
        exec(compile(changed, "script", "exec"), names)
        exec(compile(twin, "twin", "exec"), names)
    finally:
        torch.set_num_threads(threads)
    assert names["training"].plan.ranks == ranks
    assert [loss.item() for loss in names["losses"]] == [loss.item() for loss in names["plain_losses"]]
    assert len({loss.item() for loss in names["losses"]}) == 20
    names["training"].close()


# ---- plans of all kinds ----


@pytest.mark.parametrize("pipeline", ["interleaved", "simple"])
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("horizon", [1, 3])
def test_every_gradient_is_that_of_plain_training(pipeline: str, ranks: int, horizon: int) -> None:
    tables = scenario(
        parallel={"pipeline": pipeline, "pipeline_parallel_degree": ranks},
        offload={"activation_loading_horizon": horizon},
    )
    require_equal(gpt, text, tables)


def test_without_checkpointing_and_without_offloading() -> None:
    require_equal(gpt, text, scenario(checkpoint={"enabled": False}))
    require_equal(gpt, text, scenario(offload={"offload_activations": False}))


def test_units_of_several_layers() -> None:
    require_equal(mixed, numbers, scenario(checkpoint={"strategy": "group_2"}))


@pytest.mark.parametrize("ranks", [1, 2])
def test_buffers_of_batch_norm_and_dropout(ranks: int) -> None:
    require_equal(mixed, numbers, scenario(parallel={"pipeline_parallel_degree": ranks}))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_autocast_around_the_call(dtype: torch.dtype) -> None:
    require_equal(gpt, text, scenario(), around=lambda: torch.autocast("cpu", dtype))


def test_the_scenarios_autocast_and_then_another() -> None:
    model, twin = gpt(), gpt()
    with la.TrainingStep(model, scenario(model={"autocast": "bfloat16"}), loss=cross_entropy) as training:
        for step, around in enumerate((nullcontext, lambda: torch.autocast("cpu", torch.float16), nullcontext)):
            inside = (lambda: torch.autocast("cpu", torch.bfloat16)) if around is nullcontext else around
            with around():
                mean = training(text(step))
            assert torch.equal(mean, plain_step(twin, training, step, text(step), cross_entropy, around=inside))
            assert same(gradients(model), gradients(twin))


def test_a_frozen_front() -> None:
    def build() -> nn.Sequential:
        model = gpt()
        model[0].requires_grad_(False)
        model[1].requires_grad_(False)
        return model

    require_equal(build, text, scenario(), optimizer=lambda w: torch.optim.SGD([p for p in w if p.requires_grad], 0.1))


def test_a_plan_is_given_as_such_and_as_a_file(tmp_path: Path) -> None:
    def data(step: int, microbatch: int, microbatches: int) -> Any:
        return text(step, microbatches)[microbatch]

    loaded = la.load(scenario(), model=gpt(), data=data, loss=cross_entropy)
    plan = la.plan(loaded, {"offload.activation_loading_horizon": 2})
    file = tmp_path / "plan.json"
    write_plan(plan, file)
    require_equal(gpt, text, plan)
    require_equal(gpt, text, file)
    training = la.TrainingStep(gpt(), plan, loss=cross_entropy)
    assert training.plan is plan
    for layers, said in (
        (gpt()[:3], "the plan has 4 units"),
        (byte_gpt.build(**OPTIONS | {"width": 32}), "plan for this"),
    ):  # type: ignore[arg-type]
        other = la.TrainingStep(layers, plan, loss=lambda output, target: output.mean())
        with pytest.raises(la.InputError, match=said):
            other(text(0))


def test_layers_in_a_list_and_in_a_module_list() -> None:
    means = []
    for kind in (list, nn.ModuleList, nn.Sequential):
        layers = list(gpt())
        given = kind(*layers) if kind is nn.Sequential else kind(layers)  # type: ignore[call-arg, arg-type]
        with la.TrainingStep(given, scenario(), loss=cross_entropy) as training:
            means.append(training(iter(text(0))).item())
    assert len(set(means)) == 1


def test_the_scenario_may_be_one_of_another_model() -> None:
    with la.TrainingStep(gpt(), "slow-link", loss=cross_entropy, overrides={"parallel.microbatches": M}) as training:
        training(text(0))
        assert 'model.kind = "uniform" has no effect: what is planned are the layers given' in training.warnings
        assert training.plan.policy["scenario"]["model"]["python"] == "in-memory"
    with la.TrainingStep(
        gpt(), "demo", overrides={"parallel.microbatches": M}
    ) as training:  # its loss is cross-entropy
        plain = plain_step(gpt(), training := _called(training, text(0)), 0, text(0), cross_entropy)
        assert training.seed == 0
        assert plain.item() > 0


def _called(training: la.TrainingStep, batches: Any) -> la.TrainingStep:
    training(batches)
    return training


def test_tied_weights_are_equal_up_to_rounding() -> None:
    def build() -> nn.Sequential:
        model = gpt()
        model[-1].logits.weight = model[0].token.weight
        return model

    model, twin = build(), build()
    with la.TrainingStep(model, scenario(), loss=cross_entropy) as training:
        training(text(0))
        plain_step(twin, training, 0, text(0), cross_entropy)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-7)
    with pytest.raises(la.InputError, match="share the trained weight"):
        la.TrainingStep(build(), scenario(parallel={"pipeline_parallel_degree": 2}), loss=cross_entropy)(text(0))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own, while it compiles
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_compiled_layers(backend: str, ranks: int) -> None:
    def build() -> nn.Sequential:
        return nn.Sequential(*(torch.compile(layer, backend=backend) for layer in gpt()))

    tables = scenario(parallel={"pipeline_parallel_degree": ranks})
    require_equal(build, text, tables, steps=2)
    with la.TrainingStep(build(), tables, loss=cross_entropy) as training:
        training(text(0))
        assert any("run uncompiled" in warning for warning in training.warnings) == (ranks == 2)
        # Metering would keep torch from compiling layers, now and ever after.
        assert ("not metered" in training.timeline().header["metering"]) == (ranks == 1)


# ---- what a loop does between steps ----


def test_gradients_are_added_to_those_there_are() -> None:
    model, twin = gpt(), gpt()
    with la.TrainingStep(model, scenario(), loss=cross_entropy) as training:
        for step in range(2):
            training(text(step))
            plain_step(twin, training, step, text(step), cross_entropy)
            assert same(gradients(model), gradients(twin))


def test_an_evaluation_pass_between_steps() -> None:
    model, twin = mixed(), mixed()
    attributes = [dict(vars(part)) for part in model.modules()]

    def evaluated(layers: nn.Sequential) -> torch.Tensor:
        layers.eval()
        with torch.no_grad():
            out = layers(numbers(9)[0][0])
        layers.train()
        return out

    with la.TrainingStep(model, scenario(), loss=cross_entropy) as training:
        for step in range(2):
            training(numbers(step))
            plain_step(twin, training, step, numbers(step), cross_entropy)
            assert torch.equal(evaluated(model), evaluated(twin))
            assert same_state(model, twin)
    # Nothing of ours stays in the modules.
    assert [list(vars(part)) for part in model.modules()] == [list(before) for before in attributes]
    for part in model.modules():
        assert not part._forward_hooks and not part._forward_pre_hooks and not part._backward_hooks


def test_a_train_flag_a_frozen_layer_and_a_replaced_weight_are_noticed() -> None:
    model, twin = mixed(), mixed()

    def change(layers: nn.Sequential, step: int) -> None:
        if step == 1:
            layers[1].eval()
        if step == 2:
            layers[0].requires_grad_(False)
        if step == 3:
            layers[4] = nn.Linear(16, 4)
            nn.init.ones_(layers[4].weight)
            nn.init.zeros_(layers[4].bias)

    with la.TrainingStep(model, scenario(), loss=cross_entropy) as training:
        for step in range(4):
            change(model, step)
            change(twin, step)
            assert torch.equal(training(numbers(step)), plain_step(twin, training, step, numbers(step), cross_entropy))
            assert same(gradients(model), gradients(twin))
            assert same_state(model, twin)
        assert training.plan.frozen_units == 0 or training.plan.frozen_units == 1


def test_random_states_threads_and_settings_are_as_before() -> None:
    class Draws(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * (random.random() + np.random.random())

    torch.manual_seed(5)
    random.seed(6)
    np.random.seed(7)
    model = nn.Sequential(*mixed(), Draws())
    torch.manual_seed(5)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    threads, grad = torch.get_num_threads(), torch.is_grad_enabled()
    with la.TrainingStep(model, scenario(), loss=cross_entropy) as training:
        for step in range(2):
            training(numbers(step))
            assert torch.equal(torch.get_rng_state(), before[0])
            assert random.getstate() == before[1]
            assert np.random.get_state()[1].tolist() == before[2]  # type: ignore[index]
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == (threads, grad)


def test_saving_and_resuming_is_going_straight_on() -> None:
    """Ten steps, and five, all saved, other objects, five more: the same weights, bit for bit."""

    def started() -> tuple[nn.Sequential, torch.optim.Optimizer, la.TrainingStep]:
        model = mixed()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        return model, optimizer, la.TrainingStep(model, scenario(model={"seed": 11}), loss=cross_entropy)

    def trained(model: nn.Sequential, optimizer: torch.optim.Optimizer, training: la.TrainingStep, last: int) -> None:
        while training.step < last:
            training(numbers(training.step))
            optimizer.step()
            optimizer.zero_grad()
        training.close()

    straight, first = started(), started()
    trained(*straight, 10)
    trained(*first, 5)
    file = io.BytesIO()
    torch.save([part.state_dict() for part in first], file)
    file.seek(0)
    second = started()
    second[2].load_state_dict({"step": 0, "seed": 99})
    for part, state in zip(second, torch.load(file), strict=True):
        part.load_state_dict(state)
    assert (second[2].step, second[2].seed) == (5, 11)
    trained(*second, 10)
    assert same_state(straight[0], second[0])
    assert not same_state(straight[0], first[0])


def test_two_steps_live_at_once() -> None:
    models = gpt(), mixed()
    with (
        la.TrainingStep(models[0], scenario(), loss=cross_entropy) as one,
        la.TrainingStep(models[1], scenario(), loss=cross_entropy) as other,
    ):
        for step in range(2):
            one(text(step))
            other(numbers(step))
        twin = gpt()
        for step in range(2):
            plain_step(twin, one, step, text(step), cross_entropy)
    assert same(gradients(models[0]), gradients(twin))
    with pytest.raises(la.InputError, match="closed"):
        one(text(2))


# ---- scalers, hooks, types ----


def test_a_gradient_scaler() -> None:
    model, twin = gpt(), gpt()
    scalers = [torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2) for _ in range(2)]
    optimizers = [torch.optim.SGD(layers.parameters(), lr=0.1) for layers in (model, twin)]

    def around() -> Any:
        return torch.autocast("cpu", torch.float16)

    with la.TrainingStep(model, scenario(), loss=cross_entropy) as training:
        for step in range(4):
            with around():
                mean = training(text(step), scaler=scalers[0])
            plain = plain_step(twin, training, step, text(step), cross_entropy, around=around, scaler=scalers[1])
            assert torch.equal(mean, plain)
            assert same(gradients(model), gradients(twin))
            for scaler, optimizer in zip(scalers, optimizers, strict=True):
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
            assert same_state(model, twin)
        assert scalers[0].get_scale() == scalers[1].get_scale() == 2.0**12
        training(text(4), scaler=torch.amp.GradScaler("cpu", enabled=False))


def test_gradients_are_added_up_in_float32_by_hooks() -> None:
    def build() -> nn.Sequential:
        model = gpt().to(torch.bfloat16)
        for parameter in model.parameters():
            parameter.main_grad = torch.zeros_like(parameter, dtype=torch.float32)  # type: ignore[attr-defined]
            parameter.register_post_accumulate_grad_hook(take)
        return model

    def take(parameter: torch.Tensor) -> None:
        parameter.main_grad.add_(parameter.grad)  # type: ignore[attr-defined]
        parameter.grad = None

    model, twin = build(), build()
    with la.TrainingStep(model, scenario(), loss=cross_entropy) as training:
        for step in range(2):
            training(text(step))
            plain_step(twin, training, step, text(step), cross_entropy)
    mains = [[p.main_grad for p in layers.parameters()] for layers in (model, twin)]  # type: ignore[attr-defined]
    assert same(*mains)
    assert all(p.grad is None for p in model.parameters())
    assert any(bool(main.abs().sum() > 0) for main in mains[0])


def test_an_optimizer_that_steps_inside_the_backward_pass_is_refused() -> None:
    model = gpt()
    weight = model[1].up.weight
    optimizer = torch.optim.SGD([weight], lr=0.1)
    hook = weight.register_post_accumulate_grad_hook(lambda _: optimizer.step())
    with la.TrainingStep(model, scenario(), loss=cross_entropy) as training:
        with pytest.raises(la.InputError, match=r"an optimizer of the model's weights steps while the step runs, as"):
            training(text(0))
        assert training.step == 0
        hook.remove()
        training(text(0))
        assert training.step == 1


def test_a_layer_may_change_its_own_weights() -> None:
    def build() -> nn.Sequential:
        torch.manual_seed(8)
        return nn.Sequential(nn.Embedding(256, 16, max_norm=0.5), nn.Linear(16, 256))

    with la.TrainingStep(build(), scenario(), loss=cross_entropy) as training:
        for step in range(2):
            training(text(step))


def test_a_loss_of_one_element_and_of_another_type() -> None:
    for kind in (lambda loss: loss.reshape(1), lambda loss: loss.double(), lambda loss: loss.bfloat16()):
        model, twin = gpt(), gpt()

        def loss(output: torch.Tensor, target: torch.Tensor, kind: Any = kind) -> torch.Tensor:
            out: torch.Tensor = kind(cross_entropy(output, target))
            return out

        with la.TrainingStep(model, scenario(), loss=loss) as training:
            mean = training(text(0))
            plain = plain_step(twin, training, 0, text(0), loss)
        assert (mean.dtype, mean.shape) == (plain.dtype, plain.shape)
        assert torch.equal(mean, plain)
        assert same(gradients(model), gradients(twin))


def test_a_mean_loss_is_nobody_elses() -> None:
    with la.TrainingStep(gpt(), scenario(), loss=cross_entropy) as training:
        first = training(text(0))
        kept = first.clone()
        second = training(text(1))
    assert torch.equal(first, kept)
    assert first.data_ptr() != second.data_ptr()


# ---- mistakes and failures ----


class Failing(nn.Module):
    """Fails once, when it is told to, in its FORWARD or in its backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.error: BaseException | None = None
        self.backward = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.error is not None and not self.backward:
            self._fail()
        if self.backward and x.requires_grad:
            x = x * 1
            x.register_hook(lambda _: self._fail())
        return x

    def _fail(self) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    ("error", "backward", "raised"),
    [
        (ValueError("broken"), False, la.InputError),
        (KeyboardInterrupt(), False, KeyboardInterrupt),
        (torch.OutOfMemoryError("full"), False, torch.OutOfMemoryError),
        (ValueError("broken"), True, la.InputError),
    ],
)
def test_after_a_failure_the_same_step_works(
    ranks: int, error: BaseException, backward: bool, raised: type[BaseException]
) -> None:
    def build() -> nn.Sequential:
        parts = list(mixed())
        return nn.Sequential(*parts[:3], Failing(), *parts[3:])

    tables = scenario(
        parallel={"pipeline_parallel_degree": ranks}, checkpoint={"partition": [6] if ranks == 1 else [2, 4]}
    )
    model, twin = build(), build()
    with la.TrainingStep(model, tables, loss=cross_entropy) as training:
        training(numbers(0))
        plain_step(twin, training, 0, numbers(0), cross_entropy)
        state = torch.get_rng_state()
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        model[3].error, model[3].backward = error, backward
        with pytest.raises(raised):
            training(numbers(1))
        assert training.step == 1
        assert torch.equal(torch.get_rng_state(), state)
        model[3].error, model[3].backward = None, False
        # What a plain loop would have left in them, too, is taken back here, so that the two can be compared.
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
        for parameter, other in zip(model.parameters(), twin.parameters(), strict=True):
            parameter.grad = None if other.grad is None else other.grad.clone()
        assert torch.equal(training(numbers(1)), plain_step(twin, training, 1, numbers(1), cross_entropy))
        assert same(gradients(model), gradients(twin))
        assert same_state(model, twin)


def test_gradients_after_a_failure_are_a_plain_loops() -> None:
    """A batch that fails in the third FORWARD: the first two backward passes were done, as one after the other."""
    model, twin = gpt(), gpt()
    order = [["0F0", "0B0", "0F1", "0B1", "0F2", "0B2", "0F3", "0B3"]]
    bad = text(0)
    bad[2] = (bad[2][0] + 300, bad[2][1])
    with la.TrainingStep(model, scenario(), loss=cross_entropy, order=order) as training:
        with pytest.raises(la.InputError, match=r"the model fails in unit 0.0: IndexError"):
            training(bad)
        with pytest.raises(IndexError):
            plain_step(twin, training, 0, bad, cross_entropy)
    assert same(gradients(model), gradients(twin))


def test_a_changed_batch_size_is_told_and_the_step_after_works() -> None:
    model, twin = mixed(), mixed()
    with la.TrainingStep(model, scenario(), loss=cross_entropy) as training:
        training(numbers(0))
        with pytest.raises(la.InputError) as told:
            training([*numbers(1)[:2], *numbers(1, rows=3)[2:]])
        assert str(told.value) == (
            "the input of batch 2 is float32[3, 8]; the step was planned for float32[6, 8], and a plan's memory is for "
            "one shape: make a TrainingStep for each shape, pad what is smaller, or leave the last, smaller batch out "
            "(drop_last)"
        )
        assert training.step == 1
        training(numbers(1))
        for step in range(2):
            plain_step(twin, training, step, numbers(step), cross_entropy)
        assert same(gradients(model), gradients(twin))


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        (numbers(0)[:3], "the step was given 3 batches and its plan has parallel.microbatches = 4"),
        (iter(numbers(0) * 9), "the step was given more than 4 batches"),
        (torch.ones(4), "the batches are of type Tensor; give a sequence of 4 pairs"),
        (None, "the batches are of type NoneType"),
        ([1, 2, 3, 4], r"batch 0 is int; it must be \(input, target\)"),
        ([(torch.ones(6, 8, requires_grad=True), torch.zeros(6).long())] * 4, "input of batch 0 requires a gradient"),
        (
            [(torch.ones(6, 8, device="meta"), torch.zeros(6).long())] * 4,
            "input of batch 0 is on meta and the step runs",
        ),
        ([(torch.ones(6, 8), torch.zeros(5).long())] * 4, "the loss given fails: ValueError"),
    ],
)
def test_batches_that_cannot_be_run_are_one_line(batches: Any, said: str) -> None:
    with la.TrainingStep(mixed(), scenario(), loss=cross_entropy) as training:
        with pytest.raises(la.InputError, match=said) as told:
            training(batches)
        assert "\n" not in str(told.value)
        training(numbers(0))
        assert training.step == 1


@pytest.mark.parametrize(
    ("layers", "settings", "said"),
    [
        (mixed, {"loss": None}, "loss is missing"),
        (mixed, {"loss": 3}, "loss is of type int"),
        (mixed, {"loss": nn.Linear(1, 1)}, "has weights of its own that are trained"),
        (mixed, {"device": "tpu"}, "device is 'tpu'"),
        (lambda: nn.Linear(8, 8), {}, "model is of type Linear; it must be an nn.Sequential"),
        (lambda: mixed().to("meta"), {}, "meta device"),
        (lambda: [nn.LazyLinear(4)], {}, "learns its shape when the model first runs"),
        (lambda: [nn.DataParallel(nn.Linear(8, 4))], {}, "wrapped in DataParallel"),
        (mixed, {"overrides": {"model.sed": 3}}, "did you mean seed"),
        (mixed, {"order": 3}, "order"),
    ],
)
def test_mistakes_are_one_line_before_the_first_batch(layers: Any, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(la.InputError, match=said) as told:
        la.TrainingStep(layers(), scenario(), **{"loss": cross_entropy} | settings)
    assert "\n" not in str(told.value)


def test_what_needs_the_first_batch_says_so() -> None:
    training = la.TrainingStep(mixed(), scenario(), loss=cross_entropy)
    for asked in (lambda: training.plan, lambda: training.units, lambda: training.seeds[0], training.timeline):
        with pytest.raises(la.InputError, match="call the step with batches first"):
            asked()
    assert training.seeds[0, 1, 2] >= 0
    training(numbers(0))
    rows = training.seeds[3]
    assert [len(row) for row in rows] == [M] * 5
    assert rows[1][2] == training.seeds[3, 1, 2]
    assert len({seed for row in rows for seed in row}) == 5 * M
    for bad in ("x", -1, (1, 2), (0, 0, -1)):
        with pytest.raises(la.InputError, match="give a step, or"):
            training.seeds[bad]  # type: ignore[index]
    for state in ({"step": 1}, 3, {"step": -1, "seed": 0}):
        with pytest.raises(la.InputError, match="state_dict"):
            training.load_state_dict(state)  # type: ignore[arg-type]
    with pytest.raises(la.InputError, match="no costs are known"):
        _ = training.predicted
    for context, named in ((torch.no_grad(), "no_grad"), (torch.inference_mode(), "inference_mode")):
        with context, pytest.raises(la.InputError, match=f"under torch.{named}"):
            training(numbers(1))
    with pytest.raises(la.InputError, match="scaler is of type int"):
        training(numbers(1), scaler=3)
    training.close()


# ---- predicted and measured ----


@pytest.mark.parametrize("pipeline", ["interleaved", "simple"])
def test_predicted_peaks_are_the_measured_ones_at_every_horizon(pipeline: str) -> None:
    """The shipped GPT, with calibrated costs; gradients are in place before the second step."""

    def data(step: int, microbatch: int, microbatches: int) -> Any:
        return text(step, microbatches)[microbatch]

    tables = scenario(parallel={"pipeline": pipeline})
    costs = la.calibrate(la.load(tables, model=gpt(), data=data, loss=cross_entropy), repeats=1)
    peaks = set()
    for horizon in range(1, 7):
        changed = {"offload.activation_loading_horizon": horizon}
        with la.TrainingStep(gpt(), tables, loss=cross_entropy, costs=costs, overrides=changed) as training:
            for step in range(2):
                training(text(step))
            predicted, measured = training.predicted, training.timeline()
            assert [rank.peak_device_bytes for rank in predicted.metrics.ranks] == [
                rank.peak_device_bytes for rank in measured.metrics.ranks
            ]
            found = la.compare(training.predicted, training)
            assert found.peak_device_error == 0
            assert predicted.to_pandas().query("kind == 'OPTIMIZER_STEP'").eval("end_ns - start_ns").sum() == 0
            assert "metered in one step" in measured.header["metering"]
            assert "took longer than others" in measured.header["timed_steps"]
            training(text(2))
            assert "took longer than others" not in training.timeline().header["timed_steps"]
            assert training.metrics.ranks[0].peak_device_bytes == measured.metrics.ranks[0].peak_device_bytes
        peaks.add(measured.metrics.ranks[0].peak_device_bytes)
    assert len(peaks) > 1


@pytest.mark.parametrize(("pipeline", "ranks"), [("interleaved", 2), ("simple", 1), ("simple", 2)])
def test_a_tuned_plan_keeps_its_budget_and_every_gradient(pipeline: str, ranks: int) -> None:
    """Under three quarters of the boundaries of keeping all; calibrated times decide which leave, never whether."""

    def data(step: int, microbatch: int, microbatches: int) -> Any:
        return text(step, microbatches)[microbatch]

    tables = scenario(parallel={"pipeline": pipeline, "pipeline_parallel_degree": ranks})
    loaded = la.load(tables, model=gpt(), data=data, loss=cross_entropy)
    costs = la.calibrate(loaded, repeats=1)
    keeping = la.simulate(loaded, overrides={"offload.offload_activations": False}, costs=costs).metrics
    budget = keeping.peak_boundary_bytes * 3 // 4
    tuned = tables | {"offload": {"decisions": "auto", "boundary_memory": f"{budget} B"}}
    require_equal(gpt, text, tuned, costs=costs)
    with la.TrainingStep(gpt(), tuned, loss=cross_entropy, costs=costs) as training:
        for step in range(2):
            training(text(step))
        assert training.plan.policy["decisions"] == "auto" and training.plan.policy["offloaded"] > 0
        for predicted, measured in zip(training.predicted.metrics.ranks, training.metrics.ranks, strict=True):
            assert measured.peak_boundary_bytes == predicted.peak_boundary_bytes <= budget
            assert measured.peak_device_bytes == predicted.peak_device_bytes
            assert measured.peak_host_bytes == predicted.peak_host_bytes
