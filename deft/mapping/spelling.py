"""Words that are written wrong, read by the words of what is written alike.

"pneumotorax" is near "pneumothorax" in letters and far from it in meaning, for the encoder never saw it. So a
word that nobody knows becomes the nearest word of the strings that the lexical index finds for the query.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise

from rapidfuzz.distance import OSA
from spellchecker import SpellChecker

from deft.text import fold, joined, normalize

_WORD = re.compile(r"\w+")
_CUT = re.compile(r"(?<!\w)([^\W\d_]{2,})\.(?=[\s/-]|$)")
_LEAST = 4  # letters of a word that may be written wrong: shorter ones are near too many others
_LIMITS = ((5, 1), (13, 2))  # letters of a word, and slips that may be in it
_MOST = 3  # in a longer one
# one of these in place of another is no slip: it makes another thing of a word, often its opposite
_BEGINNINGS = re.compile(
    "hypo|hyper|macro|micro|poly|oligo|brachy|dolicho|intra|inter|infra|supra|endo|exo|ecto|tachy|brady|ante|anti"
    "|pre|post|iso|aniso"
)
_ENDINGS = re.compile("(?:emie|urie|ite|ose|ome|algie|plasie|trophie)s?$")


def respell(text: str, known: Collection[str], alike: Callable[[], Iterable[str]]) -> str | None:
    """Return a query as strings that are written alike would write it, None if there is nothing to change.

    Slips are swapped, lost, added and changed letters (the distance of optimal string alignment, as
    `rapidfuzz` computes it). Words that are `known`, that are French by the list of `pyspellchecker`, or that
    one of the strings has, stay as they are. A blank too many or too few is mended, and a word cut short by a
    full stop is written in full.

    Parameters
    ----------
    text
        The query.
    known
        More words that are right, folded (`deft.text.fold`).
    alike
        Gives the strings, the most similar first; asked only where a word is in doubt.
    """
    words, cut = _WORD.findall(normalize(text)), set(_CUT.findall(fold(text)))
    doubtful = any(_may_be_wrong(word, known) for word in words) or any(
        _is_right(one + other, known) for one, other in pairwise(words)
    )
    if not doubtful and not cut:
        return None
    strings = [_WORD.findall(normalize(string)) for string in alike()]
    full = _in_full(words, cut, strings)
    written = _Written(strings)
    read = " ".join(_mended([full.get(word, word) for word in words], known, written))
    return None if read == " ".join(words) else read


def _may_be_wrong(word: str, known: Collection[str]) -> bool:
    return len(word) >= _LEAST and not word.isdigit() and not _is_right(word, known)


def _is_right(word: str, known: Collection[str]) -> bool:
    return word in known or word in _french()


@cache
def _french() -> frozenset[str]:
    """Words of French, folded."""
    return frozenset(map(fold, SpellChecker(language="fr", distance=1).word_frequency.words()))


class _Written:
    """The words of strings, and pairs of them, the first ones first."""

    def __init__(self, strings: Sequence[Sequence[str]]) -> None:
        pairs = (f"{one} {other}" for words in strings for one, other in pairwise(words))
        self.words = dict.fromkeys(word for words in strings for word in words)
        self._forms = {form: joined(form) for form in (*self.words, *dict.fromkeys(pairs))}

    def nearest(self, word: str) -> str | None:
        """Return the word, or the pair, with the fewest slips to `word`, if they are few enough."""
        most = next((slips for letters, slips in _LIMITS if len(word) <= letters), _MOST)
        best, fewest = None, most + 1
        for form, letters in self._forms.items():
            if abs(len(letters) - len(word)) < fewest and not _is_another(word, letters):
                slips = OSA.distance(word, letters, score_cutoff=fewest - 1)
                if slips < fewest:
                    best, fewest = form, slips
        return best


def _is_another(word: str, form: str) -> bool:
    """Return whether a form is another word, not a word without its slips: "H5N1" beside "H1N1"."""
    return any(letter.isdigit() for letter in form) or any(
        found and other and found[0].rstrip("s") != other[0].rstrip("s")
        for found, other in (
            (_BEGINNINGS.match(word), _BEGINNINGS.match(form)),
            (_ENDINGS.search(word), _ENDINGS.search(form)),
        )
    )


def _mended(words: Sequence[str], known: Collection[str], written: _Written) -> Iterator[str]:
    place = 0
    while place < len(words):
        word, after = words[place], "".join(words[place + 1 : place + 2])
        if after and word + after in written.words and not {word, after} <= written.words.keys():
            yield word + after
            place += 2
            continue
        right = word in written.words or not _may_be_wrong(word, known)
        yield word if right else written.nearest(word) or word
        place += 1


def _in_full(
    words: Sequence[str], cut: Collection[str], strings: Sequence[Sequence[str]]
) -> Mapping[str, str]:
    """Return what the words that were cut short are in the string that has the most words of the query."""
    best: dict[str, str] = {}
    most = 0
    for string in strings if cut else ():
        full = {
            word: longer
            for word in cut
            if word not in string
            for longer in string[::-1]
            if longer.startswith(word)
        }
        found = sum(word in string or word in full for word in words)
        if full and found > most:
            best, most = full, found
    return best
