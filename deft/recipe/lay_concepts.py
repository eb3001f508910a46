"""Choose the concepts that the lay vocabulary gets phrases for: those that people speak and read of.

    python -m deft.recipe.lay_concepts ../shared/data data/lay/concepts.tsv

A concept with a French name scores by how often its French names stand in French biomedical text, by whether
English has a layperson's synonym for it (TTY LAYSY), and by whether a name is a headword of a French
dictionary. Abbreviations do not count. Nothing else is read: no evaluation has a say.
"""

from __future__ import annotations

import csv
import gzip
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from functools import partial
from math import log1p
from pathlib import Path

from deft.files import atomic_write
from deft.terminology.rrf import AtomFilter, stream_atoms, stream_semantic_types
from deft.text import normalize

COUNT = 6000

_LAYSY = _HEADWORD = 1.5  # worth as much as a name that stands 3 or 4 times in the text
_LONGEST = 5  # words of a name that is looked for in the text
_SPECIALIST = -4.0

# What comes first, and how much it counts; the types of the open terminologies are coarse.
_KINDS = {"symptom": 1.0, "disease": 0.5, "injury": 0.5, "body part": 0.25, "examination": 0.25}
_BY_TYPE = {"T033": "symptom", "T047": "disease", "T023": "body part"}
_BY_NAME = {
    "injury": re.compile(
        r"(?:fracture|luxation|entorse|plaie|brulure|contusion|morsure|piqure|intoxication|gelure|noyade|"
        r"traumatisme|blessure|empoisonnement|commotion|hematome|ecchymose|ampoule|coup|chute)s?\b"
    ),
    "examination": re.compile(
        r"(?:echo|radio|scinti|mammo|coelio|colo|gastro|endo|broncho)(?:graphie|scopie)s?\b|"
        r"(?:biopsie|examen|vaccination|greffe|transplantation|accouchement|cesarienne|grossesse|dialyse)s?\b"
    ),
}
# Names that no patient has a word for: genes, heredity, onset, laboratory and microscope, absence.
_NOT_SPOKEN = re.compile(
    r"\b(?:absence|hereditaire|heredite|dominante?|recessi(?:f|ve)|autosomique|lie a l x|mitochondrial|"
    r"debut|apparition|age|progression|penetrance|variable|congenital[es]*|juvenile|infantile|neonatale?|"
    r"chromosom\w*|delet\w*|duplicat\w*|mutation|gene|deficit en|concentration|taux|activite|niveau|"
    r"plasmatique|serique|urinaire|histolog\w*|microscop\w*|biochim\w*|electro\w*|eeg|irm|ponderee|"
    r"epiphys\w*|metaphys\w*|phalange|phalanges|metacarp\w*|metatars\w*|hypoplasie|aplasie|agenesie|"
    r"dysmorphi\w*|anomalie|anormal\w*|malformation|syndactylie|syndrome|type|forme|nature|sequence|facteur|anticorps|immunoglobuline|cellule[s]?|nucleaire)\b"
)

_SHORT = re.compile(r"[A-Z0-9-]{1,5}|.{1,2}")  # an abbreviation: read as a word, it would be "LES" or "EST"


@dataclass(frozen=True)
class LayConcept:
    """A concept that gets phrases.

    Attributes
    ----------
    rank
        From 1.
    cui, name
        The concept, and its French name that stands most often in the text.
    kind
        What it is to a patient.
    types
        Its semantic types, by semicolons.
    frequency, laysy, headword, spoken
        How often its French names stand in the text; whether English has a layperson's synonym; whether a
        name is a headword; whether its name is one that a patient may have a word for.
    score
        What it is ranked by.
    """

    rank: int
    cui: str
    name: str
    kind: str
    types: str
    frequency: int
    laysy: int
    headword: int
    spoken: int
    score: float


def choose_concepts(umls: Path, text: Path, dictionary: Path, count: int = COUNT) -> list[LayConcept]:
    """Return the concepts with the highest scores, ties by CUI.

    Parameters
    ----------
    umls
        Folder of a Metathesaurus.
    text
        TSV (gzip) with a sentence in its last column.
    dictionary
        TSV (gzip) with a headword in its first column.
    count
        Number of concepts.
    """
    french, lay = _names(umls)
    written_out = (name for names in french.values() for name in names if not _SHORT.fullmatch(name))
    keys = {name: normalize(name) for name in written_out}
    frequency = count_phrases(_column(text, -1), set(keys.values()))
    known = set(keys.values())
    headwords = {key for word in _column(dictionary, 0) if (key := normalize(word)) in known}
    types = defaultdict(set)
    for batch in stream_semantic_types(umls):
        for row in batch.to_pylist():
            types[row["cui"]].add(row["tui"])
    judge = partial(_scored, keys=keys, frequency=frequency, laysy=lay, headwords=headwords)
    found = [judge(cui, names, types[cui]) for cui, names in french.items()]
    found.sort(key=lambda concept: (-concept.score, concept.cui))
    return [LayConcept(rank, *astuple(concept)[1:]) for rank, concept in enumerate(found[:count], start=1)]


def count_phrases(sentences: Iterable[str], phrases: Collection[str]) -> Counter[str]:
    """Count normalised phrases of a few words in sentences, whole words alone."""
    counts: Counter[str] = Counter()
    for sentence in sentences:
        words = normalize(sentence).split()
        for start in range(len(words)):
            for stop in range(start + 1, min(start + _LONGEST, len(words)) + 1):
                if (phrase := " ".join(words[start:stop])) in phrases:
                    counts[phrase] += 1
    return counts


def write_concepts(concepts: Iterable[LayConcept], path: Path) -> None:
    """Write the concepts with what they were chosen by."""
    with atomic_write(path) as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow([field.name for field in fields(LayConcept)])
        writer.writerows(astuple(concept) for concept in concepts)


def _names(umls: Path) -> tuple[dict[str, list[str]], set[str]]:
    """Return the French names of each concept, and the concepts with a layperson's synonym."""
    french: dict[str, dict[str, None]] = {}
    lay: set[str] = set()
    for batch in stream_atoms(umls, AtomFilter()):
        for atom in batch.to_pylist():
            if atom["language"] == "FRE":
                french.setdefault(atom["cui"], {})[atom["string"]] = None
            if atom["term_type"] == "LAYSY":
                lay.add(atom["cui"])
    return {cui: list(names) for cui, names in sorted(french.items())}, lay


def _scored(
    cui: str,
    names: list[str],
    types: Collection[str],
    *,
    keys: dict[str, str],
    frequency: Counter[str],
    laysy: Collection[str],
    headwords: Collection[str],
) -> LayConcept:
    written_out = {name: keys[name] for name in names if name in keys}
    most = max(written_out or names, key=lambda name: (frequency[keys.get(name, "")], -len(name), name))
    total = sum(frequency[key] for key in set(written_out.values()))
    headword = any(key in headwords for key in written_out.values())
    spoken = not all(_NOT_SPOKEN.search(key) for key in written_out.values())
    kind = next(
        (kind for kind, pattern in _BY_NAME.items() if any(map(pattern.match, written_out.values()))),
        next((_BY_TYPE[tui] for tui in sorted(types) if tui in _BY_TYPE), "disease"),
    )
    evidence = (total, int(cui in laysy), int(headword), int(spoken))
    score = log1p(total) + _LAYSY * evidence[1] + _HEADWORD * headword + _SPECIALIST * (not spoken)
    return LayConcept(
        0, cui, most, kind, ";".join(sorted(types)), *evidence, score=round(score + _KINDS[kind], 4)
    )


def _column(path: Path, column: int) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        for line in stream:
            yield line.rstrip("\n").split("\t")[column]


def main() -> None:
    """Choose from the open data and write the list."""
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    text = data / "text" / "sentences_fr.tsv.gz"
    dictionary = data / "wiktionary_fr" / "all_headwords_glosses.tsv.gz"
    write_concepts(choose_concepts(data / "umls_open", text, dictionary), out)


if __name__ == "__main__":
    main()
