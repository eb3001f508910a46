"""The files of the DEFT 2020 challenge: sentence pairs (task 1), sentence sets (task 2) and predictions.

The XML shape is that of the official distribution (Cardon et al. 2020, "Présentation de la campagne
d'évaluation DEFT 2020")::

    <doc>
      <paire id="0" moy="2.2" vote="5.0" scores="5,2,0,3,1"> <source>..</source> <cible>..</cible> </paire>
      <ensemble id="0" cible="2"> <source>..</source> <cible num="1">..</cible> .. </ensemble>
    </doc>
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from lxml import etree

from deft.errors import InputError
from deft.files import atomic_write, cannot_read, read_text
from deft.text import clean

MAX_GRADE = 5.0


@dataclass(frozen=True, slots=True)
class SentencePair:
    """Two sentences and, if known, the mean of their similarity grades, from 0 to 5 (task 1)."""

    id: str
    source: str
    target: str
    grade: float | None = None


@dataclass(frozen=True, slots=True)
class SentenceSet:
    """A source sentence, three candidates and, if known, the number (from 1) of the parallel one (task 2)."""

    id: str
    source: str
    targets: tuple[str, ...]
    answer: int | None = None


Item = TypeVar("Item", SentencePair, SentenceSet)


def read_t1(path: str | Path) -> list[SentencePair]:
    """Read a task 1 file, with or without gold.

    Raises
    ------
    InputError
        The XML is malformed, an identifier is repeated, a sentence is missing or empty, or a grade is not in
        [0, 5].
    """
    return _read(Path(path), "paire", _pair)


def read_t2(path: str | Path) -> list[SentenceSet]:
    """Read a task 2 file, with or without gold.

    Raises
    ------
    InputError
        The XML is malformed, an identifier is repeated, a sentence is missing or empty, or the answer is no
        candidate's number.
    """
    return _read(Path(path), "ensemble", _set)


def write_t1(path: str | Path, pairs: Iterable[SentencePair]) -> None:
    """Write a task 1 file, its gold as five equal grades where it is known."""
    root = etree.Element("doc")
    for pair in pairs:
        element = etree.SubElement(root, "paire", id=clean(pair.id))
        if pair.grade is not None:
            element.set("moy", _shown(pair.grade))
            element.set("vote", f"{float(round(pair.grade)):.1f}")
            element.set("scores", ",".join([_shown(pair.grade)] * 5))
        etree.SubElement(element, "source").text = clean(pair.source)
        etree.SubElement(element, "cible").text = clean(pair.target)
    _write_xml(Path(path), root)


def write_t2(path: str | Path, sets: Iterable[SentenceSet]) -> None:
    """Write a task 2 file."""
    root = etree.Element("doc")
    for item in sets:
        element = etree.SubElement(root, "ensemble", id=clean(item.id))
        if item.answer is not None:
            element.set("cible", str(item.answer))
        etree.SubElement(element, "source").text = clean(item.source)
        for number, target in enumerate(item.targets, start=1):
            etree.SubElement(element, "cible", num=str(number)).text = clean(target)
    _write_xml(Path(path), root)


def read_grades(path: str | Path) -> dict[str, float]:
    """Read task 1 predictions: a TSV of identifier and grade, without header.

    Raises
    ------
    InputError
        A line has not two fields, repeats an identifier, or its grade is not a finite number.
    """
    grades = {}
    for line, identifier, value in _predictions(Path(path)):
        grades[identifier] = _number(Path(path), line, "grade", value)
    return grades


def read_choices(path: str | Path) -> dict[str, int]:
    """Read task 2 predictions: a TSV of identifier and number of the chosen sentence, without header.

    Raises
    ------
    InputError
        A line has not two fields, repeats an identifier, or its number is not a positive integer.
    """
    choices = {}
    for line, identifier, value in _predictions(Path(path)):
        if not value.isdecimal() or int(value) == 0:
            raise InputError(
                f"expected the number of a sentence, found {value!r}.", path=path, line=line, field="number"
            )
        choices[identifier] = int(value)
    return choices


def write_grades(path: str | Path, grades: Mapping[str, float]) -> None:
    """Write task 1 predictions as a TSV of identifier and grade."""
    with atomic_write(Path(path)) as stream:
        stream.writelines(f"{identifier}\t{grade:.4f}\n" for identifier, grade in grades.items())


def write_choices(path: str | Path, choices: Mapping[str, int]) -> None:
    """Write task 2 predictions as a TSV of identifier and number."""
    with atomic_write(Path(path)) as stream:
        stream.writelines(f"{identifier}\t{number}\n" for identifier, number in choices.items())


def _read(path: Path, tag: str, parse: Callable[[Path, etree._Element], Item]) -> list[Item]:
    items: dict[str, Item] = {}
    for element in _elements(path, tag):
        item = parse(path, element)
        if item.id in items:
            raise _wrong(
                path, element, "id", f"{item.id!r} stands for two items.", "Make identifiers unique."
            )
        items[item.id] = item
    return list(items.values())


def _elements(path: Path, tag: str) -> Iterator[etree._Element]:
    found = False
    try:
        with path.open("rb") as stream:
            for _, element in etree.iterparse(
                stream, events=("end",), tag=tag, resolve_entities="internal", no_network=True
            ):
                found = True
                yield element
                element.clear()
    except OSError as error:
        raise cannot_read(path, error) from error
    except etree.XMLSyntaxError as error:
        raise InputError(
            f"malformed XML: {error.msg}.",
            path=path,
            line=error.lineno or None,
            remedy="Is the file whole, and UTF-8?",
        ) from error
    if not found:
        raise InputError(
            f"no <{tag}> element.",
            path=path,
            remedy="Task 1 files hold <paire> elements, task 2 files <ensemble> elements.",
        )


def _pair(path: Path, element: etree._Element) -> SentencePair:
    targets = element.findall("cible")
    if len(targets) != 1:
        raise _wrong(path, element, "cible", f"expected one <cible>, found {len(targets)}.")
    value = element.get("moy")
    grade = None if value is None else _number(path, _line(element), "moy", value)
    if grade is not None and not 0 <= grade <= MAX_GRADE:
        raise _wrong(path, element, "moy", f"a grade from 0 to 5 was expected, found {value}.")
    return SentencePair(
        _identifier(path, element), _source(path, element), _sentence(path, targets[0]), grade
    )


def _set(path: Path, element: etree._Element) -> SentenceSet:
    targets = {target.get("num"): target for target in element.findall("cible")}
    expected = [str(number) for number in range(1, len(element.findall("cible")) + 1)]
    if set(targets) != set(expected) or len(expected) < 2:
        found = [target.get("num") for target in element.findall("cible")]
        raise _wrong(
            path, element, "num", f"expected <cible num='1'>, <cible num='2'> ..., found numbers {found}."
        )
    answer = element.get("cible")
    if answer is not None and answer not in expected:
        raise _wrong(path, element, "cible", f"{answer!r} is no number of a candidate.")
    return SentenceSet(
        _identifier(path, element),
        _source(path, element),
        tuple(_sentence(path, targets[number]) for number in expected),
        None if answer is None else int(answer),
    )


def _identifier(path: Path, element: etree._Element) -> str:
    identifier = clean(element.get("id") or "")
    if not identifier:
        raise _wrong(path, element, "id", "is missing.")
    return identifier


def _source(path: Path, element: etree._Element) -> str:
    source = element.find("source")
    if source is None:
        raise _wrong(path, element, "source", "is missing.")
    return _sentence(path, source)


def _sentence(path: Path, element: etree._Element) -> str:
    text = clean("".join(str(part) for part in element.itertext()))
    if not text:
        raise _wrong(path, element, str(element.tag), "is empty.")
    return text


def _wrong(
    path: Path, element: etree._Element, field: str, problem: str, remedy: str | None = None
) -> InputError:
    return InputError(problem, path=path, line=_line(element), field=field, remedy=remedy)


def _line(element: etree._Element) -> int | None:
    return cast("int | None", element.sourceline)


def _shown(grade: float) -> str:
    short = f"{grade:g}"
    return short if float(short) == grade else repr(grade)


def _number(path: Path, line: int | None, field: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"expected a number, found {value!r}.", path=path, line=line, field=field)
    return number


def _predictions(path: Path) -> Iterator[tuple[int, str, str]]:
    seen: set[str] = set()
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) != 2:
            problem = f"expected an identifier, a tab and a value, found {len(fields)} fields."
            raise InputError(problem, path=path, line=number)
        identifier, value = (field.strip() for field in fields)
        if identifier in seen:
            raise InputError(f"{identifier!r} was already given.", path=path, line=number, field="id")
        seen.add(identifier)
        yield number, identifier, value


def _write_xml(path: Path, root: etree._Element) -> None:
    with atomic_write(path, binary=True) as stream:
        stream.write(etree.tostring(root, encoding="UTF-8", xml_declaration=True, pretty_print=True))
