"""Models that people have brought to systems of this kind, each with what made it hard; all are tiny."""

from __future__ import annotations

import gc
import random
import threading
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

W = 12
# Whatever is built, so that tests can look at it afterwards.
BUILT: list[nn.Module] = []


def _generator(step: int, microbatch: int) -> torch.Generator:
    return torch.Generator().manual_seed(977 * step + 31 * microbatch + 5)


def tokens(step: int, microbatch: int, microbatches: int) -> tuple[Tensor, Tensor]:
    """Words and the next words."""
    ids = torch.randint(24, (2, 8), generator=_generator(step, microbatch))
    return ids[:, :-1], ids[:, 1:]


def floats(step: int, microbatch: int, microbatches: int) -> tuple[Tensor, Tensor]:
    """Rows and what to fit to them."""
    generator = _generator(step, microbatch)
    return torch.randn(6, W, generator=generator) + 0.5, torch.randn(6, 3, generator=generator)


def distance(output: Tensor, target: Tensor) -> Tensor:
    """Squared distance."""
    return ((output - target) ** 2).mean()


class Layer(nn.Module):
    """A linear layer whose subclasses say what happens around it."""

    def __init__(self, outputs: int = W) -> None:
        super().__init__()
        self.linear = nn.Linear(W, outputs)


def _built(model: nn.Sequential) -> nn.Sequential:
    BUILT.append(model)
    return model


# ---- what a forward pass changes ----


def counting() -> nn.Sequential:
    """Batch statistics."""
    return _built(
        nn.Sequential(
            nn.Linear(W, W), nn.Sequential(nn.BatchNorm1d(W), nn.ReLU(), nn.Linear(W, W)), nn.Tanh(), nn.Linear(W, 3)
        )
    )


def power_iterations() -> nn.Sequential:
    """A convolution and a linear layer under spectral norm."""
    norm = nn.utils.parametrizations.spectral_norm
    conv = nn.Sequential(nn.Unflatten(1, (2, 6)), norm(nn.Conv1d(2, 2, 3, padding=1)), nn.Flatten(1), nn.Tanh())
    return nn.Sequential(nn.Linear(W, W), conv, nn.Sequential(norm(nn.Linear(W, W)), nn.Tanh()), nn.Linear(W, 3))


class Board:
    """An object that all layers know; the mask is left there, as only one tensor passes between layers."""

    mask: Tensor | None = None


class LeavesMask(Layer):
    def __init__(self, board: Board) -> None:
        super().__init__()
        self.board = board

    def forward(self, x: Tensor) -> Tensor:
        self.board.mask = x[:, :1] > 0.5
        out: Tensor = self.linear(x)
        return out


class ReadsMask(LeavesMask):
    def forward(self, x: Tensor) -> Tensor:
        assert self.board.mask is not None
        return x + torch.tanh(self.linear(x)).masked_fill(self.board.mask, 0)


def side_channel() -> nn.Sequential:
    """A mask that travels beside the layers."""
    board = Board()
    return nn.Sequential(LeavesMask(board), ReadsMask(board), ReadsMask(board), nn.Linear(W, 3))


class Skips(Layer):
    """Leaves itself out at random, by Python's own generator."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (2.0 if random.random() < 0.5 else 0.0) * torch.tanh(self.linear(x))


def stochastic_depth() -> nn.Sequential:
    """Layers that are left out at random."""
    return nn.Sequential(Skips(), Skips(), Skips(), nn.Linear(W, 3))


class Remembers(nn.Module):
    """Attends to what it has seen before, too, as long as that is short."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(W, W), nn.Linear(W, W)
        self.cache: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        keys = self.key(x)
        if self.cache is not None and self.cache.shape[1] < 20:
            keys = torch.cat([self.cache, keys], 1)
        self.cache = keys.detach()
        out: Tensor = x + (self.query(x) @ keys.transpose(1, 2)).softmax(-1) @ keys
        return out


def key_cache() -> nn.Sequential:
    """A cache that grows with each call."""
    return nn.Sequential(nn.Linear(W, W), Remembers(), nn.Linear(W, 3))


def frozen_eval_front() -> nn.Sequential:
    """A frozen front in evaluation mode."""
    front = nn.Sequential(nn.Linear(W, W), nn.BatchNorm1d(W), nn.Dropout(0.4))
    front.requires_grad_(False).eval()
    return _built(nn.Sequential(front, nn.Linear(W, W), nn.GELU(), nn.Linear(W, 3)))


class Nested(nn.Module):
    """Recomputes its inside by torch's own checkpoint."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.inside = nn.Sequential(nn.Linear(W, 2 * W), nn.SiLU(), nn.Dropout(0.3), nn.Linear(2 * W, W))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + checkpoint(self.inside, x, use_reentrant=self.reentrant)
        return out


def nested_checkpoints(reentrant: bool = False, front: bool = True) -> nn.Sequential:
    """Checkpoints inside checkpointed units, behind a layer or at once."""
    begins = [nn.Linear(W, W)] if front else []
    return nn.Sequential(*begins, Nested(reentrant), Nested(reentrant), nn.Linear(W, 3))


def renormed(sparse: bool = False, max_norm: float = 0.7) -> nn.Sequential:
    """An embedding whose rows are rewritten where they are too long; its gradient may be sparse."""
    embedding = nn.Embedding(24, W, max_norm=max_norm or None, sparse=sparse)
    return nn.Sequential(embedding, nn.Linear(W, W), nn.Linear(W, 24))


def low_rank_int8(kind: str) -> nn.Sequential:
    """A frozen 8-bit base with adapters, or weight norm in its two forms."""
    if kind == "int8":
        return nn.Sequential(nn.Linear(W, W), EightBit(), EightBit(), nn.Linear(W, 3))
    norm: Any = nn.utils.weight_norm if kind == "hook" else nn.utils.parametrizations.weight_norm
    return nn.Sequential(norm(nn.Linear(W, W)), nn.Tanh(), norm(nn.Linear(W, W), dim=None), nn.Linear(W, 3))


class EightBit(nn.Module):
    """Holds a weight in 8 bits that is not trained, and an adapter that is."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.randint(-90, 90, (W, W), dtype=torch.int8), requires_grad=False)
        self.register_buffer("scale", torch.full((W, 1), 1 / 128))
        self.down, self.up = nn.Linear(W, 2, bias=False), nn.Linear(2, W, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + functional.linear(x, self.codes * self.scale) + self.up(self.down(x))
        return out


# ---- what passes between layers ----


class Opens(Layer):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.linear(x), x.abs() > 1.5


class Passes(Layer):
    def forward(self, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        hidden, mask = pair
        return hidden + torch.tanh(self.linear(hidden)).masked_fill(mask, 0), mask


class Closes(Layer):
    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        out: Tensor = self.linear(pair[0])
        return out


def pairs_between() -> nn.Sequential:
    """A mask beside the hidden state."""
    return nn.Sequential(Opens(), Passes(), Passes(), Closes(3))


class Quantises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x.clamp(-1.9, 1.9) * 4).round().long() + 8


def codes_between() -> nn.Sequential:
    """Whole numbers between layers."""
    return nn.Sequential(Quantises(), nn.Embedding(17, 4), nn.Flatten(1), nn.Linear(4 * W, 3))


class Turns(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(-1, -2)


class EveryOther(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[..., 1::2]


def squares_and_views() -> nn.Sequential:
    """Boundaries that are transposed squares and slices."""
    return nn.Sequential(nn.Linear(W, W), Turns(), nn.Linear(W, W), Turns(), EveryOther(), nn.Linear(W // 2, 3))


def convolutions(innermost: bool) -> nn.Sequential:
    """Convolutions over images of odd sizes, in both layouts."""
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, groups=3),
        nn.Sequential(nn.GroupNorm(3, 6), nn.SiLU()),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 4, 3),
        nn.Sequential(nn.Flatten(1), nn.Linear(4 * 1 * 3, 3)),
    )
    return model.to(memory_format=torch.channels_last) if innermost else model  # type: ignore[call-overload]


def pictures(step: int, microbatch: int, microbatches: int, innermost: bool) -> tuple[Tensor, Tensor]:
    """Images in the model's layout."""
    x = torch.randn(2, 3, 7, 11, generator=_generator(step, microbatch))
    return x.contiguous(memory_format=torch.channels_last if innermost else torch.contiguous_format), torch.zeros(())


class EitherWay(Layer):
    """Returns the same numbers in one order in memory or the other."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.linear(x))
        return y.t().contiguous().t() if y.mean() > 0 else y.clone()


def either_way() -> nn.Sequential:
    """Boundaries whose strides depend on the microbatch."""
    return nn.Sequential(EitherWay(), EitherWay(), EitherWay(), nn.Linear(W, 3))


class InPlace(Layer):
    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def forward(self, x: Tensor) -> Tensor:
        if self.where == "input":
            x.mul_(0.5)
        y: Tensor = self.linear(x)
        if self.where == "input":
            return y
        if self.where == "saved":
            y = y.exp()
            total = y.sum()
            y.mul_(2)
            return y * total
        if self.where == "view":
            y[:, 1:3].zero_()
            return y
        return y.mul_(0.5).add_(1.0)


def in_place(where: str) -> nn.Sequential:
    """Layers that write over their input, over what autograd saved, over a view, or over what is their own."""
    last = nn.ReLU(inplace=True) if where == "own" else nn.Identity()
    return nn.Sequential(nn.Linear(W, W), InPlace(where), InPlace(where), last, nn.Linear(W, 3))


# ---- data ----


def plain() -> nn.Sequential:
    """Nothing special."""
    return nn.Sequential(nn.Linear(W, W), nn.Tanh(), nn.Linear(W, 3))


def plain_for(how: str) -> nn.Sequential:
    """Nothing special either; ``how`` is for the data."""
    return plain()


def ragged(step: int, microbatch: int, microbatches: int, how: str) -> tuple[Tensor, Tensor]:
    """Microbatches of different sizes."""
    rows = {"last": 3 if microbatch == microbatches - 1 else 6, "step": 4 + step, "first": 6 - 2 * (microbatch == 0)}
    return torch.full((rows[how], W), 0.25 * microbatch - 0.5), torch.zeros(())


def share_of_batch(step: int, microbatch: int, microbatches: int) -> tuple[Tensor, Tensor]:
    """A microbatch cut from the step's twelve rows, which is what the third argument is for."""
    generator = torch.Generator().manual_seed(step)
    rows, each = torch.randn(12, W, generator=generator), 12 // microbatches
    return rows[microbatch * each : (microbatch + 1) * each], torch.zeros(())


class Whichever(Layer):
    """Takes what the data gives: a tensor, a pair, or a dictionary."""

    def forward(self, given: Any) -> Tensor:
        if isinstance(given, dict):
            given = (given["x"], given["mask"])
        x, mask = given if isinstance(given, tuple) else (given, given > 9)
        return torch.tanh(self.linear(x)).masked_fill(mask, 0)


def takes(how: str) -> nn.Sequential:
    """A first layer for data of several forms."""
    return nn.Sequential(Whichever(), nn.Linear(W, W), nn.Linear(W, 3))


def batches(step: int, microbatch: int, microbatches: int, how: str) -> Any:
    """Batches of several tensors, and some that are none."""
    x, target = floats(step, microbatch, microbatches)
    forms: dict[str, Any] = {
        "tensor": (x, target),
        "tuple": ((x, x > 1), target),
        "dict": ({"x": x, "mask": x > 1}, target),
        "targets": (x, (target, target > 0)),
        "list": [x, target],
        "three": (x, target, target),
        "float64": (x.double(), target),
        "numpy": (x.numpy(), target.numpy()),
        "nothing": None,
    }
    return forms[how]


def distance_to_any(output: Tensor, target: Any) -> Tensor:
    """Squared distance; of two targets the second says where it counts."""
    if isinstance(target, tuple):
        return distance(output * target[1], target[0] * target[1])
    return distance(output, target)


# ---- weights ----


class HeadOf(nn.Module):
    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.weight = embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight)


def tied_words() -> nn.Sequential:
    """The head's weight is the embedding's."""
    embedding = nn.Embedding(24, W)
    return nn.Sequential(embedding, nn.Linear(W, W), nn.Tanh(), HeadOf(embedding))


class Biased(Layer):
    def __init__(self, table: nn.Parameter) -> None:
        super().__init__()
        self.table = table

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x) + self.table[1]
        return out


def used_twice(kind: str) -> nn.Sequential:
    """One layer that stands in several places; or a frozen table that several layers read."""
    if kind == "layer":
        one = nn.Linear(W, W)
        return nn.Sequential(one, nn.Tanh(), one, nn.Tanh(), one, nn.Linear(W, 3))
    table = nn.Parameter(torch.randn(3, W), requires_grad=False)
    return nn.Sequential(Biased(table), nn.Tanh(), Biased(table), nn.Linear(W, 3))


class Average(nn.Module):
    """A running mean, as a module that several layers hold."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(W))


class Centred(Layer):
    def __init__(self, average: Average) -> None:
        super().__init__()
        self.average = average

    def forward(self, x: Tensor) -> Tensor:
        self.average.mean.lerp_(x.detach().mean(0), 0.2)
        return x + torch.tanh(self.linear(x - self.average.mean))


def one_average() -> nn.Sequential:
    """Layers that change one buffer in turn."""
    average = Average()
    return nn.Sequential(Centred(average), Centred(average), Centred(average), nn.Linear(W, 3))


class LowRank(nn.Module):
    """A base that is not trained, in a type of its own, beside an adapter that is."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.base = nn.Linear(W, W, dtype=dtype).requires_grad_(False)
        self.down, self.up = nn.Linear(W, 2, bias=False), nn.Linear(2, W, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        low = self.up(self.down(functional.dropout(x, 0.1, self.training)))
        return x + torch.tanh(self.base(x.to(self.base.weight.dtype)).to(x.dtype) + 3 * low)


def adapters() -> nn.Sequential:
    """Adapters between a frozen embedding and a frozen head."""
    embedding, head = nn.Embedding(24, W).requires_grad_(False), nn.Linear(W, 24).requires_grad_(False)
    return nn.Sequential(embedding, LowRank(), LowRank(), LowRank(), head)


def adapters_on_bfloat16() -> nn.Sequential:
    """Adapters in float32 on a base in bfloat16."""
    return nn.Sequential(*[LowRank(torch.bfloat16) for _ in range(3)], nn.Linear(W, 3))


def frozen_below() -> nn.Sequential:
    """Five frozen layers below the one that is trained."""
    front = [nn.Sequential(nn.Linear(W, W), nn.GELU()).requires_grad_(False) for _ in range(5)]
    return nn.Sequential(*front, nn.Linear(W, 3))


class Cuts(nn.Module):
    """Lets no gradient through for some microbatches."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(W))

    def forward(self, x: Tensor) -> Tensor:
        return (x.detach() if x.sum() > 0 else x) * self.weight


def cut_graph() -> nn.Sequential:
    """Layers that in some microbatches have no gradient."""
    return nn.Sequential(nn.Linear(W, W), nn.Linear(W, W), Cuts(), nn.Linear(W, 3))


class Rotates(nn.Module):
    """Turns pairs of numbers by angles from a table that must not lose digits."""

    frequencies: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(W, W, dtype=torch.bfloat16)
        self.register_buffer("frequencies", 5000.0 ** -(torch.arange(W // 2) / (W // 2)))

    def forward(self, x: Tensor) -> Tensor:
        assert self.frequencies.dtype == torch.float32
        angles = torch.outer(torch.arange(x.shape[1]), self.frequencies)
        first, second = self.linear(x).float().chunk(2, -1)
        turned = [first * angles.cos() - second * angles.sin(), first * angles.sin() + second * angles.cos()]
        return torch.cat(turned, -1).to(x.dtype)


def float32_tables() -> nn.Sequential:
    """Weights in bfloat16, tables in float32."""
    return nn.Sequential(Rotates(), Rotates(), nn.Linear(W, 3, dtype=torch.bfloat16))


class Table(nn.Module):
    """A large table that several layers read."""

    cos: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cos", torch.randn(2048, W))


class ReadsTable(Layer):
    def __init__(self, table: Table) -> None:
        super().__init__()
        self.table = table

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.linear(x) * self.table.cos[: x.shape[1]]
        return out


def one_table() -> nn.Sequential:
    """One module of tables in all layers."""
    table = Table()
    return nn.Sequential(*[ReadsTable(table) for _ in range(4)], nn.Linear(W, 3))


# ---- what the model is ----


class Residuals(nn.Sequential):
    """A Sequential by inheritance, with a forward pass of its own."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = x + 0.3 * layer(x)
        return 2 * x


def own_forward() -> nn.Sequential:
    """More than its layers one after the other."""
    return Residuals(nn.Linear(W, W), nn.Linear(W, W), nn.Linear(W, W))


class Locked(Layer):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.RLock()

    def forward(self, x: Tensor) -> Tensor:
        with self.lock:
            return torch.tanh(self.linear(x))


def with_locks() -> nn.Sequential:
    """Layers that cannot be copied."""
    return nn.Sequential(Locked(), Locked(), nn.Linear(W, 3))


def on_meta() -> nn.Sequential:
    """Shapes without numbers."""
    with torch.device("meta"):
        return nn.Sequential(*[nn.Linear(W, W) for _ in range(4)])


def lazy() -> nn.Sequential:
    """Layers that learn their sizes from their first input."""
    return nn.Sequential(nn.LazyLinear(W), nn.Tanh(), nn.LazyLinear(3))


class Force(nn.Module):
    """Adds the gradient of a learnt potential, and is trained through that."""

    def __init__(self) -> None:
        super().__init__()
        self.potential = nn.Sequential(nn.Linear(W, W), nn.Softplus(), nn.Linear(W, 1))

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            at = x if x.requires_grad else x.detach().requires_grad_()
            (force,) = torch.autograd.grad(self.potential(at).sum(), at, create_graph=True)
        return x - 0.2 * force


def forces() -> nn.Sequential:
    """Autograd inside a forward pass."""
    return nn.Sequential(nn.Linear(W, W), Force(), Force(), nn.Linear(W, 3))


def published_whole() -> nn.Module:
    """A published model as it is: no list of layers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"vocab_size": 24, "hidden_size": W, "intermediate_size": 16, "num_hidden_layers": 2}
    config = LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=1)  # type: ignore[no-untyped-call]
    return LlamaForCausalLM(config)  # type: ignore[no-untyped-call]


class Block(nn.Module):
    def __init__(self, layer: nn.Module, rotary: nn.Module) -> None:
        super().__init__()
        self.layer, self.rotary = layer, rotary

    def forward(self, x: Tensor) -> Tensor:
        at = torch.arange(x.shape[1])[None]
        out = self.layer(x, attention_mask=None, position_ids=at, position_embeddings=self.rotary(x, at))
        hidden: Tensor = out[0] if isinstance(out, tuple) else out
        return hidden


def published_blocks(adapted: bool, attention: str) -> nn.Sequential:
    """A published model's blocks, with published adapters or without."""
    from transformers import Qwen2Config
    from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer, Qwen2RMSNorm, Qwen2RotaryEmbedding

    sizes = {"vocab_size": 24, "hidden_size": W, "intermediate_size": 16, "num_hidden_layers": 2}
    config = Qwen2Config(**sizes, num_attention_heads=2, num_key_value_heads=1, attention_dropout=0.1)  # type: ignore[no-untyped-call]
    config._attn_implementation = attention
    rotary = Qwen2RotaryEmbedding(config)
    blocks = [Block(Qwen2DecoderLayer(config, number), rotary) for number in range(2)]
    norm = Qwen2RMSNorm(W)
    model = nn.Sequential(nn.Embedding(24, W), *blocks, norm, nn.Linear(W, 24, bias=False))
    if not adapted:
        return model
    import peft

    low_rank = peft.LoraConfig(r=2, lora_alpha=4, lora_dropout=0.1, target_modules=["q_proj", "down_proj"])
    return peft.inject_adapter_in_model(low_rank, model)  # type: ignore[return-value]


class AddsLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, loss: Tensor) -> Tensor:
        ctx.like = (loss.shape, loss.dtype)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0], torch.ones(ctx.like[0], dtype=ctx.like[1])


class Mixture(nn.Module):
    """Sends rows to experts; some expert may get none."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(W, 4), nn.ModuleList(nn.Linear(W, W) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        likes = self.gate(x).softmax(-1)
        best, out = likes.argmax(-1), torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            own = (best == number).nonzero().squeeze(1)
            out = out.index_add(0, own, expert(x[own]) * likes[own, number : number + 1])
        return AddsLoss.apply(x + out, 0.02 * likes.mean(0).square().sum())  # type: ignore[no-untyped-call,no-any-return]


def mixtures() -> nn.Sequential:
    """Experts with an auxiliary loss."""
    return nn.Sequential(nn.Linear(W, W), Mixture(), Mixture(), nn.Linear(W, 3))


class OnContext(torch.autograd.Function):
    """Keeps its tensors as attributes of the context, where nobody can take them from."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.x, ctx.weight = x, weight
        return x.tanh() * weight

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        bent = ctx.x.tanh()
        return gradients[0] * ctx.weight * (1 - bent * bent), (gradients[0] * bent).sum(0)


class SavedForBackward(torch.autograd.Function):
    """The same as it should be."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x.tanh() * weight

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, weight = ctx.saved_tensors
        bent = x.tanh()
        return gradients[0] * weight * (1 - bent * bent), (gradients[0] * bent).sum(0)


class Bends(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.weight, self.function = nn.Parameter(torch.ones(64)), function

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.function.apply(x, self.weight)
        return out


def own_functions(keep: bool) -> nn.Sequential:
    """Autograd functions that keep what they need in two ways."""
    function = OnContext if keep else SavedForBackward
    return nn.Sequential(nn.Linear(W, 64), *[Bends(function) for _ in range(5)], nn.Linear(64, 3))


# How often a compiled layer has run as such.
COMPILED_RUNS: list[None] = []


def compiled(backend: str) -> nn.Sequential:
    """Layers that torch compiles; the backend "counted" notes each run of what it made."""

    def block() -> nn.Module:
        return nn.Sequential(nn.Linear(W, 2 * W), nn.GELU(), nn.Dropout(0.2), nn.Linear(2 * W, W))

    def counted(graph: Any, inputs: Any) -> Any:
        def run(*values: Any) -> Any:
            COMPILED_RUNS.append(None)
            return graph.forward(*values)

        return run

    chosen: Any = counted if backend == "counted" else backend
    made: Any = [torch.compile(block(), backend=chosen) for _ in range(2)]
    return nn.Sequential(*made, nn.Linear(W, 3))


def scripted(kind: str) -> nn.Sequential:
    """A layer compiled by torch.jit."""
    part = nn.Sequential(nn.Linear(W, 2 * W), nn.GELU(), nn.Dropout(0.2), nn.Linear(2 * W, W))
    jit: Any = torch.jit
    made = jit.script(part) if kind == "script" else jit.trace(part.eval(), torch.ones(6, W)).train()
    return nn.Sequential(nn.Linear(W, W), made, nn.Linear(W, 3))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(W, W, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.cell(x)[0]
        return out


class Waves(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x.cos() * x).cumsum(1) / 5


def uncounted(kind: str) -> nn.Sequential:
    """Equal layers whose work no counter knows."""
    weighted = [nn.Linear(W, 3)] if kind == "waves" else []  # something to train
    return nn.Sequential(*[(Recurrent if kind == "recurrent" else Waves)() for _ in range(8)], *weighted)


def many(count: int) -> nn.Sequential:
    """As many layers as that."""
    return nn.Sequential(*[nn.Linear(4, 4) for _ in range(count)])


class Breaks(Layer):
    """Fails some time in training, over two lines."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == 20:
            raise RuntimeError("it broke\nin two")
        out: Tensor = self.linear(x)
        return out


def breaks() -> nn.Sequential:
    """A model that fails in mid step."""
    return nn.Sequential(nn.Linear(W, W), Breaks(), nn.Linear(W, 3))


class Odd(Layer):
    """Returns what no plan can move."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        if self.kind == "mkldnn":
            return y.detach().to_mkldnn()
        return y.to_sparse() if self.kind == "sparse" else torch.nested.as_nested_tensor(list(y))


class Dense(Layer):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x.to_padded_tensor(0.0) if x.is_nested else x.to_dense())
        return out


def odd_outputs(kind: str) -> nn.Sequential:
    """A tensor of another kind between two layers."""
    return nn.Sequential(Odd(kind), Dense(3))


def steps_in_backward() -> nn.Sequential:
    """Weights that an optimizer changes as soon as their gradient is there."""
    model = plain()
    for weight in model.parameters():
        optimizer = torch.optim.SGD([weight], lr=0.1)

        def step(weight: Tensor, optimizer: torch.optim.SGD = optimizer) -> None:
            optimizer.step()
            optimizer.zero_grad()

        weight.register_post_accumulate_grad_hook(step)  # type: ignore[no-untyped-call]
    return model


class HidesNan(Layer):
    """Hides a row of NaN in its output, and not in its gradient."""

    def forward(self, x: Tensor) -> Tensor:
        scores = (self.linear(x) + torch.where(x[:, :1] > 0.5, float("-inf"), 0.0)).softmax(-1)
        return torch.where(scores.isnan(), 0.0, scores) + x


class HidesRoot(nn.Module):
    """Takes a root whose slope at 0 is infinite, where nobody looks."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(W))

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > -99, x * self.weight, (0 * x * self.weight).sqrt())


def not_finite(kind: str) -> nn.Sequential:
    """A finite loss whose gradients are not."""
    return nn.Sequential(nn.Linear(W, W), HidesNan() if kind == "mask" else HidesRoot(), nn.Linear(W, 3))


# How many tensors the process had when a step began, by the step.
LIVE: dict[int, int] = {}


def watched(step: int, microbatch: int, microbatches: int) -> tuple[Tensor, Tensor]:
    """Data that counts the process's tensors when an early step begins, and a late one."""
    if microbatch == 0 and step in (2, 7):
        LIVE[step] = sum(1 for thing in gc.get_objects() if issubclass(type(thing), Tensor))
    return floats(step, microbatch, microbatches)
