"""Phrases of laypeople for concepts: their file, the atoms they become, what a program finds wrong with them.

The file is a table with the columns `cui` and `phrase`, and `relation`, `register` and `note` where they are
known; `data/lay/GUIDELINES.md` says what they hold.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from deft.corpora.delimited import read_rows
from deft.errors import InputError
from deft.terminology.cui import check_cui
from deft.text import normalize, stem

COLUMNS = ("cui", "phrase", "relation", "register", "note")
RELATIONS = ("exact", "narrower", "broader")
NONE = "-"
"""In the place of a phrase: laypeople have no word for the concept, the note says why."""

SOURCE, LAY, LANGUAGE = "LAYFR", "LAY", "FRE"
"""SAB of the vocabulary that comes with deft; TTY and LAT of every lay phrase, whose CODE is its relation."""

SHIPPED = "shipped"
"""The name of the vocabulary that comes with deft."""

_FILE = "lay_fr.tsv"
_DEFAULTS = {"relation": "exact", "register": "everyday"}

_REGISTER = re.compile("everyday|colloquial|child|regional:[A-Z]{2}")
_MOST_WORDS = 12
_FORM = {
    "a typographic apostrophe": re.compile("[\u2019\u2018]"),
    "a slash": re.compile("/"),
    "a final full stop": re.compile(r"\.$"),
    "blanks at an end or in a row": re.compile(r"^\s|\s$|\s\s"),
    "words all in capitals": re.compile(r"^[^a-zà-ÿ]*[A-ZÀ-Þ]{2}[^a-zà-ÿ]*$"),
}


@dataclass(frozen=True)
class LayPhrase:
    """A phrase of laypeople for a concept.

    Attributes
    ----------
    cui, phrase
        The concept, and what people say for it.
    relation
        What the phrase is to the concept: "exact", "narrower" or "broader".
    register
        "everyday", "colloquial", "child" or "regional:" and two letters for the place.
    note
        "" or what is to be known of it, such as "offensive".
    line
        Where it stands in its file.
    """

    cui: str
    phrase: str
    relation: str
    register: str
    note: str
    line: int


@dataclass(frozen=True)
class Finding:
    """Something wrong with a phrase: the line that it stands on, and what it is."""

    line: int
    problem: str


def find_lay(name: str | Path = SHIPPED) -> Path:
    """Return the file of a vocabulary, given by its path or as `shipped`, the one that comes with deft.

    Raises
    ------
    InputError
        This installation has no vocabulary of its own.
    """
    if str(name) != SHIPPED:
        return Path(name)
    inside, checkout = Path(__file__).with_name(_FILE), Path(__file__).parents[2] / "data" / "lay" / _FILE
    for path in (inside, checkout):
        if path.is_file():
            return path
    raise InputError("this installation of deft has no lay vocabulary.", remedy="Build with --no-lay.")


def read_lay(path: Path) -> list[LayPhrase]:
    """Read phrases; concepts that have none are left out.

    A relation that is not given is "exact", a register that is not given "everyday".

    Raises
    ------
    InputError
        The file is no such table, or a cell is none of the values of its column; the error names the line.
    """
    rows = read_rows(path, COLUMNS[:2])
    read = (LayPhrase(**_cells(cells), line=line) for line, cells in rows)
    return [phrase for phrase in read if _checked(path, phrase).phrase != NONE]


def rrf_lines(phrases: Iterable[LayPhrase], source: str = SOURCE) -> Iterator[str]:
    """Yield phrases as lines of MRCONSO.RRF, the end of the line included.

    Identifiers are digests, the same in every version of the vocabulary: LUI of what a term reads as, SUI of
    its letters, AUI of phrase and concept.
    """
    for phrase in phrases:
        lui, sui, aui = (
            _digest(text)
            for text in (normalize(phrase.phrase), phrase.phrase, f"{phrase.cui} {phrase.phrase}")
        )
        fields = (
            phrase.cui, LANGUAGE, "S", f"L{lui}", "PF", f"S{sui}", "N", f"A{aui}", "", "", "", source, LAY,
            phrase.relation, phrase.phrase, "0", "N", "",
        )  # fmt: skip
        yield "|".join(fields) + "|\n"


def find_faults(phrases: Sequence[LayPhrase], names: Mapping[str, Collection[str]]) -> list[Finding]:
    """Return what is wrong with phrases, in the order of their lines.

    Found are: the form of a phrase, more than 12 words, a concept that is not among those with names, a
    phrase that is an inflection, a reordering or another spelling of a name of its concept or of a phrase
    of it before, and a concept with fewer than three phrases or more than eight, at its last one.

    Parameters
    ----------
    phrases
        Phrases of one file.
    names
        The names that each concept has.
    """
    taken = {cui: {_bare(name): name for name in said} for cui, said in names.items()}
    count = Counter(phrase.cui for phrase in phrases)
    last = {phrase.cui: phrase.line for phrase in phrases}
    number = {last[cui]: f"{cui} has {n}, not 3 to 8 phrases" for cui, n in count.items() if not 3 <= n <= 8}
    return [
        Finding(phrase.line, problem)
        for phrase in phrases
        for problem in (*_form(phrase.phrase), *_repetition(phrase, taken), number.get(phrase.line, ""))
        if problem
    ]


def ambiguous(phrases: Sequence[LayPhrase]) -> dict[str, list[LayPhrase]]:
    """Return the normalised phrases that several concepts have without that each says "broader"."""
    found: dict[str, list[LayPhrase]] = {}
    for phrase in phrases:
        found.setdefault(normalize(phrase.phrase), []).append(phrase)
    return {
        key: said
        for key, said in found.items()
        if len({phrase.cui for phrase in said}) > 1 and {phrase.relation for phrase in said} != {"broader"}
    }


def _digest(text: str) -> str:
    """Return ten figures."""
    return f"{int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) % 10**10:010d}"


def _cells(cells: Mapping[str, str]) -> dict[str, str]:
    given = {name: cells.get(name, "") for name in COLUMNS}
    return {name: value or _DEFAULTS.get(name, "") for name, value in given.items()}


def _checked(path: Path, phrase: LayPhrase) -> LayPhrase:
    try:
        check_cui(phrase.cui)
    except InputError as error:
        raise InputError(str(error), path=path, line=phrase.line) from None
    if not phrase.phrase or "|" in phrase.phrase:
        problem = "it is empty." if not phrase.phrase else "a bar is no letter: RRF parts its fields by it."
        raise InputError(problem, path=path, line=phrase.line, field="phrase")
    if phrase.phrase == NONE:
        if not phrase.note:
            raise InputError(
                "it is empty.",
                path=path,
                line=phrase.line,
                field="note",
                remedy="Say why there is no phrase.",
            )
        return phrase
    if phrase.relation not in RELATIONS:
        raise InputError(
            f"{phrase.relation!r} is none.",
            path=path,
            line=phrase.line,
            field="relation",
            remedy=f"Write {', '.join(RELATIONS[:-1])} or {RELATIONS[-1]}.",
        )
    if not _REGISTER.fullmatch(phrase.register):
        raise InputError(
            f"{phrase.register!r} is none.",
            path=path,
            line=phrase.line,
            field="register",
            remedy="Write everyday, colloquial, child or regional: with two letters, such as regional:QC.",
        )
    return phrase


def _form(phrase: str) -> Iterator[str]:
    yield from (name for name, pattern in _FORM.items() if pattern.search(phrase))
    if len(phrase.split()) > _MOST_WORDS:
        yield f"more than {_MOST_WORDS} words"


def _repetition(phrase: LayPhrase, taken: dict[str, dict[str, str]]) -> Iterator[str]:
    if phrase.cui not in taken:
        yield f"{phrase.cui} is not among the concepts"
        return
    bare = _bare(phrase.phrase)
    if bare in taken[phrase.cui]:
        yield f"the same words as {taken[phrase.cui][bare]!r}"
    taken[phrase.cui].setdefault(bare, phrase.phrase)


def _bare(text: str) -> str:
    """Return words without endings of number and gender, in alphabetical order."""
    return " ".join(sorted(stem(word).rstrip("e") for word in normalize(text).split()))
