"""A made-up Metathesaurus: what is read back, what is the same twice, and what is refused."""

import gzip
import statistics

import pytest
from demo import Atom, write_umls

from deft.bench.make_umls import made_strings, make_umls
from deft.errors import InputError
from deft.terminology.rrf import AtomFilter, read_atoms, read_definitions, read_semantic_types
from deft.terminology.table_maker import read_concepts

STRINGS = 6000


@pytest.fixture(scope="module")
def words(root):
    """The sample's Metathesaurus."""
    return root / "data" / "sample" / "umls"


@pytest.fixture(scope="module")
def made(words, tmp_path_factory):
    """A made-up Metathesaurus with what was said of it."""
    folder = tmp_path_factory.mktemp("made") / "umls"
    return folder, make_umls(STRINGS, folder, vocabulary=words)


def test_the_reader_finds_what_was_written(made):
    folder, said = made
    atoms = read_atoms(folder)
    assert (len(atoms), atoms["cui"].nunique()) == (said.atoms, said.concepts)
    assert atoms["string"].nunique() == said.strings == STRINGS
    assert set(read_semantic_types(folder)["cui"]) == set(atoms["cui"])
    defined = read_definitions(folder)
    assert 0 < len(defined) < said.concepts / 20
    assert set(defined["cui"]) <= set(atoms["cui"])


def test_every_line_has_eighteen_fields_and_its_own_atom(made):
    lines = (made[0] / "MRCONSO.RRF").read_text(encoding="utf-8").splitlines()
    assert {line.count("|") for line in lines} == {18}
    assert len({line.split("|")[7] for line in lines}) == len(lines)


def test_a_concept_has_one_preferred_name_a_language(made):
    atoms = read_atoms(made[0])
    preferred = atoms[atoms["preferred"]].groupby(["cui", "language"]).size()
    assert (preferred == 1).all()
    assert len(preferred) == len(atoms.groupby(["cui", "language"]))


def test_strings_have_the_shape_of_real_ones(made):
    atoms = read_atoms(made[0])
    strings = atoms.drop_duplicates("string")
    assert 19 <= statistics.fmean(strings["string"].str.len()) <= 26
    assert 0.26 <= (strings["language"] == "FRE").mean() <= 0.34
    assert 3 <= len(strings) / strings["cui"].nunique() <= 5
    assert atoms["source"].nunique() >= 4
    assert 1.2 <= len(atoms) / len(strings) <= 1.3
    assert strings["string"].str.contains(" ").any()
    assert not strings["string"].str.contains(" ").all()


def test_an_index_can_be_made_of_it(made):
    concepts = read_concepts(made[0], AtomFilter(languages=("FRE",)))
    assert 0 < len(concepts.strings) < STRINGS


@pytest.mark.parametrize("compressed", [False, True])
def test_the_same_twice(words, tmp_path, compressed):
    for name in "ab":
        make_umls(500, tmp_path / name, vocabulary=words, compressed=compressed, seed=3)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == 3
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_compressed_is_the_same_text(words, tmp_path):
    make_umls(500, tmp_path / "plain", vocabulary=words)
    make_umls(500, tmp_path / "packed", vocabulary=words, compressed=True)
    packed = (tmp_path / "packed" / "MRCONSO.RRF.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "plain" / "MRCONSO.RRF").read_bytes()


def test_another_seed_gives_other_strings(words):
    one, other = (set(made_strings(500, words, seed=seed)) for seed in (1, 2))
    assert len(one) == len(other) == 500
    assert len(one & other) < 50


def test_strings_alone_are_those_of_the_files(words, tmp_path, monkeypatch):
    monkeypatch.setattr("deft.bench.make_umls._CHUNK", 500)  # several chunks
    make_umls(1800, tmp_path / "umls", vocabulary=words)
    assert made_strings(1800, words) == list(dict.fromkeys(read_atoms(tmp_path / "umls")["string"]))


def test_too_few_words_are_refused(tmp_path):
    tiny = write_umls(tmp_path / "tiny", [Atom("C0000001", "rhume"), Atom("C0000001", "cold", "ENG")])
    with pytest.raises(InputError, match="distinct"):
        make_umls(2_000_000, tmp_path / "out", vocabulary=tiny)
    assert not (tmp_path / "out").exists()


def test_a_vocabulary_of_one_language_is_refused(tmp_path):
    french = write_umls(tmp_path / "french", [Atom("C0000001", "rhume")])
    with pytest.raises(InputError, match="no English or no French"):
        made_strings(10, french)


def test_no_string_is_refused(words, tmp_path):
    with pytest.raises(InputError, match="1 or more"):
        make_umls(0, tmp_path / "out", vocabulary=words)
