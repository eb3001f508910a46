"""Explanations in parentheses, mined from running text: "taux de sucre élevé (hyperglycémie)".

Patient leaflets gloss technical terms with lay words and lay words with technical terms; both sides name one
thing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from deft.text import clean, normalize, stem

MAX_WORDS = 9

_PARENTHESIS = re.compile(r"([^()]{3,200})\(([^()]{4,90})\)")
_BREAK = re.compile(r"[.,;:·•\-–—«»\[\]?!/]\s|\s[·•\-–—]")
_LEAD_IN = re.compile(
    r"^(?:également |aussi |parfois )?(?:appelée?s?|dite?s?|nommée?s?|connue?s? sous le nom (?:de|d['’])"
    r"|c['’]est[- ]à[- ]dire|à savoir|soit|ou|et)\s+",
    re.IGNORECASE,
)
_NOT_A_GLOSS = re.compile(
    r"\d|[=+<>%®™/]"
    r"|\b(?:voir|mentionnée?s?|rubriques?|listée?s?|par exemple|ex|exemples?|notamment|tels? que|telles? que"
    r"|comme|si|peut|peuvent|pouvant|fréquent|fréquents|fréquence|patients?|comprimés?|solution|poudre|gélules?"
    r"|injectable|etc|vous|votre|vos|notice|médicaments?|dont|sauf|incluant|y compris|type|forme|environ"
    r"|moins|traitement|utilisée?s?|allergique|composants?)\b",
    re.IGNORECASE,
)
_OPENERS = frozenset({
    "un", "une", "des", "le", "la", "les", "du", "votre", "vos", "son", "sa", "ses", "leur", "leurs",
    "certains", "certaines",
})  # fmt: skip
_LINKS = frozenset({
    "de", "d", "à", "a", "dans", "sur", "avec", "sans", "par", "pour", "en", "au", "aux", "sous", "chez",
    "vers", "entre", "et", "ou",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gloss:
    """Two phrases for one thing and how many times the text joins them."""

    left: str
    right: str
    count: int


def mine_glosses(sentences: Iterable[str]) -> list[Gloss]:
    """Return the distinct glosses of `sentences`, the most frequent first."""
    counts: Counter[tuple[str, str]] = Counter()
    shown: dict[tuple[str, str], tuple[str, str]] = {}
    for sentence in sentences:
        for left, right in _candidates(sentence):
            key = (normalize(left), normalize(right))
            counts[key] += 1
            shown.setdefault(key, (left, right))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [Gloss(*shown[key], count) for key, count in ranked]


def stems(phrase: str) -> tuple[str, ...]:
    """Return what tells phrases apart: their words in order, without case, accents and endings."""
    return tuple(stem(word) for word in normalize(phrase).split())


class TermFilter:
    """Recognise phrases that contain a held-out term, singular or plural.

    It keeps the terms of evaluation sets out of training.
    """

    def __init__(self, terms: Iterable[str]) -> None:
        self._terms: dict[str, set[tuple[str, ...]]] = {}
        for term in terms:
            words = stems(term)
            if words:
                self._terms.setdefault(words[0], set()).add(words)

    def matches(self, phrase: str) -> bool:
        """Tell whether `phrase` contains one of the terms, as whole words."""
        words = stems(phrase)
        return any(
            words[start : start + len(term)] == term
            for start, first in enumerate(words)
            for term in self._terms.get(first, ())
        )


def _candidates(sentence: str) -> Iterator[tuple[str, str]]:
    for match in _PARENTHESIS.finditer(clean(sentence)):
        inner = _LEAD_IN.sub("", match.group(2).strip())
        if _NOT_A_GLOSS.search(inner):
            continue
        outer = _phrase(match.group(1))
        if (
            outer
            and not _NOT_A_GLOSS.search(outer)
            and _is_term(inner)
            and _is_term(outer)
            and normalize(outer) != normalize(inner)
        ):
            yield outer, inner


def _phrase(context: str) -> str:
    """Return the noun phrase that ends `context`: from its determiner, or else from the last break."""
    words = _BREAK.split(context)[-1].split()
    if len(words) > MAX_WORDS:
        words = words[-MAX_WORDS:]
        for position, word in enumerate(words[:-1]):
            opens = word.casefold() in _OPENERS
            linked = position > 0 and words[position - 1].casefold() in _LINKS
            if opens and not linked:
                words = words[position:]
                break
    while words and words[0].casefold() in _OPENERS | {"de", "ou", "et", "en", "par", "à"}:
        words = words[1:]
    return " ".join(words)


def _is_term(phrase: str) -> bool:
    words = normalize(phrase).split()
    return 1 <= len(words) <= MAX_WORDS and sum(map(len, words)) >= 4 and not phrase.isupper()
