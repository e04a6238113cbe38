"""``kind = "transformer"`` describes a transformer by its shape; FLOPs and bytes follow from published formulas.

FLOPs: Narayanan et al., "Efficient Large-Scale Language Model Training on GPU Clusters Using Megatron-LM" (2021),
section 3.4: a GPT's layer takes 24bsh² + 4bs²h forward, its backward twice that, and the logits 6bshV both ways.
Activations: Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models" (2022), equations 1
and 2: it keeps sbh(34 + 5as/h) bytes, with tensor parallelism t sbh(10 + 24/t + 5as/(ht)), and with sequence
parallelism a t-th of sbh(34 + 5as/h); its input is 2sbh. :mod:`loadahead.scenarios.transformer` has the parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator

from loadahead.scenarios.catalogue.transformers import TRANSFORMERS, Shape, allowed_models
from loadahead.scenarios.fields import Count, Natural, not_allowed, one_of
from loadahead.scenarios.kinds.base import Cuts, Model, Setting
from loadahead.scenarios.kinds.shape_cautions import cautions_of_shape
from loadahead.scenarios.layers import Layer, Told, Units, Weights
from loadahead.scenarios.roofline import Compute
from loadahead.scenarios.sharing import Sharing
from loadahead.scenarios.tables import missing
from loadahead.scenarios.transformer.attention import attention
from loadahead.scenarios.transformer.dimensions import Dimensions
from loadahead.scenarios.transformer.ends import embedding, head
from loadahead.scenarios.transformer.ends import table as table_of
from loadahead.scenarios.transformer.mlp import mlp
from loadahead.scenarios.transformer.replicas import Replicas
from loadahead.scenarios.transformer.state import DTYPES, FLOAT, OPTIMIZERS, State
from loadahead.scenarios.transformer.stream import added, norm
from loadahead.scenarios.transformer.times import Times
from loadahead.scenarios.transformer.work import Part
from loadahead.sim.costs import UnitCost
from loadahead.sim.errors import InputError
from loadahead.sim.units import LARGEST_AMOUNT, counted
from loadahead.sim.work import Work

# Token ids are int64.
ID = 8
# What a shape is where neither it nor a preset says so: a GPT's. Sizes have to be written.
_SIZES = ("layers", "hidden", "heads", "sequence", "vocabulary")
_DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(Shape) if field.name not in _SIZES}


# What a row of the catalogue says beside the shape; and what of a shape makes a model another one than its preset.
_OF_A_ROW = ("parameters", "source")
_TOLD_OF_PRESETS = tuple(
    field.name for field in fields(Shape) if field.name not in (*_OF_A_ROW, "sequence", "attention", "dropout")
)
_LARGE = (("trillion", 10**12), ("billion", 10**9), ("million", 10**6))


def _parameters(count: int) -> str:
    """Return a number of parameters in words, with three digits."""
    for name, size in _LARGE:
        if count >= size:
            return f"{count / size:.3g} {name} parameters"
    return f"{count} parameters"


def _preset(value: object) -> str:
    if not isinstance(value, str) or value not in TRANSFORMERS:
        raise not_allowed(allowed_models(value))
    return value


class Transformer(Model):
    """Describes a transformer's shape, from a preset or as written; ``microbatch_size`` sequences make a microbatch.

    Attributes:
        preset: a published model; what is written beside it counts in place of its row's.
        dtype: of weights and activations.
        master_weights: whether there is a copy of the weights in float32; None: where ``dtype`` has 16 bits.
        gradient_dtype: of the gradients of weights; None: as the weights.
        optimizer: see :data:`loadahead.scenarios.transformer.state.OPTIMIZERS`.
    """

    recomputes_selectively: ClassVar[bool] = True
    counts_communication: ClassVar[bool] = True

    kind: Literal["transformer"]
    preset: Annotated[str, BeforeValidator(_preset)] | None = None
    layers: Count | None = None
    hidden: Count | None = None
    heads: Count | None = None
    kv_heads: Count | None = None
    head_size: Count | None = None
    mlp: Count | None = None
    gated: bool | None = None
    norm: one_of("layernorm", "rmsnorm") | None = None  # type: ignore[valid-type]
    positions: one_of("learned", "rotary", "none") | None = None  # type: ignore[valid-type]
    attention: one_of("plain", "flash") | None = None  # type: ignore[valid-type]
    tied: bool | None = None
    bias: bool | None = None
    qkv_bias: bool | None = None
    qk_norm: bool | None = None
    dropout: bool | None = None
    experts: Natural | None = None
    experts_per_token: Natural | None = None
    sequence: Count | None = None
    vocabulary: Count | None = None
    microbatch_size: Count = 1
    dtype: one_of(*DTYPES) = "bfloat16"  # type: ignore[valid-type]
    master_weights: bool | None = None
    gradient_dtype: one_of(*DTYPES) | None = None  # type: ignore[valid-type]
    optimizer: one_of(*OPTIMIZERS) = "adamw"  # type: ignore[valid-type]

    def shape(self, name: str) -> Any:
        """Return a dimension as written, or else the preset's, or else a GPT's; InputError where there is none."""
        own = getattr(self, name)
        if own is None:
            own = _DEFAULTS.get(name) if self.preset is None else getattr(TRANSFORMERS[self.preset], name)
        if own is None and name in _SIZES:
            raise InputError(f"model.{name} is missing; write it, or preset; {allowed_models()}")
        return own

    def dimensions(self, setting: Setting) -> Dimensions:
        """Return the sizes that one GPU works with; raise InputError where they do not go together."""
        hidden, heads, head_size = self.shape("hidden"), self.shape("heads"), self.shape("head_size")
        if head_size is None:
            if hidden % heads:
                raise InputError(
                    f"model.hidden is {hidden}; it must be a multiple of heads, {heads}, or write model.head_size"
                )
            head_size = hidden // heads
        return Dimensions(
            hidden=hidden,
            heads=heads,
            kv_heads=self.shape("kv_heads") or heads,
            head_size=head_size,
            mlp=self.shape("mlp") or 4 * hidden,
            experts=self.shape("experts"),
            experts_per_token=self.shape("experts_per_token"),
            sequence=self.shape("sequence"),
            vocabulary=self.shape("vocabulary"),
            gated=self.shape("gated"),
            rms=self.shape("norm") == "rmsnorm",
            rotary=self.shape("positions") == "rotary",
            learned=self.shape("positions") == "learned",
            flash=self.shape("attention") == "flash",
            bias=self.shape("bias"),
            qkv_bias=self.shape("qkv_bias"),
            qk_norm=self.shape("qk_norm"),
            dropout=self.shape("dropout"),
            microbatch=self.microbatch_size,
            element=DTYPES[self.dtype],
            sharing=setting.sharing,
        )

    def units(self, setting: Setting, cuts: Cuts) -> Units:
        """Return every stage's units: embedding, blocks and head; raise InputError when sizes do not go together."""
        size, count = self.dimensions(setting), self.shape("layers")
        if setting.compute.flops is None:
            raise missing("flops", "989 TFLOP/s")
        made = _Layers(size, self.state(setting), setting)
        # The first that is too large is told.
        block, first, last = made.block(), made.embedding(), made.head(self._has_table(setting))
        units = setting.cut([(first, 1), (block, count), (last, 1)], cuts)
        closing = made.closing(units, setting)
        return units._replace(closing_ns=closing, told_ns=closing)

    def state(self, setting: Setting) -> State:
        """Return what a parameter needs; raise InputError where there are master weights of weights in float32."""
        weight = DTYPES[self.dtype]
        if self.master_weights and weight == FLOAT:
            raise InputError(
                f'model.master_weights is true and model.dtype is "{self.dtype}": weights in float32 need no copy; '
                "leave it out"
            )
        master = weight < FLOAT if self.master_weights is None else self.master_weights
        return State(
            weight=weight,
            gradient=DTYPES[self.gradient_dtype or self.dtype],
            master=FLOAT if master else 0,
            moments=OPTIMIZERS[self.optimizer],
            sharing=setting.sharing,
        )

    def work(self, setting: Setting) -> Work:
        """Return what a microbatch is: its tokens, and three times FORWARD's FLOPs, as BACKWARD takes twice those.

        What GPUs that share a layer compute more than once counts once.
        """
        size, compute = replace(self.dimensions(setting), sharing=Sharing()), setting.compute
        forward = embedding(size).flops + self.shape("layers") * _block(size).flops + head(size).flops
        other_precision = compute.flops_of_16_bits and DTYPES[self.dtype] == FLOAT
        return Work(
            tokens=size.tokens,
            flops=3 * forward,
            peak_flops_per_s=None if other_precision else compute.flops,
        )

    def described(self, layers: Sequence[Layer]) -> str:
        """Return the preset's name, what is other than there, and how many parameters the model has."""
        count = self._written_shape().count()
        known = None if self.preset is None else TRANSFORMERS[self.preset]
        if known is None:
            return f"a transformer of {counted(self.shape('layers'), 'layer')} ({_parameters(count)})"
        other = [key for key in _TOLD_OF_PRESETS if getattr(self, key) not in (None, getattr(known, key))]
        changed = f" with {', '.join(f'{key} {getattr(self, key)}' for key in other)}" if other else ""
        return f"{self.preset}{changed} ({_parameters(count)})"

    def _written_shape(self) -> Shape:
        """Return the shape as it counts, as a row of the catalogue."""
        return Shape(**{field.name: self.shape(field.name) for field in fields(Shape) if field.name not in _OF_A_ROW})

    def _has_table(self, setting: Setting) -> bool:
        """Return whether the head has a table of its own: one rank holds a tied one once, two have a copy each."""
        placement = setting.placement or range(setting.stages)
        return not self.shape("tied") or placement[0] != placement[-1]

    def cautions(self, setting: Setting) -> list[str]:
        """Return warnings about settings that do nothing for this shape, and about attention that was not chosen."""
        size = self.dimensions(setting)
        out = cautions_of_shape(setting, attention=self.shape("attention"), experts=size.experts)
        out += _of_the_gpu(setting.compute, self.dtype)
        chosen = self.attention is not None or (self.preset is not None and self.sequence is None)
        block = _block(size)
        if not chosen and 2 * block.core > block.kept:
            out.append(
                f'model.attention is "plain" by default: {100 * block.core // block.kept} % of what a block keeps for '
                f"its BACKWARD are scores of {size.sequence} x {size.sequence} tokens, which "
                'model.attention = "flash" does not keep'
            )
        return out


def _of_the_gpu(compute: Compute, dtype: str) -> list[str]:
    """Return warnings about times that the GPU's figures make too short."""
    out = []
    if dtype == "float32" and compute.flops_of_16_bits:
        out.append(
            'model.dtype is "float32" and the FLOPs are the catalogue\'s, which are of products in 16 bits: those in '
            "32 bits take longer; write hardware.flops"
        )
    if compute.efficiency is None and not compute.memory_bandwidth:
        out.append(
            "hardware.memory_bandwidth is not given: operators other than matrix products, and the optimizer's step, "
            "take no time"
        )
    return out


def _block(size: Dimensions) -> Part:
    return Part.together(
        [
            norm(size, keeps_input=False),
            attention(size),
            added(size),
            norm(size, keeps_input=True),
            mlp(size),
            added(size),
        ]
    )


@dataclass(frozen=True, slots=True)
class _Layers:
    """Makes layers of parts: with their bytes, their times, and what replicas have to agree on."""

    size: Dimensions
    state: State
    setting: Setting

    def block(self) -> Layer:
        return self._layer("block", _block(self.size), self.size.stream)

    def embedding(self) -> Layer:
        return self._layer("embedding", embedding(self.size), ID * self.size.tokens, gradient=0, table=True)

    def head(self, has_table: bool) -> Layer:
        """Return the head; a tied table is the embedding's, and the head uses it."""
        return self._layer("head", head(self.size), self.size.stream, table=True, owns_table=has_table)

    def _layer(
        self,
        kind: str,
        part: Part,
        boundary: int,
        gradient: int | None = None,
        table: bool = False,
        owns_table: bool = True,
    ) -> Layer:
        own = Weights(dense=part.parameters, expert=part.expert_parameters)
        of_table = Weights(dense=table_of(self.size) if table else 0)
        weights = own + of_table if owns_table else own
        compute, state = self.setting.compute, self.state
        selective = self.setting.granularity == "selective"
        amounts = {
            "boundary_bytes": boundary,
            "gradient_bytes": boundary if gradient is None else gradient,
            "saved_bytes": part.kept - (part.core if selective else 0),
            "static_bytes": state.resident(weights.dense, weights.expert),
            "optimizer_ns": compute.streamed_ns(state.stepped(weights.dense, weights.expert)),
        }
        cost, told = self._cost(part, own + of_table, selective)
        largest = max(*amounts.values(), cost.backward_ns, cost.workspace_backward)
        if largest > LARGEST_AMOUNT:
            raise InputError(
                f"model: one layer needs {largest} bytes or ns; at most {LARGEST_AMOUNT} is possible, make it smaller"
            )
        # All FLOPs grow with the tokens: per token, models of all sizes of microbatch have the same weights.
        weight = part.flops * self.size.sharing.tensor // self.size.tokens
        return Layer(**amounts, weight=weight, cost=cost, flops=part.flops, kind=kind, weights=weights, told=told)

    def _cost(self, part: Part, used: Weights, selective: bool) -> tuple[UnitCost, Told]:
        """Return a layer's times, and what is in memory only while it runs beside what its graph keeps.

        What of the times is communication comes beside them.
        """
        times = Times(compute=self.setting.compute, collectives=self.setting.collectives, element=self.size.element)
        replicas = self._replicas()
        forward, backward = times.forward(part), times.backward(part)
        gathering, scattering = replicas.gathering(used), replicas.scattering(used)
        again = times.core(part) if selective else 0
        gathered_ns = replicas.beside(forward, gathering)
        recompute = forward + gathered_ns
        if not self.setting.checkpoint or self.setting.strategy != "each":
            # No RECOMPUTE comes right before it, which would have gathered the weights.
            scattering += gathering
        scattered_ns = replicas.beside(backward, scattering)
        entering = times.told(part.told) + gathered_ns
        told = Told(
            forward_ns=entering, recompute_ns=entering, backward_ns=times.told(part.told_backward) + scattered_ns
        )
        gathered = self._gathered(used)
        reduced = self.state.whole_gradients(used.dense, used.expert)
        cost = UnitCost(
            forward_ns=recompute,
            recompute_ns=recompute,
            backward_ns=again + backward + scattered_ns,
            workspace_forward=gathered,
            workspace_recompute=gathered,
            workspace_backward=(part.core if selective else 0)
            # All gradients of its weights, where they are whole until they are scattered, or one at a time.
            + (max(part.peak, part.working + reduced) if reduced else part.peak)
            + gathered,
        )
        return cost, told

    def _gathered(self, used: Weights) -> int:
        """Return the bytes of weights that are whole only while a layer runs: its own, and those of the next one.

        The next one, a block in most places, is gathered meanwhile where communication goes on beside computation.
        """
        own = self.state.whole_weights(used.dense, used.expert)
        if not own or not self.setting.sharing.overlap:
            return own
        block = _block(self.size)
        return own + self.state.whole_weights(block.parameters, block.expert_parameters)

    def _replicas(self) -> Replicas:
        return Replicas(state=self.state, collectives=self.setting.collectives)

    def closing(self, units: Units, setting: Setting) -> tuple[int, ...]:
        """Return what each stage waits for other replicas at the end of a step; of a rank's stages, the first does."""
        replicas = self._replicas()
        if replicas.is_alone:
            return ()
        placement = setting.placement or range(setting.stages)
        of_rank: dict[int, list[int]] = {}
        for stage, rank in enumerate(placement):
            of_rank.setdefault(rank, []).append(stage)
        out = [0] * len(placement)
        known: dict[tuple[int, ...], int] = {}
        for stages in of_rank.values():
            made = tuple(units.cut.order[stage] for stage in reversed(stages))
            if made not in known:
                known[made] = replicas.closing(_backward(units, made, setting))
            out[stages[0]] = known[made]
        return tuple(out)


def _backward(units: Units, stages: Sequence[int], setting: Setting) -> Iterator[tuple[int, Weights]]:
    """Yield how long each layer's BACKWARD takes, with the RECOMPUTE before it, and its weights, last layer first."""
    for stage in stages:
        for unit in reversed(units.cut.stages[stage]):
            for number in reversed(units.cut.units[unit]):
                layer = units.layers[number]
                assert layer.cost is not None
                recompute = layer.cost.recompute_ns if setting.checkpoint else 0
                yield layer.cost.backward_ns + recompute, layer.weights
