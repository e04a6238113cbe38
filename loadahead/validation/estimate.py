"""An estimate of how long a grid takes on an H100, from FLOPs: a validation tells it before it starts."""

from __future__ import annotations

from dataclasses import dataclass

from loadahead.validation.grid import Configuration, Grid, ModelSize

FLOPS = 400e12
LINK = 55e9
# To draw one parameter on the host and bring it to the device, once for each model; then to copy it there, where its 4
# bytes are read and written at 2 TB/s or more. Expected, not measured yet.
SECONDS_PER_DRAWN_PARAMETER, SECONDS_PER_PARAMETER = 10e-9, 4e-12
# A small unit's FORWARD, RECOMPUTE and BACKWARD cannot take less: a hundred launches.
LAUNCHES_S = 1e-3
# Warm-up steps of a peer, and of a calibration; see loadahead.executor.peers.run and loadahead.executor.calibration.
PEER_WARM_UP, CALIBRATED_MICROBATCHES, PEERS = 2, 4, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Holds the seconds that each part of a grid takes."""

    calibrations: float
    configurations: float
    gradients: float
    peers: float

    @property
    def total(self) -> float:
        """Return the seconds of all parts."""
        return self.calibrations + self.configurations + self.gradients + self.peers


def estimate(grid: Grid) -> Estimate:
    """Return the seconds that calibrations, configurations, gradient checks and all peers take."""
    sizes = {size.name: size for size in grid.sizes}
    calibrations = configurations = gradients = peers = 0.0
    for size in grid.sizes:
        # A calibration warms up, meters memory with units checkpointed either way, and then times its plan so, each in
        # four manners.
        calibration = 1 + 2 * (1 + 4 * size.repeats / CALIBRATED_MICROBATCHES)
        drawn = SECONDS_PER_DRAWN_PARAMETER * parameters(size)
        calibrations += drawn + 2 * build_s(size) + calibration * step_s(size, CALIBRATED_MICROBATCHES)
    for one in grid.configurations:
        configurations += build_s(sizes[one.model]) + sizes[one.model].steps * configuration_s(sizes[one.model], one)
    for one in grid.gradients:
        gradients += 2 * build_s(sizes[one.model]) + 4 * configuration_s(sizes[one.model], one)
    for case in grid.peers:
        steps = PEER_WARM_UP + grid.peer_steps
        peers += PEERS * (build_s(sizes[case.model]) + steps * step_s(sizes[case.model], case.microbatches))
    return Estimate(calibrations=calibrations, configurations=configurations, gradients=gradients, peers=peers)


def estimated_seconds(grid: Grid) -> float:
    """Return the seconds that all parts of a grid take together."""
    return estimate(grid).total


def parameters(size: ModelSize) -> float:
    """Return the number of parameters of the blocks; the rest is small."""
    return 12.0 * _option(size, "width") ** 2 * _option(size, "blocks")


def _option(size: ModelSize, name: str) -> int:
    return int(size.options[name])


def build_s(size: ModelSize) -> float:
    """Return the seconds that it takes to copy a model that is kept on the device."""
    return SECONDS_PER_PARAMETER * parameters(size)


def step_s(size: ModelSize, microbatches: int) -> float:
    """Return the seconds of a step's compute: FORWARD, RECOMPUTE as much again, BACKWARD twice as much."""
    context, blocks = _option(size, "context"), _option(size, "blocks")
    tokens = _option(size, "batch") * context
    forward = 2 * parameters(size) * tokens + 2 * context * tokens * _option(size, "width") * blocks
    return microbatches * max(4 * forward / FLOPS, LAUNCHES_S * (blocks + 2))


def copying_s(size: ModelSize, configuration: Configuration) -> float:
    """Return the seconds that all boundaries of a step take one way, in float32, as often as each is copied."""
    boundary = 4 * _option(size, "batch") * _option(size, "context") * _option(size, "width")
    return configuration.microbatches * (_option(size, "blocks") + 1) * boundary * configuration.copies / LINK


def configuration_s(size: ModelSize, configuration: Configuration) -> float:
    """Return the seconds of a step where copies out hide behind FORWARD alone and copies in behind the rest."""
    compute = step_s(size, configuration.microbatches)
    if not configuration.offload:
        return compute
    copying = copying_s(size, configuration)
    return max(compute / 4, copying) + max(compute * 3 / 4, copying)
