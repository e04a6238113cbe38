"""What is in doubt about a module's scenario is said before it is calibrated, which may take long because of it."""

from __future__ import annotations

import pytest

from loadahead.cli.main import run
from loadahead.sim.errors import InputError

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize("command", [["simulate"], ["execute"], ["tune"], ["sweep", "--horizon", "1:2"]])
def test_a_bandwidth_in_doubt_is_said_before_calibration(
    command: list[str], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def calibrate(*_: object, **__: object) -> None:
        raise InputError("calibration has begun")

    monkeypatch.setattr("loadahead.executor.calibration.calibrate", calibrate)
    name, *options = command
    assert run([name, "demo", *options, "--set", "hardware.h2d=100"]) == 2
    err = capsys.readouterr().err
    doubt = 'warning: hardware.h2d = 100 was taken for 100 bytes per second; write the unit, e.g. "100 GB/s"'
    assert err.count(doubt) == 1
    assert err.index(doubt) < err.index("calibration has begun")
