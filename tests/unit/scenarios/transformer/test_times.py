"""Times of layers, of what GPUs tell each other inside them, and of what replicas have to agree on."""

from __future__ import annotations

from dataclasses import replace
from math import log2
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadahead.scenarios.communication.groups import Group
from loadahead.scenarios.layers import Weights
from loadahead.scenarios.loader import load_scenario
from loadahead.scenarios.prepare import prepare
from loadahead.scenarios.roofline import Compute, Kernels, share_of_peak
from loadahead.scenarios.sharing import Sharing
from loadahead.scenarios.transformer.replicas import Replicas
from loadahead.scenarios.transformer.state import State
from loadahead.sim.costs import Costs

KERNELS = Kernels(
    products=((100, 0.25), (400, 1.0)),
    flash=((1, 0.5),),
    flash_backward=((1, 0.25),),
    memory_share=0.5,
    start_ns=3,
    step_ns=7,
    source="by hand",
)
COMPUTE = Compute(flops=10**9, efficiency=None, memory_bandwidth=4 * 10**9, kernels=KERNELS)
MODEL = {"kind": "transformer", "preset": "llama3.2-1b", "sequence": 1024, "layers": 4}


def costs(parallel: dict[str, Any] | None = None, *, hardware: Any = None, **tables: Any) -> Costs:
    made = prepare(
        load_scenario(
            {
                "model": {**MODEL, **tables.pop("model", {})},
                "hardware": {"machine": "dgx-a100", **(hardware or {})},
                "parallel": parallel or {},
                **tables,
            }
        )
    ).costs
    assert made is not None
    return made


def test_a_product_takes_its_flops_at_its_share_of_the_peak() -> None:
    assert [share_of_peak(KERNELS.products, flops) for flops in (10, 100, 400, 10**9)] == [0.25, 0.25, 1.0, 1.0]
    # Half way by the logarithm of size, and of the share.
    assert share_of_peak(KERNELS.products, 200) == pytest.approx(0.5)
    assert COMPUTE.products_ns(800, 400) == 800
    assert COMPUTE.products_ns(800, 100) == 3200
    assert replace(COMPUTE, efficiency=0.5).products_ns(800, 100) == 1600


def test_all_else_takes_its_bytes_and_a_start() -> None:
    assert COMPUTE.moved_ns(2000, 2) == 1000 + 6
    assert COMPUTE.stepped_ns(2000, 2) == 1000 + 14
    assert COMPUTE.streamed_ns(2000) == 1000
    assert COMPUTE.flash_ns(100) == 200
    # Five products for two.
    assert COMPUTE.flash_backward_ns(100) == 1000
    written = replace(COMPUTE, efficiency=0.5)
    assert written.moved_ns(2000, 2) == written.stepped_ns(2000, 2) == 0


@given(st.lists(st.tuples(st.integers(1, 10**12), st.floats(0.01, 1)), min_size=1, max_size=6), st.integers(1, 10**13))
def test_a_share_lies_between_its_neighbours(points: list[tuple[int, float]], flops: int) -> None:
    curve = tuple(sorted(dict(points).items()))
    found = share_of_peak(curve, flops)
    around = [share for size, share in curve if abs(log2(size) - log2(flops)) < 1e-9] or [share for _, share in curve]
    assert min(around) - 1e-9 <= found <= max(around) + 1e-9


def test_tensor_parallel_gpus_add_up_twice_each_way_and_with_sequences_divided_gather_and_scatter() -> None:
    parallel = {"tensor_parallel_degree": 8}
    nbytes = 2 * 1024 * 2048
    group = Group(gpus=8)
    for sequence_parallel in (False, True):
        asked = {**parallel, "sequence_parallel": sequence_parallel}
        scenario = load_scenario({"model": MODEL, "hardware": {"machine": "dgx-a100"}, "parallel": asked})
        collectives = scenario.setting().collectives
        assert collectives is not None
        block, alone = (costs(asked, hardware=hw).units[0][1] for hw in ({}, {"communication": "ideal"}))
        summed = collectives.all_reduce(group, nbytes)
        moved = collectives.all_gather(group, nbytes) + collectives.reduce_scatter(group, nbytes)
        expected = 2 * moved if sequence_parallel else 2 * summed
        assert block.forward_ns - alone.forward_ns == expected
        assert block.recompute_ns - alone.recompute_ns == expected
        # Weights' gradients need the gathered input once more.
        again = 2 * collectives.all_gather(group, nbytes) if sequence_parallel else 0
        assert block.backward_ns - alone.backward_ns == expected + again


def test_an_efficiency_that_is_written_is_all_that_counts() -> None:
    written = costs(hardware={"efficiency": 0.5}).units[0][1]
    h, kv, mlp, s = 2048, 512, 8192, 1024
    products = 2 * s * (h * (h + 2 * kv) + h * h + 3 * h * mlp)
    flash = 2 * s * s * h
    assert written.forward_ns == pytest.approx((products + flash) / (312e12 / 2) * 1e9, abs=6)
    assert written.backward_ns == pytest.approx((2 * products + 2.5 * flash) / (312e12 / 2) * 1e9, abs=6)


def test_selective_recomputation_makes_scores_again_inside_backward() -> None:
    model = {"attention": "plain"}
    kept = costs(model=model, checkpoint={"enabled": False}).units[0][1]
    selective = costs(model=model, checkpoint={"recompute_granularity": "selective"}).units[0][1]
    whole = costs(model=model).units[0][1]
    assert selective.forward_ns == kept.forward_ns == whole.forward_ns
    assert kept.backward_ns < selective.backward_ns < whole.backward_ns + whole.recompute_ns
    scores = 2 * 32 * 1024 * 1024
    assert selective.workspace_backward - kept.workspace_backward == scores
    plain = costs(checkpoint={"enabled": False}).units[0][1]
    assert costs(checkpoint={"recompute_granularity": "selective"}).units[0][1] == plain


STATE = State(weight=2, gradient=4, master=4, moments=8, sharing=Sharing(data=8))


class _Counted:
    """Collectives that take a nanosecond a byte, and as many again as the group has GPUs."""

    data, shard, copies = Group(gpus=8), Group(gpus=4), Group(gpus=2)
    expert_data, expert_shard, expert_copies = Group(gpus=4), Group(gpus=2), Group(gpus=2)

    def all_reduce(self, group: Group, nbytes: int) -> int:
        return nbytes + group.gpus

    reduce_scatter = all_gather = all_reduce


def replicas(**sharing: Any) -> Replicas:
    state = replace(STATE, sharing=replace(STATE.sharing, **sharing))
    return Replicas(state=state, collectives=_Counted())  # type: ignore[arg-type]


LAYERS = [(100, Weights(dense=10)), (5, Weights(dense=20)), (1000, Weights(dense=1))]


@pytest.mark.parametrize(
    ("sharing", "waits"),
    [
        # Four bytes of gradient, and 8 GPUs. 148 after the first layer; then 236; the last layer computes until 1105.
        ({}, 12),
        # All at once, after the last.
        ({"overlap": False}, 31 * 4 + 8),
        # A scatter among four, and a quarter of it among two; then weights of two bytes are gathered.
        ({"zero_stage": 1, "shard": 4}, 4 + 4 + 4 + 2 + 62 + 4),
        ({"zero_stage": 1, "shard": 4, "overlap": False}, 31 * 4 + 4 + 8 * 4 + 2 + 62 + 4),
        # What was scattered after each BACKWARD is added up among two.
        ({"zero_stage": 2, "shard": 4, "overlap": False}, 8 * 4 + 2 + 62 + 4),
        ({"zero_stage": 3, "shard": 4, "overlap": False}, 8 * 4 + 2),
    ],
)
def test_what_replicas_wait_for_at_the_end_of_a_step(sharing: dict[str, Any], waits: int) -> None:
    assert replicas(**sharing).closing(LAYERS) == waits


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 60)), min_size=1, max_size=8))
def test_a_layers_gradients_are_added_up_while_those_before_it_go_backward(layers: list[tuple[int, int]]) -> None:
    """Against a timetable of two queues, moment by moment."""
    given_layers = [(busy, Weights(dense=count)) for busy, count in layers]
    ends, link = [], 0
    now = 0
    for busy, count in layers:
        now += busy
        start = max(now, link)
        link = start + (4 * count + 8 if count else 0)
        ends.append(link)
    # Nobody waits longer than for all of them at once.
    whole = sum(count for _, count in layers)
    assert replicas().closing(given_layers) == min(max(0, ends[-1] - now), 4 * whole + 8 if whole else 0)


def test_experts_have_groups_of_their_own() -> None:
    layers = [(0, Weights(dense=10, expert=100))]
    assert replicas().closing(layers) == (40 + 8) + (400 + 4)


def test_weights_that_are_sharded_are_gathered_for_each_pass() -> None:
    sharded = replicas(zero_stage=3, shard=4)
    weights = Weights(dense=10)
    assert sharded.gathering(weights) == 24
    assert sharded.scattering(weights) == 44
    assert (sharded.beside(20, 24), sharded.beside(30, 24)) == (4, 0)
    assert replicas(zero_stage=3, shard=4, overlap=False).beside(30, 24) == 24
    first = replicas(zero_stage=1, shard=4)
    assert first.gathering(weights) == first.scattering(weights) == 0


def test_sharded_weights_are_whole_while_their_layer_runs() -> None:
    parallel = {"data_parallel_degree": 8, "zero_stage": 3}
    sharded, whole = costs(parallel), costs({"data_parallel_degree": 8})
    block = 2048 * (2048 + 2 * 512) + 2048 * 2048 + 3 * 2048 * 8192 + 2 * 2048
    gathered = sharded.units[0][1].workspace_forward - whole.units[0][1].workspace_forward
    # Its own weights and the next layer's.
    assert gathered == 2 * 2 * block
    apart = costs({**parallel, "overlap_grad_reduce": False}).units[0][1]
    assert apart.workspace_forward == 2 * block
    assert apart.forward_ns > sharded.units[0][1].forward_ns >= whole.units[0][1].forward_ns


def test_the_optimizers_step_waits_for_replicas_and_with_ideal_communication_does_not() -> None:
    parallel = {"data_parallel_degree": 8, "pipeline_parallel_degree": 2, "microbatches": 4}
    alone = costs({**parallel, "data_parallel_degree": 1}).optimizer_ns
    ideal = costs(parallel, hardware={"communication": "ideal"}).optimizer_ns
    waits = costs(parallel).optimizer_ns
    assert ideal == alone
    assert all(longer > step for longer, step in zip(waits, alone, strict=True))
    # A BACKWARD that lasts hides what is added up meanwhile.
    long = {"sequence": 16384, "layers": 16}
    later = costs({**parallel, "overlap_grad_reduce": False}, model=long).optimizer_ns
    hidden = costs(parallel, model=long).optimizer_ns
    assert all(longer > step for longer, step in zip(later, hidden, strict=True))


def test_a_rank_with_several_stages_waits_once() -> None:
    parallel = {"pipeline_parallel_degree": 2, "overlap_grad_reduce": False}
    found = []
    for replicated in (8, 1):
        scenario = load_scenario(
            {
                "model": MODEL,
                "hardware": {"machine": "dgx-a100"},
                "parallel": {**parallel, "data_parallel_degree": replicated},
            }
        )
        made = prepare(scenario, stages=4, placement=(0, 1, 0, 1)).costs
        assert made is not None
        found.append(made.optimizer_ns)
    more = [waits - alone for waits, alone in zip(*found, strict=True)]
    assert more[0] > 0 and more[1] > 0 and more[2:] == [0, 0]


def test_figures_of_the_gpu_that_make_times_too_short_are_told() -> None:
    def told(hardware: dict[str, Any], **model: Any) -> list[str]:
        links = {"d2h": "1 GB/s", "h2d": "1 GB/s"} | hardware
        scenario = load_scenario({"model": {**MODEL, **model}, "hardware": links})
        return [text for text in scenario.model.cautions(scenario.setting()) if "FLOPs" in text or "bandwidth" in text]

    assert told({"preset": "h100-sxm"}) == []
    (precision,) = told({"preset": "h100-sxm"}, dtype="float32")
    assert "of products in 16 bits: those in 32 bits take longer" in precision
    assert told({"preset": "h100-sxm", "flops": "67 TFLOP/s"}, dtype="float32") == []
    (bytes_,) = told({"flops": "67 TFLOP/s"})
    assert bytes_ == (
        "hardware.memory_bandwidth is not given: operators other than matrix products, and the optimizer's step, take "
        "no time"
    )
    assert told({"flops": "67 TFLOP/s", "efficiency": 0.5}) == []
