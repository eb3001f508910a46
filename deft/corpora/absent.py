"""Queries that no concept answers, made up: what is held off, and abbreviations of anything.

"pas de phlébite" names a disease that nobody has, and "CPT" may be a form. Whether a mapping should be
confident is learned from such queries too.
"""

from __future__ import annotations

import random
import string
from collections.abc import Sequence

_HELD_OFF = (
    "pas {de}", "pas d'argument pour {}", "absence {de}", "aucun signe {de}", "sans {}", "{} : non",
    "{} exclu", "antécédent {de}", "antécédents familiaux {de}", "ATCD {de}", "ATCD {}", "{} dans l'enfance",
    "{} guéri", "suspicion {de}", "suspicion {}", "{} ?", "{} possible", "éliminer {}", "doute sur {}",
    "dépistage {de}", "dépistage {}", "prévention {de}", "prévention {}", "prophylaxie {de}", "risque {de}",
    "recherche {de}", "surveillance {de}", "bilan {de}", "crainte {de}", "vaccination contre {}",
    "père : {}", "mère avec {}", "{} chez le père", "frère suivi pour {}",
)  # fmt: skip
"""Ways to say that somebody does not have something, had it, may have it, or is to be kept from it."""

_VOWELS = "aeiouyàâéèêëîïôûœæh"
_LETTERS = (2, 4)  # the fewest and the most of an abbreviation


def held_off(terms: Sequence[str], number: int, seed: int) -> list[str]:
    """Draw `number` of the terms, fewer if there are not so many, and hold off what each names."""
    draw = random.Random(seed)  # noqa: S311 - it is to be repeated
    distinct = sorted(set(terms))
    return [
        _said(draw.choice(_HELD_OFF), term if term.isupper() else term.lower())
        for term in draw.sample(distinct, min(number, len(distinct)))
    ]


def capitals(number: int, seed: int) -> list[str]:
    """Draw `number` sequences of two to four capitals."""
    draw = random.Random(seed)  # noqa: S311 - it is to be repeated
    return ["".join(draw.choices(string.ascii_uppercase, k=draw.randint(*_LETTERS))) for _ in range(number)]


def _said(way: str, term: str) -> str:
    of = f"d'{term}" if term[:1].lower() in _VOWELS else f"de {term}"
    return way.replace("{de}", of).replace("{}", term)
