"""What becomes of mistakes on the command line: one line on stderr, nothing on stdout, the right exit status."""

from __future__ import annotations

import pytest

from loadahead.cli import main as cli_main
from loadahead.cli.main import COMMANDS, run
from loadahead.sim.errors import CheckFailed, InputError

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["simulte", "demo"], ["simulte", "simulate"]),
        (["verify"], ["PLAN", "loadahead verify --help"]),
        (["verify", "a.json", "b.json"], ["b.json"]),
        (["verify", "--jsn", "a.json"], ["--jsn", "did you mean --json?"]),
        (["sweep", "demo", "--horizn", "3"], ["--horizn", "did you mean --horizon?"]),
        (["sweep", "demo", "--horizon"], ["--horizon", "requires an argument"]),
        (["sweep", "demo", "--horizon", "0"], ["--horizon", "at least 1"]),
        (["sweep", "demo", "--pipeline", "zigzag"], ["--pipeline", "interleaved"]),
        (["sweep", "demo", "--engine", "simpi"], ["simpi", "compiled"]),
        (["sweep", "demo", "--decisions", "best"], ["--decisions", "horizon, auto"]),
        (["tune", "slow-link", "--memory", "60 horses"], ["offload.memory", "'60 horses' is no size"]),
        (["tune", "slow-link", "--within", "2"], ["offload.within", "2 is no share"]),
        (["tune", "slow-link", "--microbatches", "0"], ["--microbatches", "at least 1"]),
        (["tune", "slow-link", "--pipeline", "zigzag"], ["--pipeline", "interleaved"]),
        (["tune", "slow-link", "--budgets", "-1"], ["--budgets", "0"]),
        (["calibrate", "--repeats", "many"], ["--repeats", "integer"]),
        (["calibrate", "--repeats", "0"], ["--repeats", "1"]),
        (["execute", "demo", "--steps", "0"], ["--steps", "1"]),
        (["verify", "no-such-file.json"], ["no-such-file.json", "give a plan file"]),
        (["--bogus"], ["--bogus", "loadahead --help"]),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(arguments: list[str], says: list[str], capsys: Captured) -> None:
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    for part in says:
        assert part in err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_json(command: str, capsys: Captured) -> None:
    assert run([command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert "--json" in out
    assert err == ""


def test_without_arguments_the_help_is_shown(capsys: Captured) -> None:
    assert run([]) == 0
    out, _ = capsys.readouterr()
    for command in COMMANDS:
        assert f"  {command} " in out


def test_version(capsys: Captured) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == "loadahead 0.1.0\n"


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("key is 0;\n it must be 1"), 2, "error: key is 0; it must be 1\n"),
        (CheckFailed("a race"), 1, "error: a race\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (FileNotFoundError(2, "No such file", "x/y"), 2, "error: x/y: No such file; give a path that can be read or "),
        (BrokenPipeError(32, "Broken pipe"), 141, ""),
    ],
)
def test_errors_become_one_line_and_a_status(
    error: BaseException, status: int, line: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr(cli_main, "_invoke", fail)
    monkeypatch.setattr(cli_main.os, "dup2", lambda *_: None)
    assert run(["verify", "x"]) == status
    err = capfd.readouterr().err
    assert err.startswith(line)
    assert err.count("\n") == (1 if line else 0)


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(cli_main, "_invoke", fail)
    with pytest.raises(ZeroDivisionError):
        run(["verify", "x"])


def test_an_interrupt_inside_a_command_is_130(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("loadahead.plan_files.read_operations", interrupted)
    assert run(["verify", "x.json"]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"
