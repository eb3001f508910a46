"""Have the phrases of the lay vocabulary read by somebody who does not know what they were written for.

    python -m deft.recipe.lay_reading sheets data/lay/written data/lay/read INDEX SHEETS
    python -m deft.recipe.lay_reading answers SHEETS data/lay/read
    python -m deft.recipe.lay_reading settle data/lay/written data/lay/read UMLS data/lay

A reader sees a phrase and eight concepts, the one that it was written for among those that are nearest to it,
and says which it names: one, several, or none. `sheets` makes what is shown of the phrases that are still to
be read, `answers` keeps what was said of them, and `settle` makes the vocabulary of phrases and readings, and
of some concepts a development set that the vocabulary does not have. Where `checked.tsv`, beside it, says so
of a phrase, its relation is another, or it is left out.
"""

from __future__ import annotations

import csv
import random
import re
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from hashlib import blake2b
from pathlib import Path

from deft.corpora.delimited import read_rows
from deft.errors import InputError
from deft.files import atomic_write
from deft.mapping.filters import ConceptFilter
from deft.mapping.mapper import TermMapper
from deft.progress import Progress
from deft.terminology.concepts import Concepts
from deft.terminology.lay import LANGUAGE, RELATIONS, SOURCE, LayPhrase, read_lay
from deft.terminology.rrf import AtomFilter
from deft.terminology.table_maker import read_concepts
from deft.text import normalize

SHOWN = 8
"""Concepts that a reader chooses among."""

PER_SHEET = 150
DEVELOPMENT = 0.06
"""Share of the concepts whose phrases are the development set: some thousand phrases."""

SEED = 13
READ = ("cui", "phrase", "chosen")
"""Columns of a reading: the concept that a phrase was written for, and the CUIs that a reader chose."""
CHECKED = ("cui", "phrase", "verdict", "relation")
"""Columns of `checked.tsv`, what was looked at after that: it is right, acceptable or wrong, and the relation
that it should have, if another; ``-`` leaves it out."""
LEFT_OUT = "-"

_LETTERS = "abcdefgh"
_ANSWER = re.compile("([0-9]{1,4}) +(-|[a-h][a-h, ]*)")
_ABBREVIATION = re.compile("[A-ZÀ-Þ]{1,5}")
_NEAREST = 40


@dataclass(frozen=True)
class Question:
    """A phrase, and the concepts that a reader chooses among, in the order in which they are shown."""

    phrase: LayPhrase
    shown: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """A line of the vocabulary.

    Attributes
    ----------
    phrase, cui, relation, register, note
        As in `LayPhrase`.
    written
        Who wrote it: "model" or "person".
    read
        What a second reader said: "agreed", or "several" where other concepts were chosen beside this one.
    """

    phrase: str
    cui: str
    relation: str
    register: str
    note: str
    written: str
    read: str


def questions(phrases: Sequence[LayPhrase], mapper: TermMapper, seed: int = SEED) -> Iterator[Question]:
    """Yield a question a phrase, in an order that is drawn.

    Of concepts that a sheet would show by the same words, one is shown. Phrases of concepts that the index
    lacks are not asked for.
    """
    phrases = [phrase for phrase in phrases if phrase.cui in mapper.concepts.cuis]
    words = labels(mapper.concepts, mapper.concepts.cuis)
    draw = random.Random(seed)  # noqa: S311 - a draw that can be repeated
    order = draw.sample(phrases, len(phrases))
    bar = Progress(total=len(order), desc="reading sheets", unit=" phrases")
    keep = ConceptFilter(without_sources=(SOURCE,))
    for start in range(0, len(order), PER_SHEET):
        part = order[start : start + PER_SHEET]
        found = mapper.map([phrase.phrase for phrase in part], k=_NEAREST, keep=keep)
        for phrase, mapping in zip(part, found, strict=True):
            cuis = [phrase.cui, *(candidate.cui for candidate in mapping.candidates)]
            distinct = {words[cui]: cui for cui in reversed(cuis)}  # the first of each stays
            shown = [cui for cui in cuis if distinct[words[cui]] == cui]
            shown = list(dict.fromkeys(shown))[:SHOWN]
            yield Question(phrase, tuple(draw.sample(shown, len(shown))))
            bar.update()
    bar.close()


def same_names(names: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Return, for each concept with names, the concepts that have just these, itself among them, sorted."""
    groups = defaultdict(list)
    key = {cui: frozenset(map(str.lower, said)) for cui, said in sorted(names.items())}
    for cui, said in key.items():
        groups[said].append(cui)
    return {cui: groups[said] for cui, said in key.items() if said}


def labels(concepts: Concepts, cuis: Collection[str]) -> dict[str, str]:
    """Return what a sheet shows of each concept: its two shortest French names, its shortest English one."""
    french, english = (concepts.names(cuis, language) for language in (LANGUAGE, "ENG"))
    return {cui: _label(french[cui], english[cui]) for cui in french}


def _label(french: Iterable[str], english: Iterable[str]) -> str:
    ours = sorted({name.lower(): name for name in french}.values(), key=lambda name: (len(name), name))
    readable = [name for name in ours if not _ABBREVIATION.fullmatch(name)] or ours
    theirs = min(english, key=lambda name: (len(name), name), default="")
    return " / ".join([*readable[:2], *([f"en: {theirs}"] if theirs else [])])


def write_sheets(asked: Sequence[Question], concepts: Concepts, folder: Path, first: int = 1) -> None:
    """Write what a reader sees, on sheets numbered from `first`, and beside it what is behind each letter."""
    words = labels(concepts, {cui for question in asked for cui in question.shown})
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(asked), PER_SHEET):
        part, name = asked[start : start + PER_SHEET], f"{start // PER_SHEET + first:03d}"
        with atomic_write(folder / f"{name}.txt") as stream:
            for number, question in enumerate(part, start=1):
                stream.write(f"{number}. {question.phrase.phrase}\n")
                for letter, cui in zip(_LETTERS, question.shown, strict=False):
                    stream.write(f"   {letter} {words[cui]}\n")
        rows = ((question.phrase.cui, question.phrase.phrase, " ".join(question.shown)) for question in part)
        _write_table(folder / f"{name}.key.tsv", ("cui", "phrase", "shown"), rows)


def read_answers(folder: Path, name: str) -> list[tuple[str, str, str]]:
    """Return what was answered on a sheet, as rows of `READ`.

    Answers stand in `NAME.answers.txt`, one a line: the number of the phrase and the letters chosen, or
    ``-`` for none.

    Raises
    ------
    InputError
        A line is no such answer, or a phrase has none.
    """
    path = folder / f"{name}.answers.txt"
    asked = [cells for _, cells in read_rows(folder / f"{name}.key.tsv", ("cui", "phrase", "shown"))]
    chosen: dict[int, str] = {}
    for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not text.strip():
            continue
        answer = _ANSWER.fullmatch(text.strip())
        number = int(answer[1]) if answer else 0
        if answer is None or not 0 < number <= len(asked):
            raise InputError(f"{text!r} is no answer.", path=path, line=line, remedy="Write: 12 bd, or: 12 -")
        shown = dict(zip(_LETTERS, asked[number - 1]["shown"].split(), strict=False))
        letters = sorted(set(answer[2]) & set(_LETTERS))
        if not shown.keys() >= set(letters):
            raise InputError(f"{text!r} names a letter that is not there.", path=path, line=line)
        chosen[number] = " ".join(shown[letter] for letter in letters)
    absent = [str(number) for number in range(1, len(asked) + 1) if number not in chosen]
    if absent:
        raise InputError(f"no answer to {', '.join(absent)}.", path=path)
    return [(cells["cui"], cells["phrase"], chosen[number]) for number, cells in enumerate(asked, start=1)]


def settle(
    phrases: Iterable[LayPhrase],
    read: Mapping[tuple[str, str], Sequence[str]],
    corrected: Mapping[tuple[str, str], str] | None = None,
) -> list[Entry]:
    """Return the phrases that a reader took for the concept that they were written for.

    A phrase that was taken for others as well is "broader"; one that was taken for others alone, or for
    none, or that was not read, is left out. A relation `corrected` since, by concept and phrase, stands above
    that; ``-`` leaves the phrase out. Where a phrase is left on several concepts it is "broader" on each.
    """
    kept, corrected = [], corrected or {}
    for phrase in phrases:
        key = phrase.cui, phrase.phrase
        chosen = read.get(key, ())
        if phrase.cui in chosen and corrected.get(key) != LEFT_OUT:
            alone = len(chosen) == 1
            relation = corrected.get(key, phrase.relation if alone else "broader")
            kept.append(
                Entry(
                    phrase.phrase,
                    phrase.cui,
                    relation,
                    phrase.register,
                    phrase.note,
                    "model",
                    "agreed" if alone else "several",
                )
            )
    owners = defaultdict(set)
    for entry in kept:
        owners[normalize(entry.phrase)].add(entry.cui)
    return [
        replace(entry, relation="broader") if len(owners[normalize(entry.phrase)]) > 1 else entry
        for entry in kept
    ]


def part_development(entries: Sequence[Entry], share: float = DEVELOPMENT) -> tuple[list[Entry], list[Entry]]:
    """Part entries by concept: a development set of about `share` of the concepts, and the rest.

    A digest of its CUI says on which side a concept is, whatever else is in the vocabulary. A phrase of a
    concept held out that is in the rest as well is in neither: it would be no unseen wording.
    """
    rest = [entry for entry in entries if not _is_held(entry.cui, share)]
    known = {normalize(entry.phrase) for entry in rest}
    held = [entry for entry in entries if _is_held(entry.cui, share) and normalize(entry.phrase) not in known]
    return held, rest


def _is_held(cui: str, share: float) -> bool:
    return int.from_bytes(blake2b(cui.encode(), digest_size=4).digest()) < share * 2**32


def write_development(
    entries: Iterable[Entry],
    read: Mapping[tuple[str, str], Sequence[str]],
    alike: Mapping[str, Collection[str]],
    path: Path,
) -> None:
    """Write a development set: columns `Terme`, `CUI`, `concept` and what the vocabulary says of a phrase.

    Right are the concept that a phrase was written for, those that the reader chose as well, and those that
    have all the names of one of these.
    """
    rows = []
    for entry in sorted(entries, key=lambda entry: (entry.cui, entry.phrase)):
        right = {entry.cui, *read[entry.cui, entry.phrase]}
        right |= {cui for chosen in right for cui in alike.get(chosen, ())}
        others = sorted(right - {entry.cui})
        rows.append(
            (
                entry.phrase,
                ";".join([entry.cui, *others]),
                entry.cui,
                entry.relation,
                entry.register,
                entry.read,
            )
        )
    _write_table(path, ("Terme", "CUI", "concept", "relation", "register", "read"), rows)


def write_entries(entries: Iterable[Entry], path: Path) -> None:
    """Write entries as a table, sorted by concept."""
    columns = [field.name for field in fields(Entry)]
    ordered = sorted(entries, key=lambda entry: (entry.cui, entry.phrase))
    _write_table(path, columns, map(astuple, ordered))


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with atomic_write(path) as stream:
        writer = csv.writer(
            stream, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None
        )
        writer.writerow(columns)
        writer.writerows(rows)


def _readings(folder: Path) -> dict[tuple[str, str], list[str]]:
    return {
        (cells["cui"], cells["phrase"]): cells["chosen"].split()
        for path in sorted(folder.glob("*.tsv"))
        for _, cells in read_rows(path, READ)
    }


def read_corrections(path: Path) -> dict[tuple[str, str], str]:
    """Return the relation that was corrected of each concept and phrase, ``-`` where it is left out.

    Raises
    ------
    InputError
        The file is no such table, or a cell is no relation; the error names the line.
    """
    found = {}
    for line, cells in read_rows(path, CHECKED):
        if cells["relation"] not in ("", LEFT_OUT, *RELATIONS):
            raise InputError(f"{cells['relation']!r} is no relation.", path=path, line=line)
        if cells["relation"]:
            found[cells["cui"], cells["phrase"]] = cells["relation"]
    return found


def _written(folder: Path) -> list[LayPhrase]:
    return [phrase for path in sorted(folder.glob("*.tsv")) for phrase in read_lay(path)]


def main() -> None:
    """Make sheets, take in what was answered, or settle the vocabulary."""
    verb, *arguments = sys.argv[1:]
    paths = list(map(Path, arguments))
    if verb == "sheets":
        written, readings, index, folder = paths
        mapper, read = TermMapper.open(index), _readings(readings)
        unread = [phrase for phrase in _written(written) if (phrase.cui, phrase.phrase) not in read]
        last = max((int(path.stem) for path in readings.glob("*.tsv")), default=0)
        write_sheets(list(questions(unread, mapper)), mapper.concepts, folder, last + 1)
    elif verb == "answers":
        folder, out = paths
        for path in sorted(folder.glob("*.answers.txt")):
            name = path.name.removesuffix(".answers.txt")
            _write_table(out / f"{name}.tsv", READ, read_answers(folder, name))
    elif verb == "settle":
        written, readings, umls, out = paths
        read = _readings(readings)
        checked = out / "checked.tsv"
        corrected = read_corrections(checked) if checked.exists() else {}
        held, kept = part_development(settle(_written(written), read, corrected))
        write_entries(kept, out / "lay_fr.tsv")
        concepts = read_concepts(umls, AtomFilter(languages=(LANGUAGE,)))
        alike = same_names(concepts.names(concepts.cuis, LANGUAGE))
        write_development(held, read, alike, out / "dev.tsv")
    else:
        raise InputError(f"{verb!r} is none of sheets, answers and settle.")


if __name__ == "__main__":
    main()
