"""The `deft` command: how it starts, is stopped, and ends.

Exit codes: 0 if all went well; 2 for input that is not what it should be; 1 for a quality gate that was not
met, and for what nobody foresaw; 128 and the number of the signal that stopped it (130, 143). A failure is
one line on standard error; `--debug` shows the traceback.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # the last is not on Windows
_BROKEN_PIPE = 1  # typer's own choice where it is the one that notices
_EXTRAS = dict.fromkeys(("jinja2", "lxml", "matplotlib", "pandas", "sklearn"), "evaluate") | {
    "openpyxl": "xlsx",
    "spacy": "spacy",
}
"""Which extra installs a package; `train` those that are not named."""


class _Stopped(BaseException):
    """A signal asked to stop; everything that cleans up after an interrupt cleans up after it."""


def main() -> None:
    """Run the command; a failure becomes one line and an exit code."""
    _fill_closed_streams()
    with _stopped_by_signals():
        try:
            from deft.cli.app import app

            app()
        except SystemExit as end:
            _flush(end.code)
            raise
        except _Stopped as stop:
            number = signal.Signals(stop.args[0])
            _say(f"stopped by {number.name}.")
            code = 128 + number
        except Exception as error:
            if "--debug" in sys.argv:
                raise
            _say(_explain(error))
            code = getattr(error, "exit_code", 2 if isinstance(error, OSError | ModuleNotFoundError) else 1)
    sys.exit(code)


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Let the first signal end the work in an orderly way, and a second one at once."""
    wanted = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in wanted}
    heard = [number for number, handler in before.items() if handler != signal.SIG_IGN]  # as under nohup

    def stop(number: int, _frame: FrameType | None) -> None:
        for other in heard:
            signal.signal(other, signal.SIG_DFL)
        raise _Stopped(number)

    for number in heard:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])


def _fill_closed_streams() -> None:
    """Open what the shell closed (`>&-`), so that no file gets its number; never fail on a letter."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            stream = Path(os.devnull).open("w" if number else "r", encoding="utf-8")  # noqa: SIM115 - stays open
            setattr(sys, name, stream)
    with suppress(AttributeError):  # a stream of somebody's own
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]


def _flush(code: object) -> None:
    """Notice a pipe that nobody reads any more here, and not when the interpreter has gone."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(code or _BROKEN_PIPE)  # type: ignore[arg-type]


def _say(message: str) -> None:
    with suppress(OSError):
        sys.stderr.write(f"deft: {message}\n")


def _explain(error: Exception) -> str:
    from deft.errors import DeftError, one_line

    if isinstance(error, DeftError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        extra = _EXTRAS.get(str(error.name).partition(".")[0], "train")
        return (
            f"this needs {error.name}, which is not installed. Install it with: pip install 'deft[{extra}]'"
        )
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror or error}."
    if isinstance(error, MemoryError) or "bad_alloc" in str(error):
        return "there is not enough memory. Close other programs, or ask for less at once."
    return (
        f"unforeseen {type(error).__name__}: {one_line(error)} This is a fault of deft: please report it, "
        "with what the same command says with --debug."
    )
