"""The project's one definition of "the same string"."""

from __future__ import annotations

import re
import unicodedata

_APOSTROPHES = str.maketrans(dict.fromkeys("’‘‛ʼʹˈ′`´", "'"))
_LIGATURES = str.maketrans({"œ": "oe", "Œ": "Oe", "æ": "ae", "Æ": "Ae"})
# Format characters (soft hyphen, zero-width space, byte order mark ...) stand inside words; controls stand
# between them.
_INVISIBLE = {"Cf", "Cs", "Co", "Cn"}
_ELISION = re.compile(r"\b(?:l|d|j|m|t|s|n|c|qu|jusqu|lorsqu|puisqu)'(?=\w)")
_PUNCTUATION = re.compile(r"[^\w+%<>=]+|_")
# "sans autre indication", "non classé ailleurs" and their English likes say nothing about the concept.
_UNSPECIFIED = re.compile(
    r"(?: (?:s ?a ?i|n ?c ?a|n ?o ?s|sans autre indication|non classee?s? ailleurs"
    r"|sans precision|not otherwise specified)){1,9}$"  # bounded: text of any length is read in linear time
)


def clean(text: str) -> str:
    """Return `text` in Unicode form NFC, without control or invisible characters, white space collapsed.

    This is how a string is stored and shown: letters, case and accents stay. The result may be empty.
    """
    text = unicodedata.normalize("NFC", text)
    if not text.isprintable():  # it has controls or invisible characters, or spaces of another width
        text = "".join(_visible(char) for char in text)
        text = unicodedata.normalize("NFC", text)  # a letter and its accent may have come together
    return " ".join(text.split())


def fold(text: str) -> str:
    """Return `text` cleaned, in lower case, with plain apostrophes, ligatures opened and accents removed."""
    return " ".join(clean(text).translate(_FOLDED).split())


def normalize(text: str) -> str:
    """Return the form under which two strings are the same term.

    On top of `fold`: elided articles, punctuation and the suffixes that mean "unspecified" (SAI, NCA, NOS)
    go; word order stays. The signs ``+ % < > =`` tell laboratory findings apart and stay.
    """
    text = fold(text)
    if "'" in text:
        text = _ELISION.sub("", text)
    if not text.replace(" ", "").isalnum():
        text = " ".join(_PUNCTUATION.sub(" ", text).split())
    return _UNSPECIFIED.sub("", text)


def stem(word: str) -> str:
    """Return what the singular and the plural of a normalised French word share: maux and mal."""
    if word.endswith("aux") and not word.endswith(("eaux", "yaux")) and len(word) > 3:
        return word[:-3] + "al"
    return word.rstrip("sx") or word


def joined(key: str) -> str:
    """Return a normalised string without spaces: "hépato-splénomégalie" is "hépatosplénomégalie"."""
    return key.replace(" ", "")


def _visible(char: str) -> str:
    category = unicodedata.category(char)
    return " " if category == "Cc" else "" if category in _INVISIBLE else char


def _without_accents(text: str) -> str:
    return "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))


class _Folded(dict[int, str]):
    """What each character is folded to, found out when it is first met."""

    def __missing__(self, code: int) -> str:
        # apostrophes first: to Unicode an acute accent that stands alone is a space with an accent
        plain = _without_accents(chr(code).translate(_APOSTROPHES)).translate(_APOSTROPHES | _LIGATURES)
        self[code] = folded = _without_accents(plain.casefold())
        return folded


_FOLDED = _Folded()
