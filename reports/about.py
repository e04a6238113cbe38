"""Says in words and numbers what a run or a sweep is of: the model, the machine, the link, and how it is split.

A timeline's header has it under ``about``, and so have a sweep's facts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from loadahead.sim.errors import InputError
from loadahead.sim.schema_errors import SAYS_VALUE, schema_error_line

# Keys of a timeline's header; under the second one stands the command line that made the file, word by word.
ABOUT, COMMAND = "about", "command"

_Count = Annotated[int, Field(ge=1)]
_Amount = Annotated[int, Field(ge=0)]


def read_command(words: object, where: str) -> tuple[str, ...]:
    """Return a command line, word by word; InputError where it is no list of texts."""
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InputError(f"{where}: {COMMAND} is {words!r:.60}; it must be a list of texts")
    return tuple(words)


class About(BaseModel):
    """Says what a run or a sweep is of. What is not known, or is an axis of the sweep, is None.

    Attributes:
        model: e.g. ``"llama3-70b (70.6 billion parameters)"``, ``"a module of 8 layers (8 Linear)"``.
        machine: the host or hosts, e.g. ``"2 x p5.48xlarge"``.
        device: the GPU, e.g. ``"h100-sxm, 79.65 GiB"``.
        link: how fast copies are, e.g. ``"400 MB/s out, 30 MB/s back"``.
        pipeline_parallel, tensor_parallel, data_parallel, expert_parallel: degrees.
        zero_stage: what data-parallel replicas share; 0 where each has all.
        sequence_parallel: whether it is on.
        gpus: how many GPUs there are in all, replicas included.
        microbatches: how many a replica has in a step.
        tokens_per_microbatch: sequences of a microbatch times their length, of one replica.
        flops_per_microbatch: the model's own forward and backward of a microbatch of one replica, nothing computed
            twice, on all its GPUs together: what model FLOPs utilization counts.
        peak_flops_per_s: one GPU's, in the precision of the products.
        communication_ns: how much of each rank's compute time is collectives (tensor, expert and data parallel).
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    model: str | None = None
    machine: str | None = None
    device: str | None = None
    link: str | None = None
    pipeline_parallel: _Count | None = None
    tensor_parallel: _Count | None = None
    data_parallel: _Count | None = None
    expert_parallel: _Count | None = None
    zero_stage: Annotated[int, Field(ge=0, le=3)] | None = None
    sequence_parallel: bool | None = None
    gpus: _Count | None = None
    microbatches: _Count | None = None
    tokens_per_microbatch: _Count | None = None
    flops_per_microbatch: _Amount | None = None
    peak_flops_per_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    communication_ns: tuple[_Amount, ...] | None = None

    @model_validator(mode="after")
    def _has_whole_replicas(self) -> Self:
        if self.gpus is not None and self.data_parallel is not None and self.gpus % self.data_parallel:
            said = f"gpus is {self.gpus}; it must be a multiple of data_parallel, {self.data_parallel}"
            raise PydanticCustomError(SAYS_VALUE, "{said}", {"said": said})
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are known, as JSON holds them."""
        return self.model_dump(mode="json", exclude_none=True)


def read_about(header: Mapping[str, Any], where: str) -> About | None:
    """Return what a timeline's header says of its run; None for nothing, InputError where it is malformed."""
    found = header.get(ABOUT)
    if found is None:
        return None
    try:
        # JSON has lists where the schema has tuples.
        return About.model_validate_json(json.dumps(found))
    except ValidationError as error:
        line = schema_error_line(error, "what a timeline says of its run", lambda _: list(About.model_fields))
        line = line.removeprefix("the file: ")
        raise InputError(f"{where}: {ABOUT}.{line}") from error
