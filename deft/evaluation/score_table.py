"""Scores as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_COMPARED = ("recall_at_1", "recall_at_8", "mrr")


def score_table(scores: Mapping[str, Any]) -> str:
    """Return ``{"data": kind, "systems": {name: scores}}``, and what `run_mapping` adds to it, as text.

    A metric is a row, a system a column; 95 % intervals stand in brackets.
    """
    systems: Mapping[str, Mapping[str, Any]] = scores["systems"]
    parts = [_block(systems, f"{next(iter(systems.values()))['n']} items, {scores['data']} data")]
    restricted = {name: values["in_index"] for name, values in systems.items() if "in_index" in values}
    if restricted:
        parts.append(
            _block(restricted, f"{next(iter(restricted.values()))['n']} of them with a concept in the index")
        )
    parts += [_part_block(f"by {column}", values) for column, values in scores.get("by", {}).items()]
    if "seen" in scores:
        parts.append(_part_block("seen in training", scores["seen"]))
    if "noise" in scores:
        parts.append(_part_block("as it is written", scores["noise"]))
    if "compare" in scores:
        parts.append(_pair_block(scores["compare"]))
    trust = [*_calibration_lines(scores.get("calibration", {})), *_no_match_lines(scores.get("no_match", {}))]
    return "\n\n".join([*parts, *(["\n".join(trust)] if trust else [])])


def _part_block(title: str, values: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the scores of parts of the queries, of those in the index where that is known."""
    shown = {name or "(empty)": scores.get("in_index", scores) for name, scores in values.items()}
    metrics = next(
        (
            [name for name in each if name not in {"n", "clusters"}]
            for each in shown.values()
            if len(each) > 1
        ),
        [],
    )
    header = f"{title[:24]:<24}{'n':>8}" + "".join(f"{metric:>26}" for metric in metrics)
    rows = [
        f"{name[:24]:<24}{scores['n']:>8}"
        + "".join(f"{_cell(scores[metric]):>26}" for metric in metrics if metric in scores)
        for name, scores in shown.items()
    ]
    return "\n".join([header, *rows])


def _pair_block(compared: Mapping[str, Any]) -> str:
    lines = [f"systems compared on {compared['n']} queries"]
    for pair in compared.get("pairs", []):
        lines.append(f"{pair['after']} less {pair['before']}")
        lines += [f"  {name:<16}{_cell(value):>26}" for name, value in pair.items() if name in _COMPARED]
        test = pair["mcnemar"]
        lines.append(
            f"  first alone right: {pair['after']} {test['only_after']}, {pair['before']} "
            f"{test['only_before']}; McNemar p = {test['p_value']:.2g}"
        )
    return "\n".join(lines)


def _calibration_lines(calibration: Mapping[str, Any]) -> list[str]:
    words = {"all": "all queries", "in_index": "in the index"}
    return [
        f"confidence, {words[name]}: calibration error {_cell(values['ece'])}, Brier {_cell(values['brier'])}"
        for name, values in calibration.items()
    ]


def _no_match_lines(no_match: Mapping[str, Any]) -> list[str]:
    words = {"absent": "not in the index", "removed": "taken out of the index"}
    return [
        f"no match, concept {words[name]}: area under the ROC curve {_cell(values['auroc'])} "
        f"({values['nil']} of {values['n']})"
        for name, values in no_match.items()
    ]


def _block(systems: Mapping[str, Mapping[str, Any]], title: str) -> str:
    first = next(iter(systems.values()))
    metrics = [name for name, value in first.items() if name not in {"n", "clusters", "in_index"}]
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
