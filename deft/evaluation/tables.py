"""Scores as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def score_table(scores: Mapping[str, Any]) -> str:
    """Return ``{"data": kind, "systems": {name: scores}}`` as text.

    A metric is a row, a system a column; 95 % intervals stand in brackets.
    """
    systems: Mapping[str, Mapping[str, Any]] = scores["systems"]
    parts = [_block(systems, f"{next(iter(systems.values()))['n']} items, {scores['data']} data")]
    restricted = {name: values["in_index"] for name, values in systems.items() if "in_index" in values}
    if restricted:
        parts.append(
            _block(restricted, f"{next(iter(restricted.values()))['n']} of them with a concept in the index")
        )
    return "\n\n".join(parts)


def _block(systems: Mapping[str, Mapping[str, Any]], title: str) -> str:
    first = next(iter(systems.values()))
    metrics = [name for name, value in first.items() if name not in {"n", "in_index"}]
    header = f"{'':<18}" + "".join(f"{name:>26}" for name in systems)
    rows = [
        f"{metric:<18}" + "".join(f"{_cell(values[metric]):>26}" for values in systems.values())
        for metric in metrics
    ]
    return "\n".join([title, header, *rows])


def _cell(value: Mapping[str, float] | float) -> str:
    if isinstance(value, Mapping):
        return f"{value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
    return f"{value:.3g}"
