"""The shipped sample: large enough, true, and without leaks between its parts."""

import csv

import pytest

from deft.corpora.deft2020 import read_t1, read_t2
from deft.terminology.lexicon import read_gold, read_lexicon
from deft.terminology.rrf import read_atoms, read_definitions, read_semantic_types
from deft.terminology.semantic_groups import GROUP_OF
from deft.text import clean, normalize


@pytest.fixture(scope="module")
def sample(root):
    return root / "data" / "sample"


@pytest.fixture(scope="module")
def atoms(sample):
    return read_atoms(sample / "umls")


@pytest.fixture(scope="module")
def gold(sample):
    return read_gold(sample / "lexicon.csv")


@pytest.fixture(scope="module")
def open_cuis(sample):
    """CUIs that public terminologies and QUAERO use."""
    data = sample.parents[1].parent / "shared" / "data"
    if not (data / "umls_open").is_dir() or not (data / "quaero").is_dir():
        pytest.skip("the open terminologies are not beside the repository (../shared/data)")
    known = set(read_atoms(data / "umls_open")["cui"])
    for path in sorted((data / "quaero").glob("*.tsv")):
        with path.open(encoding="utf-8", newline="") as stream:
            rows = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
            known.update(cui.strip() for row in rows for cui in row["cui"].split(";"))
    return known


class TestMetathesaurus:
    def test_size(self, atoms):
        assert atoms["cui"].nunique() >= 600
        assert len(atoms) >= 2500
        assert set(atoms["language"]) == {"FRE", "ENG"}

    def test_every_concept_has_a_french_and_an_english_name(self, atoms):
        assert (atoms.groupby("cui")["language"].nunique() == 2).all()

    def test_semantic_types(self, sample, atoms):
        types = read_semantic_types(sample / "umls")
        assert types["tui"].nunique() >= 8
        assert set(types["tui"]) <= set(GROUP_OF)
        assert set(types["cui"]) == set(atoms["cui"])

    def test_definitions(self, sample, atoms):
        definitions = read_definitions(sample / "umls")
        assert len(definitions) > 0
        assert set(definitions["cui"]) <= set(atoms["cui"])

    def test_one_preferred_name_a_concept_and_language(self, atoms):
        preferred = atoms[atoms["preferred"]]
        assert not preferred.duplicated(["cui", "language"]).any()
        assert len(preferred) == 2 * atoms["cui"].nunique()

    def test_strings_are_clean_and_said_once(self, atoms):
        assert (atoms["string"].map(clean) == atoms["string"]).all()
        assert not atoms.duplicated(["cui", "language", "string"]).any()

    def test_every_cui_is_true(self, atoms, open_cuis):
        assert sorted(set(atoms["cui"]) - open_cuis) == []


class TestLexicon:
    def test_size_and_columns(self, sample, gold):
        entries = read_lexicon(sample / "lexicon.csv")
        assert len(entries) == len(gold) >= 300
        assert all(len(entry.explanation) > 10 and entry.sources for entry in entries)
        assert len({normalize(entry.term) for entry in entries}) == len(entries)

    def test_every_cui_is_true_and_in_the_metathesaurus(self, gold, atoms, open_cuis):
        cuis = {cui for row in gold for cui in row.cuis}
        assert sorted(cuis - set(atoms["cui"])) == []
        assert sorted(cuis - open_cuis) == []

    def test_no_term_is_a_french_name(self, gold, atoms):
        names = set(atoms.loc[atoms["language"] == "FRE", "string"].map(normalize))
        assert sorted(row.query for row in gold if normalize(row.query) in names) == []


class TestSentences:
    @pytest.mark.parametrize(
        ("read", "name", "count"),
        [
            (read_t1, "t1-train", 150),
            (read_t1, "t1-test", 100),
            (read_t2, "t2-train", 150),
            (read_t2, "t2-test", 100),
        ],
    )
    def test_size_and_gold(self, sample, read, name, count):
        items = read(sample / f"{name}.xml")
        assert len(items) == count
        if read is read_t1:
            assert all(item.grade is not None for item in items)
            assert {round(item.grade) for item in items} == set(range(6))
        else:
            assert all(len(item.targets) == 3 for item in items)
            assert {item.answer for item in items} == {1, 2, 3}

    def test_the_rubric_is_beside_them(self, sample):
        rubric = (sample / "RUBRIC.md").read_text(encoding="utf-8")
        assert all(f"{grade}" in rubric for grade in range(6))

    def test_no_sentence_is_in_train_and_test(self, sample):
        t1 = {part: read_t1(sample / f"t1-{part}.xml") for part in ("train", "test")}
        texts = {
            part: {normalize(text) for pair in t1[part] for text in (pair.source, pair.target)} for part in t1
        }
        assert sorted(texts["train"] & texts["test"]) == []
        t2 = {part: read_t2(sample / f"t2-{part}.xml") for part in ("train", "test")}
        texts = {
            part: {normalize(text) for item in t2[part] for text in (item.source, *item.targets)}
            for part in t2
        }
        assert sorted(texts["train"] & texts["test"]) == []

    def test_candidates_differ(self, sample):
        for part in ("train", "test"):
            for item in read_t2(sample / f"t2-{part}.xml"):
                texts = [normalize(text) for text in (item.source, *item.targets)]
                assert len(set(texts)) == len(texts), item.id
