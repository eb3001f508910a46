"""The ways in which people write a term: slips of the keyboard, phonetic spelling, abbreviation, damage.

Each kind is a function from a text and a source of chance to the text as somebody else would have written it.
Mappings are fitted on such texts and scored on others: what is drawn depends on the text, the kind and the
seed alone, and a seed for each use keeps them apart.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence

_ROWS = ("azertyuiop", "qsdfghjklm", "wxcvbn")
_LEAST = 4  # letters of a word that slips and cuts happen in
_WORD = re.compile(r"[^\W\d_]+")
_LONG_WORD = re.compile(rf"[^\W\d_]{{{_LEAST},}}")

# what sounds alike, the way it is written to the way it is written by ear
_BY_EAR = (
    ("ph", "f"), ("th", "t"), ("rh", "r"), ("y", "i"), ("ch(?=[rlo])", "k"), ("qu", "k"), ("x", "cs"),
    ("eau", "o"), ("au", "o"), ("ai", "é"), ("œ", "e"), ("ae", "é"), ("sc(?=[ei])", "s"),
    ("c(?=[eéiy])", "s"), ("ti(?=on)", "ssi"), (r"(?<=\w)([bcdfglmnprst])\1", r"\1"), (r"\bh", ""),
    ("em(?=[bp])", "an"), ("en(?=[cdst])", "an"), ("g(?=[eiéy])", "j"), ("z", "s"),
)  # fmt: skip
_GREEK = {"alpha": "α", "bêta": "β", "beta": "β", "gamma": "γ", "delta": "δ", "oméga": "ω", "lambda": "λ"}
_ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")
_MISREAD = (("m", "rn"), ("l", "1"), ("o", "0"), ("i", "l"), ("cl", "d"), ("rn", "m"), ("e", "c"), ("h", "b"))
_NUMBERED = ("{}. ", "{}) ", "{} - ", "- ", "• ", "{}° ")


def _neighbours() -> dict[str, str]:
    """Return the keys beside each letter on a French keyboard, whose rows are half a key apart."""
    place = {key: (row, column) for row, keys in enumerate(_ROWS) for column, key in enumerate(keys)}
    near = ((0, -1), (0, 1), (-1, 0), (-1, 1), (1, -1), (1, 0))
    at = {where: key for key, where in place.items()}
    return {
        key: "".join(
            at[row + down, column + right] for down, right in near if (row + down, column + right) in at
        )
        for key, (row, column) in place.items()
    }


_KEYS = _neighbours()


def _in_a_word(change: Callable[[str, random.Random], str]) -> Callable[[str, random.Random], str]:
    """Make a change to a word one to a text: it happens in one long word, if there is one."""

    def changed(text: str, draw: random.Random) -> str:
        words = list(_LONG_WORD.finditer(text))
        if not words:
            return text
        word = draw.choice(words)
        return text[: word.start()] + change(word[0], draw) + text[word.end() :]

    return changed


def _swapped(word: str, draw: random.Random) -> str:
    places = [place for place in range(len(word) - 1) if word[place] != word[place + 1]]
    if not places:
        return word
    place = draw.choice(places)
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def _lost(word: str, draw: random.Random) -> str:
    place = draw.randrange(len(word))
    return word[:place] + word[place + 1 :]


def _doubled(word: str, draw: random.Random) -> str:
    place = draw.randrange(len(word))
    return word[:place] + word[place] + word[place:]


def _mistyped(word: str, draw: random.Random) -> str:
    places = [place for place, letter in enumerate(word) if _bare(letter) in _KEYS]
    if not places:
        return word
    place = draw.choice(places)
    key = draw.choice(_KEYS[_bare(word[place])])
    return word[:place] + (key.upper() if word[place].isupper() else key) + word[place + 1 :]


def _split(word: str, draw: random.Random) -> str:
    place = draw.randrange(2, len(word) - 1)
    return f"{word[:place]} {word[place:]}"


def _slips(text: str, draw: random.Random) -> str:
    """Make a slip in each of two words."""
    words = list(_LONG_WORD.finditer(text))
    if len(words) < 2:
        return text
    for word in sorted(draw.sample(words, 2), key=lambda word: -word.start()):
        change = draw.choice((_swapped, _lost, _doubled, _mistyped))
        text = text[: word.start()] + change(word[0], draw) + text[word.end() :]
    return text


def _by_ear(text: str, draw: random.Random) -> str:
    """Write one or two sounds as they are heard."""
    text = text.lower()
    found = [(sound, heard) for sound, heard in _BY_EAR if re.search(sound, text)]
    for sound, heard in draw.sample(found, min(len(found), draw.choice((1, 1, 2)))):
        text = re.sub(sound, heard, text, count=1)
    return text


def _without_accents(text: str, _: random.Random) -> str:
    return _bare(text, lower=False)


def _without_hyphens(text: str, draw: random.Random) -> str:
    return re.sub(r"(?<=\w)-(?=\w)", draw.choice(("", " ")), text)


def _glued(text: str, draw: random.Random) -> str:
    return _at_one(text, r"(?<=\w) (?=\w)", "", draw)


def _other_number(text: str, draw: random.Random) -> str:
    """Write a word in the plural, or in the singular if it was one."""
    words = list(_LONG_WORD.finditer(text))
    if not words:
        return text
    word = draw.choice(words)
    other = word[0][:-1] if word[0].endswith("s") else word[0] if word[0][-1] in "xz" else f"{word[0]}s"
    return text[: word.start()] + other + text[word.end() :]


def _capitals(text: str, draw: random.Random) -> str:
    return (text if draw.random() < 0.5 else _bare(text, lower=False)).upper()


def _cut_short(text: str, draw: random.Random) -> str:
    """Cut words after three to five letters, with a full stop: "acc. vasc. cérébral"."""
    words = [word for word in _WORD.finditer(text) if len(word[0]) > 6]
    if len(_WORD.findall(text)) < 2 or not words:
        return text
    for word in sorted(
        draw.sample(words, draw.randint(1, min(2, len(words)))), key=lambda word: -word.start()
    ):
        text = f"{text[: word.start()]}{word[0][: draw.randint(3, 5)]}.{text[word.end() :]}"
    return text


def _greek(text: str, _: random.Random) -> str:
    return re.sub(r"[^\W\d_]+", lambda word: _GREEK.get(word[0].lower(), word[0]), text)


def _other_numeral(text: str, _: random.Random) -> str:
    """Write a number that stands last the other way: "type 2" and "type II"."""

    def turn(found: re.Match[str]) -> str:
        number = found[0]
        if number.isdigit():
            return _ROMAN[int(number) - 1] if 0 < int(number) <= len(_ROMAN) else number
        return str(_ROMAN.index(number) + 1) if number in _ROMAN else number

    return re.sub(r"(?<= )(?:\d{1,2}|[IVX]{1,4})$", turn, text)


def _misread(text: str, draw: random.Random) -> str:
    """Read one or two letters wrong, as of a scanned page."""
    for _ in range(draw.choice((1, 1, 2))):
        found = [pair for pair in _MISREAD if pair[0] in text]
        if found:
            seen, read = draw.choice(found)
            text = _at_one(text, re.escape(seen), read, draw)
    return text


def _mojibake(text: str, _: random.Random) -> str:
    """Read UTF-8 as Windows-1252, as some spreadsheets do."""
    try:
        return text.encode().decode("cp1252")
    except UnicodeDecodeError:
        return text


def _numbered(text: str, draw: random.Random) -> str:
    return draw.choice(_NUMBERED).format(draw.randint(1, 20)) + text


KINDS: Mapping[str, Callable[[str, random.Random], str]] = {
    "swapped": _in_a_word(_swapped),
    "lost": _in_a_word(_lost),
    "doubled": _in_a_word(_doubled),
    "mistyped": _in_a_word(_mistyped),
    "slips": _slips,
    "by ear": _by_ear,
    "accents": _without_accents,
    "hyphens": _without_hyphens,
    "glued": _glued,
    "split": _in_a_word(_split),
    "number": _other_number,
    "capitals": _capitals,
    "cut short": _cut_short,
    "greek": _greek,
    "numeral": _other_numeral,
    "misread": _misread,
    "mojibake": _mojibake,
    "numbered": _numbered,
}
"""What can happen to a text, by name."""

SLIPS = ("swapped", "lost", "doubled", "mistyped", "slips")
"""The kinds that are slips of the keyboard."""


def noisy(text: str, kind: str, seed: int) -> str | None:
    """Return a text as it is written by this kind of noise, None where that changes nothing.

    The result depends on nothing but text, kind and seed.
    """
    changed = KINDS[kind](text, random.Random(f"{seed} {kind} {text}"))  # noqa: S311 - it is to be repeated
    return None if changed in ("", text) else changed


def noisy_texts(
    texts: Sequence[str], seed: int, kinds: Sequence[str] = tuple(KINDS)
) -> list[tuple[str, str]]:
    """Write each text by one kind of noise, drawn among those that change it.

    Returns
    -------
    list of (str, str)
        One a text: the kind and the text so written; ``("", text)`` where no kind changes it.
    """
    found = []
    for text in texts:
        draw = random.Random(f"{seed} {text}")  # noqa: S311 - it is to be repeated
        for kind in draw.sample(kinds, len(kinds)):
            if (changed := noisy(text, kind, seed)) is not None:
                found.append((kind, changed))
                break
        else:
            found.append(("", text))
    return found


def _at_one(text: str, pattern: str, other: str, draw: random.Random) -> str:
    """Replace one of the places where a pattern is found."""
    places = list(re.finditer(pattern, text))
    if not places:
        return text
    place = draw.choice(places)
    return text[: place.start()] + other + text[place.end() :]


def _bare(text: str, *, lower: bool = True) -> str:
    plain = "".join(char for char in unicodedata.normalize("NFD", text) if not unicodedata.combining(char))
    return plain.lower() if lower else plain
