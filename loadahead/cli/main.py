"""The entry point: commands, and what becomes of their errors."""

from __future__ import annotations

import difflib
import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from loadahead.cli.command_line import remembered
from loadahead.cli.commands.calibrate import calibrate
from loadahead.cli.commands.compare import compare
from loadahead.cli.commands.demo import demo
from loadahead.cli.commands.execute import execute
from loadahead.cli.commands.export import export
from loadahead.cli.commands.import_smp import import_smp
from loadahead.cli.commands.inspect import inspect
from loadahead.cli.commands.plan import plan
from loadahead.cli.commands.report import report
from loadahead.cli.commands.show import show
from loadahead.cli.commands.simulate import simulate
from loadahead.cli.commands.sweep import sweep
from loadahead.cli.commands.tune import tune
from loadahead.cli.commands.validate import validate
from loadahead.cli.commands.verify import verify
from loadahead.cli.output import NobodyReads, end_results, note
from loadahead.compiling import telling
from loadahead.sim.errors import CheckFailed, Interrupted, LoadaheadError, one_line
from loadahead.version import __version__

# In the order of the help.
COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "import-smp": import_smp,
    "inspect": inspect,
    "plan": plan,
    "verify": verify,
    "show": show,
    "simulate": simulate,
    "sweep": sweep,
    "tune": tune,
    "calibrate": calibrate,
    "execute": execute,
    "compare": compare,
    "report": report,
    "export": export,
    "validate": validate,
}

INTERRUPTED = 130  # 128 + SIGINT, as a shell has it
# The exit status of each of the library's errors; that of any other is BAD_INPUT.
BAD_INPUT = 2
_STATUS: dict[type[LoadaheadError], int] = {CheckFailed: 1, Interrupted: INTERRUPTED}
# The options that stand for the library's parameters, for errors that name one.
_OPTIONS = {
    "directory": "-o DIR",
    "fresh": "--fresh",
    "costs": "--costs FILE",
    "overrides": "--set",
    "device": "--device",
    "microbatches": "--microbatches",
    "pipelines": "--pipeline",
    "budgets": "--budgets",
    "grid": "--grid",
    "jobs": "--jobs",
    "backend": "--backend",
    "scheduler": "--scheduler",
    "check": "--no-check",
    "model": "--model NAME",
    "machine": "--machine NAME",
    "to": "--to",
    "side": "--side",
}
# What writing to standard output may run into.
_NO_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
BROKEN_PIPE = 141  # 128 + SIGPIPE

# typer carries click's exceptions under changing names; the ancestors of its public BadParameter stay the same.
ClickException: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="loadahead",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Plan, predict, run and compare activation offloading for pipeline-parallel training.",
)
for _name, _function in COMMANDS.items():
    app.command(_name)(_function)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"loadahead {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line and exit."""
    status = run(sys.argv[1:])
    end_results()
    sys.exit(status)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status: 0, 1 (a check failed), 2 (bad input), 130, 141.

    What the user can mend is one line on stderr. Anything else is a bug and keeps its traceback.
    """
    if sys.stdout is None:
        return _complain("standard output is closed; results go there, leave it open or send it to a file", 2)
    try:
        code = _invoke(list(arguments) or ["--help"])
        sys.stdout.flush()
    except LoadaheadError as error:
        return _complain(_with_options(error), _status(error))
    except ClickException as error:
        return _complain(_usage(error), 2)
    except (BrokenPipeError, NobodyReads):
        # Whoever read our output has gone. Python flushes stdout at exit and would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        if error.errno in _NO_OUTPUT and error.filename is None:
            # What is still buffered must not be tried again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return _complain(f"results cannot be written to standard output: {error.strerror}", 2)
        if error.filename is None:
            raise
        return _complain(f"{error.filename}: {error.strerror}; give a path that can be read or written", 2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    return _complain("interrupted", code) if code == INTERRUPTED else code


def _invoke(arguments: list[str]) -> int:
    # typer turns a KeyboardInterrupt into Exit(130), which comes back as a value here.
    with telling(lambda report: note(report.what)), remembered(arguments):
        code: Any = typer.main.get_command(app).main(args=arguments, prog_name="loadahead", standalone_mode=False)
    return code if isinstance(code, int) else 0


def _complain(message: str, code: int) -> int:
    note(f"error: {one_line(message, None)}")
    return code


def _status(error: LoadaheadError) -> int:
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), BAD_INPUT)


def _with_options(error: LoadaheadError) -> str:
    """Return the error's message, with the options that stand for the parameters that it names."""
    options = [_OPTIONS[name] for name in error.parameters if name in _OPTIONS]
    return f"{error} ({', '.join(options)})" if options else str(error)


def _usage(error: Any) -> str:
    """Return one line: what is wrong on the command line, the nearest spelling, where help is."""
    message: str = error.format_message()
    context = getattr(error, "ctx", None)
    unknown = getattr(error, "option_name", None)
    if context is None:
        return message
    if type(error).__name__ == "NoSuchOption":
        known = [name for parameter in context.command.params for name in parameter.opts]
        close = difflib.get_close_matches(unknown, known, n=1)
        message = f"no such option: {unknown}" + (f"; did you mean {close[0]}?" if close else "")
    return f"{message.rstrip('.')} (see `{context.command_path} --help`)"


if __name__ == "__main__":
    main()
