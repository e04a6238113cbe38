"""Models as people build them, each an ``nn.Sequential`` of a few tiny layers, with its data and its loss.

Nothing here knows of plans: the same functions are named in scenarios and called by the plain trainer.
"""

from __future__ import annotations

import copy
import random
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

WIDTH, WORDS, LENGTH = 8, 16, 6


@dataclass(frozen=True, kw_only=True)
class Model:
    """Says how a model is built and trained.

    Attributes:
        build, data, loss: names of functions of this module.
        options: the builder's keyword arguments.
        table: further keys of the scenario's ``[model]``.
        frozen: how many of the first layers need no backward pass.
        unsteady: where memory cannot be predicted to the byte by nature, the words of the warning that says so.
        parked: bytes of tensors that layers hold from one forward pass to the next. Without checkpointing they are the
            graph's, too, as long as that is there, so that a prediction may be too high by them.
    """

    build: str
    data: str = "vectors"
    loss: str = "square"
    options: dict[str, Any] = field(default_factory=dict)
    table: dict[str, Any] = field(default_factory=dict)
    frozen: int = 0
    unsteady: str = ""
    parked: int = 0


MODELS: dict[str, Model] = {
    "batch norm 1d": Model(build="batch_norms"),
    "batch norm 2d": Model(build="batch_norms_of_images", data="images"),
    "group norm": Model(build="group_norms", data="images"),
    "instance norm": Model(build="instance_norms", data="images"),
    "lstm": Model(build="lstms", data="sequences"),
    "gru": Model(build="grus", data="sequences"),
    "encoder": Model(build="encoders", data="sequences"),
    "causal rotary": Model(build="causal_rotary", data="words", loss="next_word"),
    "complex rotary": Model(build="complex_rotary", data="words", loss="next_word"),
    "masks in a tuple": Model(build="masks_in_a_tuple", data="words", loss="next_word"),
    "masks in the data": Model(build="masks_in_the_data", data="words_and_masks", loss="next_word"),
    "dict between": Model(build="dicts_between"),
    "two with gradient": Model(build="two_with_gradient"),
    "experts": Model(build="experts", unsteady="depends on its data"),
    "experts, all computed": Model(build="dense_experts"),
    "idle expert": Model(build="idle_experts", data="rows_and_routes"),
    "spectral norm": Model(build="spectral_norms"),
    "old spectral norm": Model(build="spectral_norms", options={"old": True}, parked=2 * 4 * WIDTH * WIDTH),
    "weight norm": Model(build="weight_norms"),
    "old weight norm": Model(build="weight_norms", options={"old": True}, parked=2 * 4 * WIDTH * WIDTH),
    "dropout": Model(build="dropouts", frozen=1),
    "lora": Model(build="lora", data="words", loss="next_word", frozen=2),
    "frozen batch norm": Model(build="frozen_batch_norm", frozen=1),
    "eval batch norm within": Model(build="eval_batch_norm_within"),
    "channels last": Model(build="channels_last", data="images_channels_last"),
    "autocast": Model(build="feed_forward", table={"autocast": "bfloat16"}),
    "float64": Model(build="doubles", data="doubles_of_vectors", frozen=1),
    "mixed types": Model(build="mixed_types"),
    "python's random": Model(build="pythons_random"),
    "numpy's random": Model(build="numpys_random"),
    "own generator": Model(build="own_generators"),
    "inner checkpoint": Model(build="inner_checkpoints", options={"reentrant": False}),
    "reentrant checkpoint": Model(build="inner_checkpoints", options={"reentrant": True}),
    "kernel's noise": Model(build="kernels_noise"),
    "plain state": Model(build="plain_state"),
    "codebook": Model(build="codebooks"),
    "hooks": Model(build="hooks"),
    "growing list": Model(build="growing_list"),
    "complex between": Model(build="complex_between"),
    "max norm": Model(build="max_norm", data="words", loss="next_word"),
    "sparse gradients": Model(
        build="sparse", data="words", loss="next_word", table={"optimizer": "sgd"}, unsteady="sparse"
    ),
    "scripted": Model(build="scripted"),
    "other strides": Model(build="other_strides", data="squares"),
    "integers between": Model(build="integers_between", frozen=1),
    "no parameters": Model(build="without_parameters"),
    "delayed scaling": Model(build="delayed_scaling"),
    "shared frozen table": Model(build="shared_frozen_table"),
    "llama, eager": Model(build="llama", data="words", loss="next_word", options={"attention": "eager"}),
    "llama, sdpa": Model(build="llama", data="words", loss="next_word", options={"attention": "sdpa"}),
    "llama with lora": Model(
        build="llama_with_lora", data="words", loss="next_word", options={"attention": "sdpa"}, frozen=1
    ),
}


# ---- data: the same for equal arguments ----


def _generator(step: int, microbatch: int) -> torch.Generator:
    return torch.Generator().manual_seed(1_000 * step + microbatch + 1)


def _floats(step: int, microbatch: int, *shape: int) -> tuple[Tensor, Tensor]:
    generator = _generator(step, microbatch)
    return torch.randn(*shape, generator=generator) * 2 + 0.5, torch.randn(shape[0], 3, generator=generator)


def vectors(step: int, microbatch: int, microbatches: int) -> tuple[Tensor, Tensor]:
    """Rows of floats, and three numbers to fit for each."""
    return _floats(step, microbatch, 4, WIDTH)


def squares(step: int, microbatch: int, microbatches: int) -> tuple[Tensor, Tensor]:
    """As many rows as columns, so that both orders in memory have one shape."""
    return _floats(step, microbatch, WIDTH, WIDTH)


def sequences(step: int, microbatch: int, microbatches: int) -> tuple[Tensor, Tensor]:
    """Sequences of vectors."""
    return _floats(step, microbatch, 2, LENGTH, WIDTH)


def images(step: int, microbatch: int, microbatches: int) -> tuple[Tensor, Tensor]:
    """Images of odd height and width."""
    return _floats(step, microbatch, 2, 3, 7, 5)


def images_channels_last(step: int, microbatch: int, microbatches: int) -> tuple[Tensor, Tensor]:
    """The same images with the channels innermost in memory."""
    x, target = images(step, microbatch, microbatches)
    return x.contiguous(memory_format=torch.channels_last), target


def doubles_of_vectors(step: int, microbatch: int, microbatches: int) -> tuple[Tensor, Tensor]:
    """Rows in float64."""
    x, target = vectors(step, microbatch, microbatches)
    return x.double(), target.double()


def words(step: int, microbatch: int, microbatches: int) -> tuple[Tensor, Tensor]:
    """Sequences of word numbers, and the next ones. Word 0 stands for no word."""
    ids = torch.randint(WORDS, (2, LENGTH + 1), generator=_generator(step, microbatch))
    return ids[:, :-1], ids[:, 1:]


def words_and_masks(step: int, microbatch: int, microbatches: int) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """The same words with their mask and positions, as a tuple."""
    ids, target = words(step, microbatch, microbatches)
    return (ids, ids.eq(0), torch.arange(LENGTH)), target


def rows_and_routes(step: int, microbatch: int, microbatches: int) -> tuple[Tensor, Tensor]:
    """Rows whose last number says which expert they go to; in step 2 none goes to expert 1."""
    x, target = vectors(step, microbatch, microbatches)
    routes = torch.arange(len(x)) % 3
    x[:, -1] = torch.where(routes == 1, 2, routes) if step == 2 else routes
    return x, target


# ---- losses: one number, the mean over the microbatch ----


def square(output: Tensor, target: Tensor) -> Tensor:
    """Squared distance, in the output's own type. Images and sequences are averaged first."""
    flat = output.reshape(len(target), -1, output.shape[-1]).mean(1)
    return ((flat - target.to(flat.dtype)) ** 2).mean()


def next_word(output: Tensor, target: Tensor) -> Tensor:
    """Cross entropy over all places."""
    return functional.cross_entropy(output.flatten(0, 1).float(), target.flatten())


# ---- normalisation ----


def batch_norms() -> nn.Sequential:
    """Batches counted in buffers: a moving average, and the average of all batches (momentum None)."""
    return nn.Sequential(
        nn.Linear(WIDTH, WIDTH),
        nn.Sequential(nn.BatchNorm1d(WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH)),
        nn.BatchNorm1d(WIDTH, momentum=None),
        nn.Tanh(),
        nn.Linear(WIDTH, 3),
    )


def batch_norms_of_images() -> nn.Sequential:
    """The same on images, and one without statistics."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, momentum=None)),
        nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU(inplace=True)),
        nn.Sequential(nn.Flatten(1), nn.Linear(4 * 5 * 3, 3)),
    )


def group_norms() -> nn.Sequential:
    """Normalisation without buffers."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.GroupNorm(2, 4),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.GroupNorm(4, 4)),
        nn.Sequential(nn.Flatten(1), nn.Linear(4 * 5 * 3, 3)),
    )


def instance_norms() -> nn.Sequential:
    """Normalisation per image that keeps running statistics."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
        nn.ReLU(),
        nn.InstanceNorm2d(4, track_running_stats=True),
        nn.Sequential(nn.Flatten(1), nn.Linear(4 * 5 * 3, 3)),
    )


class Codebook(nn.Module):
    """Adds the nearest of its codes, which follow what they are nearest to."""

    codes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codes", torch.randn(5, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        nearest = torch.cdist(x.detach(), self.codes).argmin(1)
        chosen = self.codes[nearest]
        with torch.no_grad():
            mine = functional.one_hot(nearest, 5).to(x.dtype)
            self.codes.lerp_(mine.t() @ x / mine.sum(0).clamp(min=1)[:, None], 0.1)
        return x + (chosen - x).detach() + 0.1 * x * chosen


def codebooks() -> nn.Sequential:
    """Vector quantisation whose codes are buffers."""
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), Codebook(), nn.Linear(WIDTH, WIDTH), Codebook(), nn.Linear(WIDTH, 3))


def spectral_norms(old: bool = False) -> nn.Sequential:
    """Every forward pass takes a step of the power iteration, in buffers; ``old``: with hooks."""
    norm: Any = nn.utils.spectral_norm if old else nn.utils.parametrizations.spectral_norm
    return nn.Sequential(
        nn.Linear(WIDTH, WIDTH),
        nn.Sequential(norm(nn.Linear(WIDTH, WIDTH)), nn.Tanh()),
        norm(nn.Linear(WIDTH, WIDTH)),
        nn.Linear(WIDTH, 3),
    )


def weight_norms(old: bool = False) -> nn.Sequential:
    """A weight is made anew by each forward pass; ``old``: by a hook that leaves it on the module."""
    norm: Any = nn.utils.weight_norm if old else nn.utils.parametrizations.weight_norm
    return nn.Sequential(
        nn.Linear(WIDTH, WIDTH),
        nn.Sequential(norm(nn.Linear(WIDTH, WIDTH)), nn.Tanh()),
        norm(nn.Linear(WIDTH, WIDTH)),
        nn.Linear(WIDTH, 3),
    )


class DelayedScaling(nn.Module):
    """Rounds its input at a scale that the largest values of the last microbatches give, then notes this one's."""

    history: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.register_buffer("history", torch.zeros(3))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        rounded = (x * self.scale).round() / self.scale
        with torch.no_grad():
            self.history = torch.roll(self.history, -1)  # another tensor each time
            self.history[-1] = x.abs().max()
            self.scale.copy_(16.0 / self.history.max())
        return torch.tanh(self.linear(x + (rounded - x).detach()))


def delayed_scaling() -> nn.Sequential:
    """Histories of largest values, as training in 8 bits keeps them."""
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), DelayedScaling(), DelayedScaling(), nn.Linear(WIDTH, 3))


# ---- sequences ----


class Recurrent(nn.Module):
    """Gives what a recurrent layer outputs at each place, without its last state."""

    def __init__(self, cell: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.cell: nn.Module = cell(WIDTH, WIDTH, num_layers=2, dropout=0.3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.cell(x)[0]
        return out


def lstms() -> nn.Sequential:
    """Two LSTMs of two layers each, with dropout between these."""
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), Recurrent(nn.LSTM), Recurrent(nn.LSTM), nn.Linear(WIDTH, 3))


def grus() -> nn.Sequential:
    """The same with GRUs."""
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), Recurrent(nn.GRU), Recurrent(nn.GRU), nn.Linear(WIDTH, 3))


def encoders() -> nn.Sequential:
    """Torch's own transformer layers."""
    layers = [nn.TransformerEncoderLayer(WIDTH, 2, 2 * WIDTH, dropout=0.1, batch_first=True) for _ in range(3)]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 3))


class Tables(nn.Module):
    """Holds the cosines and sines that all layers turn their queries and keys by."""

    cos: Tensor
    sin: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        angles = torch.outer(torch.arange(LENGTH), 100.0 ** -(torch.arange(0, width, 2) / width)).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        return x * self.cos + torch.cat([-second, first], -1) * self.sin


class ComplexTables(nn.Module):
    """The same turn, by one complex number for each pair."""

    turns: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        angles = torch.outer(torch.arange(LENGTH), 100.0 ** -(torch.arange(0, width, 2) / width))
        self.register_buffer("turns", torch.polar(torch.ones_like(angles), angles))

    def forward(self, x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * self.turns).flatten(-2).type_as(x)


class Attention(nn.Module):
    """Attends with two heads; the tables are another module's, which all layers share."""

    def __init__(self, tables: nn.Module) -> None:
        super().__init__()
        self.tables = tables
        self.norm, self.inner = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.outer = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.inner(self.norm(x)).unflatten(-1, (3, 2, WIDTH // 2)).permute(2, 0, 3, 1, 4)
        query, key, value = self.tables(heads[0]), self.tables(heads[1]), heads[2]
        hidden = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
        scores = (query @ key.transpose(-1, -2)).masked_fill(hidden, float("-inf"))
        mixed = functional.dropout(scores.softmax(-1), 0.1, self.training) @ value
        out: Tensor = x + self.outer(mixed.transpose(1, 2).flatten(2))
        return out


def _decoder(tables: nn.Module) -> nn.Sequential:
    blocks = [Attention(tables) for _ in range(3)]
    return nn.Sequential(nn.Embedding(WORDS, WIDTH), *blocks, nn.Linear(WIDTH, WORDS))


def causal_rotary() -> nn.Sequential:
    """Causal attention whose mask is made inside; one module of rotary tables is in all blocks."""
    return _decoder(Tables(WIDTH // 2))


def complex_rotary() -> nn.Sequential:
    """The same with a complex table."""
    return _decoder(ComplexTables(WIDTH // 2))


Masked = tuple[Tensor, Tensor, Tensor]  # hidden state, mask, positions


class Enter(nn.Module):
    """Begins a model whose layers hand on (hidden state, mask, positions); the data may hold the last two."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)

    def forward(self, given: Tensor | Masked) -> Masked:
        if isinstance(given, tuple):
            ids, mask, positions = given
            return self.words(ids), mask, positions
        return self.words(given), given.eq(0), torch.arange(LENGTH)


class MaskedAttention(nn.Module):
    """Attends where the mask lets it, and hands mask and positions on as they came."""

    def __init__(self) -> None:
        super().__init__()
        self.places, self.inner = nn.Embedding(LENGTH, WIDTH), nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, given: Masked) -> Masked:
        x, mask, positions = given
        query, key, value = self.inner(x + self.places(positions)).chunk(3, -1)
        scores = (query @ key.transpose(-1, -2)).masked_fill(mask[:, None, :], -1e4)
        return x + functional.dropout(scores.softmax(-1), 0.1, self.training) @ value, mask, positions


class Leave(nn.Module):
    """Ends such a model; masked places count nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, WORDS)

    def forward(self, given: Masked) -> Tensor:
        out: Tensor = self.head(given[0]).masked_fill(given[1][..., None], 0.0)
        return out


def masks_in_a_tuple() -> nn.Sequential:
    """The first layer makes mask and positions, the last one still reads the mask."""
    return nn.Sequential(Enter(), MaskedAttention(), MaskedAttention(), MaskedAttention(), Leave())


def masks_in_the_data() -> nn.Sequential:
    """The data holds mask and positions."""
    return masks_in_a_tuple()


class Named(nn.Module):
    """Hands on a dictionary: a hidden state and a gate with gradient, and counts that all layers read."""

    def __init__(self, place: str = "within") -> None:
        super().__init__()
        self.place, self.linear, self.gate = place, nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1)
        self.head = nn.Linear(WIDTH, 3) if place == "last" else nn.Identity()

    def forward(self, given: Any) -> Any:
        if self.place == "first":
            given = {"state": given, "gate": given.mean(-1, keepdim=True).sigmoid(), "counts": given.gt(0).sum(-1)}
        state, gate, counts = given["state"], given["gate"], given["counts"]
        state = state + gate * torch.tanh(self.linear(state)) / (1 + counts[:, None])
        if self.place == "last":
            return self.head(state * gate)
        return {"state": state, "gate": self.gate(state).sigmoid(), "counts": counts}


def dicts_between() -> nn.Sequential:
    """Dictionaries between layers; of their tensors two have a gradient."""
    return nn.Sequential(Named("first"), Named(), Named(), Named("last"))


class Split(nn.Module):
    """Hands on two hidden states, the second in another shape and type of container: a list."""

    def __init__(self, place: str = "within") -> None:
        super().__init__()
        self.place, self.wide, self.slim = place, nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2)
        self.back, self.head = nn.Linear(2, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, given: Any) -> Any:
        wide, slim = (given, self.slim(given)) if self.place == "first" else given
        wide = functional.dropout(torch.tanh(self.wide(wide)), 0.2, self.training) + self.back(slim)
        return self.head(wide) if self.place == "last" else [wide, slim + self.slim(wide)]


def two_with_gradient() -> nn.Sequential:
    """Two tensors with gradient between all layers. Not every weight is used in every layer."""
    return nn.Sequential(Split("first"), Split(), Split(), Split("last"))


class Appends(nn.Module):
    """Hands on all that came, and one tensor more."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, given: Tensor | list[Tensor]) -> list[Tensor]:
        values = given if isinstance(given, list) else [given]
        return [*values, torch.tanh(self.linear(torch.stack(values).sum(0)))]


class Sums(nn.Module):
    """Ends such a model."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, values: list[Tensor]) -> Tensor:
        out: Tensor = self.head(torch.stack(values).sum(0))
        return out


def growing_list() -> nn.Sequential:
    """Every layer reads what all layers below it made."""
    return nn.Sequential(Appends(), Appends(), Appends(), Sums())


# ---- experts ----


class AddLoss(torch.autograd.Function):
    """Hands ``x`` on as it is, and puts a gradient of 1 on the auxiliary loss."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, auxiliary: Tensor) -> Tensor:
        ctx.shape, ctx.dtype = auxiliary.shape, auxiliary.dtype
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0], torch.ones(ctx.shape, dtype=ctx.dtype)


class Experts(nn.Module):
    """Sends each row to the expert that the gate likes best, counts rows and calls, and adds a loss for balance.

    Calls are counted in a plain number; it is in the state dict, so that it can be compared. ``dense``: all experts
    compute all rows, so that memory does not depend on the gate.
    """

    rows: Tensor
    share: Tensor

    def __init__(self, dense: bool = False) -> None:
        super().__init__()
        self.gate, self.dense, self.calls = nn.Linear(WIDTH, 3, bias=False), dense, 0
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.register_buffer("rows", torch.zeros(3, dtype=torch.int64))
        self.register_buffer("share", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        likes = self.gate(x).softmax(-1)
        best = likes.argmax(-1)
        self.calls += 1
        self.rows += torch.bincount(best, minlength=3)  # in place
        self.share = 0.9 * self.share + 0.1 * likes.detach().mean(0)  # another tensor each time
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            if self.dense:
                out = out + expert(x) * likes[:, number : number + 1] * best.eq(number)[:, None]
            else:
                own = best.eq(number).nonzero().squeeze(1)
                out = out.index_add(0, own, expert(x[own]) * likes[own, number : number + 1])
        balance = 0.1 * (likes.mean(0) * (self.share + 0.1)).sum()
        added: Tensor = AddLoss.apply(x + torch.tanh(out), balance)  # type: ignore[no-untyped-call]
        return added

    def get_extra_state(self) -> dict[str, int]:
        return {"calls": self.calls}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.calls = state["calls"]


def experts() -> nn.Sequential:
    """Experts with counters and an auxiliary loss; how many rows each gets depends on the data."""
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), Experts(), Experts(), nn.Linear(WIDTH, 3))


def dense_experts() -> nn.Sequential:
    """The same in equal memory for every microbatch."""
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), Experts(dense=True), Experts(dense=True), nn.Linear(WIDTH, 3))


class Routed(nn.Module):
    """Has one expert for each route; an expert without a row is not called at all."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, given: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, routes = given
        out = x
        for number, expert in enumerate(self.experts):
            own = routes.eq(number)
            if own.any():
                out = out + torch.tanh(expert(x)) * own[:, None]
        return out, routes


class Router(nn.Module):
    """Takes the route of each row from its last number."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.linear(x), x[:, -1].long()


class First(nn.Module):
    """Ends a model whose layers hand on a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, given: tuple[Tensor, ...]) -> Tensor:
        out: Tensor = self.head(given[0])
        return out


def idle_experts() -> nn.Sequential:
    """In step 2 an expert gets no row: it has no gradient, and an optimizer leaves it alone."""
    return nn.Sequential(Router(), Routed(), Routed(), First())


# ---- parts that are not trained ----


class Adapted(nn.Module):
    """A frozen weight beside an adapter of low rank with dropout; ``dtype`` is the frozen weight's."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.base = nn.Linear(WIDTH, WIDTH, dtype=dtype).requires_grad_(False)
        self.down, self.up = nn.Linear(WIDTH, 2, bias=False), nn.Linear(2, WIDTH, bias=False)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        base = self.base(x.to(self.base.weight.dtype)).to(x.dtype)
        return x + torch.tanh(base + 2.0 * self.up(self.down(self.drop(x))))


def lora() -> nn.Sequential:
    """Adapters on a frozen base. The embedding and the first layer are frozen, and so is the head."""
    front = [nn.Embedding(WORDS, WIDTH), nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU())]
    return nn.Sequential(
        *[layer.requires_grad_(False) for layer in front],
        Adapted(),
        Adapted(),
        nn.Linear(WIDTH, WORDS).requires_grad_(False),
    )


def mixed_types() -> nn.Sequential:
    """A frozen base in bfloat16, adapters in float32."""
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), *[Adapted(torch.bfloat16) for _ in range(3)], nn.Linear(WIDTH, 3))


def frozen_batch_norm() -> nn.Sequential:
    """A frozen front in evaluation mode: it counts no batches and drops nothing."""
    front = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.Dropout(0.5))
    front.requires_grad_(False).eval()
    return nn.Sequential(front, nn.Linear(WIDTH, WIDTH), nn.Dropout(0.2), nn.Linear(WIDTH, 3))


def eval_batch_norm_within() -> nn.Sequential:
    """A part in evaluation mode in the middle, whose weights train."""
    still = nn.Sequential(nn.BatchNorm1d(WIDTH), nn.Dropout(0.5), nn.Linear(WIDTH, WIDTH)).eval()
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), still, nn.Dropout(0.2), nn.Linear(WIDTH, 3))


class Looked(nn.Module):
    """Adds a row of a table that other layers read, too."""

    def __init__(self, table: nn.Parameter, row: int) -> None:
        super().__init__()
        self.table, self.row, self.linear = table, row, nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.linear(x) + self.table[self.row])


def shared_frozen_table() -> nn.Sequential:
    """A frozen parameter that all layers hold: no gradient adds up, so that any rank may have it."""
    table = nn.Parameter(torch.randn(4, WIDTH), requires_grad=False)
    return nn.Sequential(*[Looked(table, row) for row in range(4)], nn.Linear(WIDTH, 3))


# ---- types and layouts ----


class Spectrum(nn.Module):
    """Goes to frequencies, or back."""

    def __init__(self, back: bool) -> None:
        super().__init__()
        self.back = back

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.fft.irfft(x, n=WIDTH) if self.back else torch.fft.rfft(x)
        return out


class Mixes(nn.Module):
    """Multiplies by a complex weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(WIDTH // 2 + 1, WIDTH // 2 + 1, dtype=torch.complex64) / 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x @ self.weight
        return out


def complex_between() -> nn.Sequential:
    """Complex numbers between layers, and complex weights."""
    inner = [Spectrum(back=False), Mixes(), Mixes(), Spectrum(back=True)]
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), *inner, nn.Linear(WIDTH, 3))


def channels_last() -> nn.Sequential:
    """Convolutions with the channels innermost in memory."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3, stride=2)),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.Sequential(nn.Flatten(1), nn.Linear(4 * 2 * 1, 3)),
    )
    out: nn.Sequential = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return out


def feed_forward() -> nn.Sequential:
    """Layers of which autocast runs some in bfloat16 and some in float32."""
    block = [nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Dropout(0.1)) for _ in range(3)]
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), *block, nn.Sequential(nn.Softmax(-1), nn.Linear(WIDTH, 3)))


def doubles() -> nn.Sequential:
    """All in float64."""
    return dropouts().double()


class Turning(nn.Module):
    """Gives its output in one order in memory or the other, as the numbers fall."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.linear(x))
        return y.t().contiguous().t() if y.sum() > 0 else y.clone()


def other_strides() -> nn.Sequential:
    """Boundaries that lie in memory one way in some microbatches and another way in others."""
    return nn.Sequential(Turning(), Turning(), Turning(), nn.Linear(WIDTH, 3))


class Bucket(nn.Module):
    """Makes whole numbers of floats."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * 2).long().clamp(-4, 3) + 4


def integers_between() -> nn.Sequential:
    """Whole numbers between the first two layers."""
    return nn.Sequential(Bucket(), nn.Embedding(8, 4), nn.Flatten(1), nn.Tanh(), nn.Linear(4 * WIDTH, 3))


def without_parameters() -> nn.Sequential:
    """Layers that have nothing to train, between some that have."""
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Dropout(0.2), nn.Unflatten(1, (2, 4)), nn.Linear(4, 3))


class Bounded(nn.Module):
    """Changes gradients on their way, by hooks on its input and its output."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.linear(x))
        if x.requires_grad:
            x.register_hook(lambda gradient: gradient * 0.5)  # type: ignore[no-untyped-call]
        y.register_hook(lambda gradient: gradient.clamp(-0.01, 0.01))  # type: ignore[no-untyped-call]
        return x + y


def hooks() -> nn.Sequential:
    """Hooks of tensors, modules and a weight."""
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), Bounded(), Bounded(), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3))
    model[0].register_forward_pre_hook(lambda layer, given: (given[0] + 1,))
    model[3].register_forward_hook(lambda layer, given, made: made * 2)
    backward: Any = lambda layer, inner, outer: (inner[0] * 0.5,)  # noqa: E731
    model[3].register_full_backward_hook(backward)
    weight: Any = model[4].weight
    weight.register_hook(lambda gradient: gradient * 0.1)
    return model


# ---- random numbers ----


def dropouts() -> nn.Sequential:
    """Torch's own random numbers, in most layers."""
    block = [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Dropout(0.3)) for _ in range(3)]
    return nn.Sequential(nn.Dropout(0.1), *block, nn.Linear(WIDTH, 3))


class Drawing(nn.Module):
    """Scales what it adds by a random number that torch's generator does not give."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source, self.linear = source, nn.Linear(WIDTH, WIDTH)
        self.generator = torch.Generator().manual_seed(5)

    def forward(self, x: Tensor) -> Tensor:
        if self.source == "python":
            return x + random.random() * torch.tanh(self.linear(x))
        if self.source == "numpy":
            return x + float(np.random.rand()) * torch.tanh(self.linear(x))
        kept = torch.rand(x.shape, generator=self.generator) < 0.7
        return x + kept * torch.tanh(self.linear(x))

    def get_extra_state(self) -> Tensor:
        """The generator's state, so that it can be compared."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        self.generator.set_state(state)


def _drawing(source: str) -> nn.Sequential:
    return nn.Sequential(*[Drawing(source) for _ in range(3)], nn.Dropout(0.2), nn.Linear(WIDTH, 3))


def pythons_random() -> nn.Sequential:
    """Random numbers of Python's module."""
    return _drawing("python")


def numpys_random() -> nn.Sequential:
    """Random numbers of numpy's global generator."""
    return _drawing("numpy")


def own_generators() -> nn.Sequential:
    """Random numbers of a generator that the layer holds."""
    return _drawing("own")


class Checkpointed(nn.Module):
    """Recomputes a part of itself with torch's own checkpoint."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.part = nn.Sequential(nn.Linear(WIDTH, 16), nn.GELU(), nn.Dropout(0.2), nn.Linear(16, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + checkpoint(self.part, x, use_reentrant=self.reentrant)
        return out


def kernels_noise() -> nn.Sequential:
    """Layers whose kernel draws numbers, and writes them into a tensor that it has saved before."""
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.RReLU(), nn.Linear(WIDTH, WIDTH), nn.RReLU(), nn.Linear(WIDTH, 3))


class Notes(nn.Module):
    """Keeps what it has seen in containers and in objects, and draws from generators that it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.seen, self.last = nn.Linear(WIDTH, WIDTH), Counter[str](), deque[float](maxlen=2)
        self.sums: list[float] = []
        self.python, self.numpy = random.Random(3), np.random.default_rng(4)

    def forward(self, x: Tensor) -> Tensor:
        self.seen["calls"] += 1
        self.sums.append(float(x.detach().sum()))
        self.last.append(self.sums[-1])
        scale = self.python.random() + self.numpy.random() + self.seen["calls"] / 10 + len(self.sums) % 3
        return x + torch.tanh(self.linear(x)) * scale + 0.01 * sum(self.last)

    def get_extra_state(self) -> dict[str, Any]:
        """All of it, so that it can be compared."""
        drawn = copy.deepcopy((self.python, self.numpy))
        return {
            "calls": self.seen["calls"],
            "sums": list(self.sums),
            "last": list(self.last),
            "next": [drawn[0].random(), float(drawn[1].random())],
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        raise NotImplementedError


def plain_state() -> nn.Sequential:
    """State that is in no buffer."""
    return nn.Sequential(Notes(), Notes(), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3))


def inner_checkpoints(reentrant: bool) -> nn.Sequential:
    """Checkpoints inside layers, with dropout inside these."""
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), Checkpointed(reentrant), Checkpointed(reentrant), nn.Linear(WIDTH, 3))


# ---- embeddings ----


def max_norm() -> nn.Sequential:
    """An embedding whose forward pass rewrites rows of its weight."""
    embedding = nn.Embedding(WORDS, WIDTH, max_norm=1.0)
    return nn.Sequential(embedding, nn.Linear(WIDTH, WIDTH), nn.Dropout(0.1), nn.Linear(WIDTH, WORDS))


def sparse() -> nn.Sequential:
    """An embedding whose gradient is sparse."""
    embedding = nn.Embedding(WORDS, WIDTH, sparse=True)
    return nn.Sequential(embedding, nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WORDS))


class Tied(nn.Module):
    """A head whose weight is the embedding's."""

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.weight = embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight)


def tied() -> nn.Sequential:
    """Most small language models tie these two."""
    embedding = nn.Embedding(WORDS, WIDTH)
    block = [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Dropout(0.1)) for _ in range(2)]
    return nn.Sequential(embedding, *block, Tied(embedding))


# ---- other people's ----


def scripted() -> nn.Sequential:
    """Two layers compiled by torch.jit, with dropout."""
    parts = [nn.Sequential(nn.Linear(WIDTH, 16), nn.GELU(), nn.Dropout(0.1), nn.Linear(16, WIDTH)) for _ in range(2)]
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), *map(torch.jit.script, parts), nn.Linear(WIDTH, 3))


class PublishedLayer(nn.Module):
    """One decoder layer as published; all share one rotary module, and give the hidden state alone."""

    def __init__(self, layer: nn.Module, rotary: nn.Module) -> None:
        super().__init__()
        self.layer, self.rotary = layer, rotary

    def forward(self, x: Tensor) -> Tensor:
        positions = torch.arange(x.shape[1])[None]
        out = self.layer(x, attention_mask=None, position_ids=positions, position_embeddings=self.rotary(x, positions))
        hidden: Tensor = out[0] if isinstance(out, tuple) else out
        return hidden


def llama(attention: str) -> nn.Sequential:
    """A tiny Llama of the transformers package, layer by layer."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm, LlamaRotaryEmbedding

    config = LlamaConfig(  # type: ignore[no-untyped-call]
        vocab_size=WORDS,
        hidden_size=WIDTH,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attention_dropout=0.1,
    )
    config._attn_implementation = attention
    rotary = LlamaRotaryEmbedding(config)
    blocks = [PublishedLayer(LlamaDecoderLayer(config, number), rotary) for number in range(2)]
    norm: Any = LlamaRMSNorm
    return nn.Sequential(nn.Embedding(WORDS, WIDTH), *blocks, norm(WIDTH), nn.Linear(WIDTH, WORDS, bias=False))


def llama_with_lora(attention: str) -> nn.Sequential:
    """The same, frozen, with peft's adapters in its blocks."""
    import peft

    config = peft.LoraConfig(r=2, lora_alpha=4, lora_dropout=0.1, target_modules=["q_proj", "v_proj", "up_proj"])
    out: nn.Sequential = peft.inject_adapter_in_model(config, llama(attention))  # type: ignore[assignment]
    return out
