"""Errors that a person can act on: what is wrong, where, and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_SHOWN = 5  # identifiers named in an error


class DeftError(Exception):
    """Any failure that the user can do something about; the CLI prints it without a traceback."""

    exit_code = 2


class InputError(DeftError):
    """A file that is not what it should be.

    The message reads ``file:line: field NAME: what is wrong. Remedy.``, each part where known.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | Path | None = None,
        line: int | None = None,
        field: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.path = None if path is None else Path(path)
        self.line = line
        self.field = field
        self.remedy = remedy
        place = [f"{path}:{line}" if line is not None else str(path)] if path is not None else []
        place += [f"field {field}"] if field is not None else []
        said = ": ".join([*place, message]) + (f" {remedy}" if remedy else "")
        super().__init__(" ".join(said.splitlines()))  # names of files and libraries may say several


class GateError(DeftError):
    """A quality gate that was not met: the work was done and its result is not good enough."""

    exit_code = 1


def refuse_items(identifiers: Sequence[str], problem: str) -> None:
    """Raise an error that names the items with a problem, if there are any."""
    if not identifiers:
        return
    named = ", ".join(identifiers[:_SHOWN]) + (", ..." if len(identifiers) > _SHOWN else "")
    count = "1 identifier has" if len(identifiers) == 1 else f"{len(identifiers)} identifiers have"
    raise InputError(f"{count} {problem}: {named}.")


def one_line(error: BaseException) -> str:
    """Return what an error says, without what comes after its first line and the name of a file."""
    said = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0]
    return str(said or type(error).__name__)
