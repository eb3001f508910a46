"""What the shipped encoder learns from: every input read, and the training pairs of each objective.

Terms of evaluation sets never enter a mined pair: see `HeldOut`.
"""

from __future__ import annotations

import gzip
import logging
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from deft.corpora.deft2020 import read_t1, read_t2
from deft.corpora.delimited import read_rows
from deft.corpora.pairs import read_pairs
from deft.corpora.split import held_out as held_out_document
from deft.errors import InputError
from deft.files import cannot_read
from deft.recipe.glosses import Gloss, TermFilter, mine_glosses, stems
from deft.recipe.params import Objective, RecipeParams
from deft.recipe.pretrain import Corpus
from deft.terminology.lay import read_lay
from deft.terminology.rrf import AtomFilter, read_atoms
from deft.text import clean, normalize

logger = logging.getLogger(__name__)

_LANGUAGES = AtomFilter(languages=("FRE", "ENG"))
_SYNONYMS, _ENGLISH_ANCHORS = 4, 3  # pairs drawn from a French name; English names that stand in for one
_LEAST_SHARED = 5  # letters of a name that makes concepts one group: abbreviations name unlike things
_GLOSS_NAMES = 4  # names of a concept that one gloss is paired with


@dataclass(frozen=True)
class HeldOut:
    """The terms and concepts of evaluation sets.

    Attributes
    ----------
    terms
        Recognises phrases that contain a held-out term or a name of a held-out concept, singular or plural.
    concepts
        CUIs.
    """

    terms: TermFilter
    concepts: frozenset[str]

    @classmethod
    def read(cls, paths: Iterable[Path], atoms: pd.DataFrame) -> HeldOut:
        """Read the files of `RecipeParams.held_out_terms`; `atoms` has the names of all concepts."""
        terms: list[str] = []
        cuis: set[str] = set()
        for path in paths:
            for _, row in read_rows(path, ("lay", "technical", "cuis")):
                terms += [row["lay"], row["technical"]]
                cuis.update(cui.strip() for cui in row["cuis"].split(";"))
        names = atoms.loc[atoms["cui"].isin(cuis), "string"]
        return cls(TermFilter([*terms, *names]), frozenset(cuis))


def build_corpora(params: RecipeParams) -> dict[Objective, Corpus]:
    """Read every input and return the training pairs of each objective.

    Raises
    ------
    InputError
        A file is missing or malformed.
    """
    atoms = read_atoms(params.umls, _LANGUAGES)
    atoms = atoms.assign(string=atoms["string"].map(clean))
    atoms = atoms[atoms["string"] != ""]
    groups = _groups(atoms)
    held_out = HeldOut.read(params.held_out_terms, atoms)
    forbidden = frozenset(normalize(text) for path in params.held_out_texts for text in _sentences(path))
    corpora: dict[Objective, Corpus] = {
        "translation": _translations(params.parallel, atoms, forbidden),
        "synonyms": _synonyms(params, atoms, groups, held_out),
        "glosses": _glosses(params, atoms, groups, held_out),
        "grades": _grades(params.graded, forbidden),
    }
    if params.lay is not None:
        corpora["lay"] = _lay(params, params.lay, atoms, groups)
    if params.sets is not None:
        corpora["sets"] = _sets(params.sets, forbidden)
    for name, corpus in corpora.items():
        logger.info("%s: %d pairs", name, len(corpus))
    return corpora


def _groups(atoms: pd.DataFrame) -> dict[str, str]:
    """Return the group of each concept, named by its first CUI.

    Concepts that share a French name are one group: they are no negatives of one another.
    """
    concepts, cuis = pd.factorize(atoms["cui"])
    keys = atoms["string"].map(normalize)
    shared = np.asarray((atoms["language"] == "FRE") & (keys.str.len() >= _LEAST_SHARED))
    names, _ = pd.factorize(keys[shared])
    size = len(cuis) + int(shared.sum())
    edges = coo_array((np.ones(len(names)), (concepts[shared], len(cuis) + names)), shape=(size, size))
    _, group = connected_components(edges, directed=False)
    first = pd.Series(cuis, dtype="str").groupby(group[: len(cuis)]).transform("min")
    return dict(zip(cuis, first, strict=True))


def vocabulary_texts(params: RecipeParams) -> Iterator[str]:
    """Yield what the vocabulary is trained on: French text, names of concepts (twice), translations."""
    for (sentence,) in _rows(params.text, "sentence"):
        yield sentence
    for string in read_atoms(params.umls, _LANGUAGES)["string"]:
        yield from (string, string)  # names weigh more than running text: they are what is embedded
    for pair in _rows(params.parallel, "en", "fr"):
        yield from pair


def _translations(path: Path, atoms: pd.DataFrame, forbidden: frozenset[str]) -> Corpus:
    """Pair English (left) and French (right): parallel text, and the French names with the main English."""
    pairs = [
        (clean(english), clean(french))
        for english, french in _rows(path, "en", "fr")
        if normalize(french) not in forbidden and normalize(english) not in forbidden
    ]
    main = atoms[atoms["preferred"] & (atoms["language"] == "ENG")]
    english_of = main.drop_duplicates("cui").set_index("cui")["string"]
    french = atoms[(atoms["language"] == "FRE") & atoms["cui"].isin(english_of.index)]
    french = french.drop_duplicates(["cui", "string"])
    pairs += zip(english_of.loc[french["cui"]], french["string"], strict=True)
    pairs = [(left, right) for left, right in dict.fromkeys(pairs) if left and right]
    left = [english for english, _ in pairs]
    return Corpus(left, [right for _, right in pairs], _codes(left))


def _synonyms(
    params: RecipeParams, atoms: pd.DataFrame, groups: Mapping[str, str], held_out: HeldOut
) -> Corpus:
    """Pair names of one concept.

    Each French name is paired with others of any language; where there is none, English names with one
    another.
    """
    generator = np.random.default_rng(params.training.seed)
    left: list[str] = []
    right: list[str] = []
    keys: list[str] = []
    for cui, names in _named(params, atoms, held_out).groupby("cui", sort=True):
        rows = list(zip(names["string"], names["key"], strict=True))
        french = [row for row, language in zip(rows, names["language"], strict=True) if language == "FRE"]
        for anchor, key in french or rows[:_ENGLISH_ANCHORS]:
            others = [string for string, other in rows if other != key]
            for place in generator.permutation(len(others))[: _SYNONYMS if french else 1]:
                left.append(anchor)
                right.append(others[place])
                keys.append(groups[str(cui)])
    return Corpus(left, right, _codes(keys))


def _named(params: RecipeParams, atoms: pd.DataFrame, held_out: HeldOut) -> pd.DataFrame:
    """Return the names of each concept, annotated mentions after those of `atoms`.

    Columns `cui`, `language`, `string` and `key`, its normalised form; at most `names_per_concept` in a
    language.
    """
    rows = read_rows(params.mentions, ("doc", "mention", "cui"))
    kept = [row for _, row in rows if not held_out_document(row["doc"], params.mentions_held_out)]
    table = pd.DataFrame(kept, columns=["doc", "mention", "cui"], dtype="str")
    mentions = pd.DataFrame({"cui": table["cui"].str.split(";"), "string": table["mention"].map(clean)})
    mentions = mentions.explode("cui").assign(language="FRE", cui=lambda frame: frame["cui"].str.strip())
    mentions = mentions[
        mentions["cui"].isin(set(atoms["cui"]) - held_out.concepts)
        & (mentions["string"] != "")
        & ~mentions["string"].map(held_out.terms.matches).astype(bool)
    ]
    names = pd.concat([atoms[["cui", "language", "string"]], mentions[["cui", "language", "string"]]])
    names = names.assign(key=names["string"].map(normalize)).drop_duplicates(["cui", "language", "key"])
    return names.groupby(["cui", "language"]).head(params.names_per_concept)


def _glosses(
    params: RecipeParams, atoms: pd.DataFrame, groups: Mapping[str, str], held_out: HeldOut
) -> Corpus:
    """Pair mined phrases; where one side names a concept, the other is paired with its names as well.

    A gloss that names no concept counts if the text has it twice.
    """
    allowed = atoms[~atoms["cui"].isin(held_out.concepts) & ~atoms["string"].map(held_out.terms.matches)]
    names = {str(cui): list(rows) for cui, rows in allowed.groupby("cui")["string"]}
    french = allowed[allowed["language"] == "FRE"]
    of_key = french.groupby(french["string"].map(normalize))["cui"]
    concepts = {str(key): sorted(set(cuis)) for key, cuis in of_key}
    generator = np.random.default_rng(params.training.seed)
    rows: list[tuple[str, str, str]] = []
    for gloss in mine_glosses(sentence for (sentence,) in _rows(params.text, "sentence")):
        if not (held_out.terms.matches(gloss.left) or held_out.terms.matches(gloss.right)):
            rows += _gloss_pairs(gloss, concepts, names, groups, generator)
    left, right, keys = ([row[column] for row in rows] for column in range(3))
    return Corpus(left, right, _codes(keys))


def _gloss_pairs(
    gloss: Gloss,
    concepts: Mapping[str, Sequence[str]],
    names: Mapping[str, Sequence[str]],
    groups: Mapping[str, str],
    generator: np.random.Generator,
) -> Iterator[tuple[str, str, str]]:
    """Yield the pairs that a gloss gives, and the group of each."""
    sides = ((gloss.left, gloss.right), (gloss.right, gloss.left))
    known = [(other, concepts[normalize(side)]) for side, other in sides if normalize(side) in concepts]
    group = min((groups[cui] for _, cuis in known for cui in cuis), default=normalize(gloss.right))
    if known or gloss.count > 1:
        yield gloss.left, gloss.right, group
    for other, cuis in known:
        choices = list(dict.fromkeys(name for cui in cuis for name in names[cui]))
        choices = [name for name in choices if normalize(name) != normalize(other)]
        for place in generator.permutation(len(choices))[:_GLOSS_NAMES]:
            yield other, choices[place], group


def _lay(params: RecipeParams, path: Path, atoms: pd.DataFrame, groups: Mapping[str, str]) -> Corpus:
    """Pair what laypeople say for a concept with its names, and with what else they say for it.

    Phrases that cover other concepts as well are left out, and those that read as a held-out one.
    """
    held_out = {stems(text) for text in _held_out_phrases(params)}
    known = set(atoms["cui"])
    said: dict[str, list[str]] = defaultdict(list)
    for phrase in read_lay(path):
        if phrase.relation != "broader" and phrase.cui in known and stems(phrase.phrase) not in held_out:
            said[phrase.cui].append(phrase.phrase)
    names = atoms[atoms["cui"].isin(said)].groupby("cui")["string"]
    generator = np.random.default_rng(params.training.seed)
    rows: list[tuple[str, str, str]] = []
    for cui, own in names:
        phrases = said[str(cui)]
        others = list(dict.fromkeys([*own, *phrases]))
        for said_so in phrases:
            choices = [text for text in others if normalize(text) != normalize(said_so)]
            places = generator.permutation(len(choices))[:_SYNONYMS]
            rows += [(said_so, choices[place], groups[str(cui)]) for place in places]
    left, right, keys = ([row[column] for row in rows] for column in range(3))
    return Corpus(left, right, _codes(keys))


def _held_out_phrases(params: RecipeParams) -> Iterator[str]:
    for path in params.held_out_phrases:
        yield from (row["Terme"] for _, row in read_rows(path, ("Terme",)))
    for path in params.held_out_terms:
        for _, row in read_rows(path, ("lay", "technical")):
            yield from (row["lay"], row["technical"])


def _grades(path: Path, forbidden: frozenset[str]) -> Corpus:
    pairs = [
        pair
        for pair in read_pairs(path, grade="score")
        if not {normalize(pair.source), normalize(pair.target)} & forbidden
    ]
    grade = np.array([(pair.grade or 0.0) / 5 for pair in pairs], dtype=np.float32)
    group = np.arange(len(pairs), dtype=np.int64)
    return Corpus([pair.source for pair in pairs], [pair.target for pair in pairs], group, grade)


def _sets(path: Path, forbidden: frozenset[str]) -> Corpus:
    """Pair each sentence with its parallel sentence, once a distractor."""
    rows = [
        (item.id, item.source, item.targets[item.answer - 1], target)
        for item in read_t2(path)
        if item.answer is not None
        and not {normalize(text) for text in (item.source, *item.targets)} & forbidden
        for number, target in enumerate(item.targets, start=1)
        if number != item.answer
    ]
    keys, left, right, distractor = ([row[column] for row in rows] for column in range(4))
    return Corpus(left, right, _codes(keys), distractor=distractor)


def _codes(keys: Sequence[str]) -> np.ndarray:
    """Return the number of each key, in order of first appearance."""
    codes, _ = pd.factorize(pd.Series(keys, dtype="str"))
    return np.asarray(codes, dtype=np.int64)


def _sentences(path: Path) -> list[str]:
    """Return every sentence of a held-out file."""
    if path.suffix != ".xml":
        return [text for pair in read_pairs(path, grade=None) for text in (pair.source, pair.target)]
    try:
        sets = b"<ensemble" in path.read_bytes()
    except OSError as error:
        raise cannot_read(path, error) from error
    if sets:
        return [text for item in read_t2(path) for text in (item.source, *item.targets)]
    return [text for pair in read_t1(path) for text in (pair.source, pair.target)]


def _rows(path: Path, *columns: str) -> Iterator[tuple[str, ...]]:
    """Yield the cells of `columns` of a `.tsv` with a header, plain or gzip; it may be larger than memory."""
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig", newline="\n")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8-sig", newline="\n")
        ) as stream:
            header = stream.readline().rstrip("\r\n").split("\t")
            missing = [column for column in columns if column not in header]
            if missing:
                raise InputError(f"no column {', '.join(map(repr, missing))}.", path=path, line=1)
            places = [header.index(column) for column in columns]
            for number, line in enumerate(stream, start=2):
                cells = line.rstrip("\r\n").split("\t")
                if len(cells) != len(header):
                    found = f"expected {len(header)} fields as in the header, found {len(cells)}."
                    raise InputError(found, path=path, line=number)
                yield tuple(cells[place] for place in places)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise cannot_read(path, error) from error
