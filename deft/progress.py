"""Progress on standard error: a bar for a person, plain lines for a log file."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

_SECONDS = 30.0  # between two lines of a log file


class Progress(tqdm):  # type: ignore[type-arg]  # generic in its stubs alone
    """A bar on a terminal; elsewhere a line at the end, and one now and then on the way.

    It takes what `tqdm` takes.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - tqdm's
        self._plain = not sys.stderr.isatty()
        if self._plain:
            options |= {"mininterval": _SECONDS, "maxinterval": _SECONDS, "delay": _SECONDS}
        super().__init__(*arguments, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Draw the bar, or write a line."""
        if not self._plain:
            super().display(msg, pos)
            return
        total = "" if self.total is None else f"/{self.total:,}"
        passed = self.format_interval(self.format_dict["elapsed"])
        what = f"{self.desc}: " if self.desc else ""
        self.fp.write(f"{what}{self.n:,}{total} {self.unit.strip()} in {passed}\n")
        self.fp.flush()

    def close(self) -> None:
        """End the bar, or write the last line."""
        if self._plain and not self.disable:
            self.display()
            self.delay = float("inf")  # nothing more to be drawn
        super().close()
