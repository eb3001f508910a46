"""Building an index, and what is left when it fails."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from demo import ATOMS, TYPES, Atom, write_bundle, write_lines, write_umls

from deft.encoder.runtime import Encoder
from deft.encoder.settings import Settings, read_settings, write_settings
from deft.errors import InputError
from deft.index import vectors
from deft.index.build import add_lay_to_index, add_to_index, build_index, remove_from_index
from deft.index.dense import CODES, DenseIndex
from deft.index.lexical import LexicalIndex
from deft.index.manifest import Manifest
from deft.index.parts import Parts
from deft.index.releases import current_release
from deft.index.vectors import encode_to_folder
from deft.mapping.filters import ConceptFilter
from deft.mapping.mapper import TermMapper
from deft.terminology.concepts import Concepts
from deft.terminology.rrf import AtomFilter

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def index(built, tmp_path):
    """A copy of the index that may be changed."""
    (tmp_path / "place").mkdir()
    return shutil.copytree(built, tmp_path / "place" / "umls_index")


def answers(index):
    return TermMapper.open(index).map(["rhume", "crise cardiaque"], k=3)


def watch(monkeypatch):
    """Return the list of all texts that will be embedded."""
    embedded, real = [], Encoder.encode

    def encode(self, texts, **options):
        embedded.extend(texts)
        return real(self, texts, **options)

    monkeypatch.setattr(Encoder, "encode", encode)
    return embedded


def content(index):
    """Return what is in the folder of an index, and that nothing is beside it."""
    assert [path.name for path in index.parent.iterdir()] == [index.name]
    return sorted(path.name for path in index.iterdir())


def verify(index):
    release = current_release(index)
    Manifest.read(release).verify(release)


def test_the_folder_is_all_that_is_needed(built, tmp_path):
    moved = shutil.copytree(built, tmp_path / "elsewhere")
    assert answers(moved) == answers(built)
    assert answers(moved)[1].best.cui == "C0000003"


def test_rows_are_those_of_the_strings(built, bundle):
    strings = Concepts.open(current_release(built)).strings["string"].to_list()
    index = DenseIndex.open(current_release(built))
    rows, cosines = index.search(Encoder.open(bundle).encode(strings), 1)
    assert rows[:, 0].tolist() == list(range(len(strings)))
    np.testing.assert_allclose(cosines, 1, atol=1e-4)


def test_two_builds_are_the_same_but_for_nothing(built, umls, bundle, tmp_path):
    build_index(str(umls), str(bundle), str(tmp_path / "again"))
    assert Manifest.read(current_release(tmp_path / "again")) == Manifest.read(current_release(built))


def test_rows_of_the_lexical_index_are_those_of_the_strings(built):
    strings = Concepts.open(current_release(built)).strings["string"].to_list()
    index = LexicalIndex.open(current_release(built))
    assert len(index) == len(strings)
    assert [index.search(string, 1)[0].tolist() for string in strings] == [
        [row] for row in range(len(strings))
    ]


def test_retired_concepts_are_in_the_index_and_their_file_is_an_input(bundle, tmp_path, built):
    umls = write_umls(tmp_path / "umls")
    write_lines(umls / "MRCUI.RRF", ["C0000009|2020AA|SY|||C0000003|Y|"])
    manifest = build_index(umls, bundle, tmp_path / "i")
    assert set(manifest.inputs) == {"MRCONSO.RRF", "MRSTY.RRF", "MRDEF.RRF", "MRCUI.RRF", "lay LAYFR"}
    assert Concepts.open(current_release(tmp_path / "i")).current("C0000009") == ("C0000003",)
    assert "MRCUI.RRF" not in Manifest.read(current_release(built)).inputs
    assert Concepts.open(current_release(built)).current("C0000009") == ("C0000009",)


def test_the_kind_of_the_vector_index_can_be_chosen(bundle, tmp_path):
    atoms = [Atom(f"C{place:07d}", f"nom {place}") for place in range(40)]
    umls = write_umls(tmp_path / "umls", atoms, types=[(atom.cui, "T047") for atom in atoms])
    found = {}
    for kind in ("flat", "ivf"):
        assert build_index(umls, bundle, tmp_path / kind, kind=kind).kind == kind
        assert (current_release(tmp_path / kind) / CODES).exists() == (kind == "ivf")
        found[kind] = TermMapper.open(tmp_path / kind).map(["nom 7", "nom 12"])
    assert found["flat"] == found["ivf"]


LAY = (
    "cui\tphrase\trelation",
    "C0000003\tle palpitant en panne\texact",
    "C0000006\tj'ai le crâne en compote\tbroader",
    "C0000999\tun mal d'un autre monde\texact",
)


@pytest.fixture
def lay(tmp_path):
    return write_lines(tmp_path / "lay.tsv", LAY)


def said(index):
    (mapping,) = TermMapper.open(index).map(["j'ai le crâne en compote"], k=1)
    best = mapping.best
    return best.cui, best.matched, best.source, best.term_type, best.relation


def test_what_laypeople_say_is_in_the_index_by_its_own_source(umls, bundle, lay, built, tmp_path):
    index = tmp_path / "i"
    manifest = build_index(umls, bundle, index, lay=lay)
    plain = Manifest.read(current_release(built))
    assert manifest.rows == {**plain.rows, "strings": 17, "atoms": 18}
    assert said(index) == ("C0000006", "j'ai le crâne en compote", "LAYFR", "LAY", "broader")
    keep = ConceptFilter(without_sources=("LAYFR",))
    assert TermMapper.open(index).map(["rhume", "crise cardiaque"], k=3, keep=keep) == answers(built)
    assert build_index(umls, bundle, index, lay=None).rows == plain.rows
    assert build_index(umls, bundle, index, AtomFilter(languages=("ENG",)), lay=lay).rows["strings"] == 5


def test_phrases_of_ones_own_are_added_and_take_the_place_of_their_former_version(
    umls, bundle, lay, tmp_path
):
    index, own = tmp_path / "i", tmp_path / "own.tsv"
    rows = build_index(umls, bundle, index).rows
    assert add_lay_to_index(index, lay, "LAYHUG").rows["strings"] == rows["strings"] + 2
    assert said(index)[2:] == ("LAYHUG", "LAY", "broader")
    write_lines(own, LAY[:2])
    manifest = add_lay_to_index(index, own, "LAYHUG")
    assert manifest.rows["strings"] == rows["strings"] + 1
    assert "lay LAYHUG" in manifest.inputs
    again = add_to_index(index, umls)  # what was added stays when a release comes in
    assert again.rows == manifest.rows
    for source in ("LAYFR", "LAY|HUG", "", "lay hug"):
        with pytest.raises(InputError, match="cannot be the source of phrases of one's own"):
            add_lay_to_index(index, own, source)
    with pytest.raises(InputError, match="has names of the source DEMO, which are no phrases"):
        add_lay_to_index(index, own, "DEMO")


def test_filters_are_recorded(umls, bundle, tmp_path):
    manifest = build_index(umls, bundle, tmp_path / "i", AtomFilter(languages=("ENG",)))
    assert manifest.filters["languages"] == ("ENG",)
    assert Manifest.read(current_release(tmp_path / "i")).rows == {"strings": 5, "atoms": 5, "concepts": 5}
    assert all(mapping.best.language == "ENG" for mapping in answers(tmp_path / "i"))


def test_stored_vectors_give_the_same_index(built, umls, bundle, tmp_path):
    encoder = Encoder.open(bundle)
    encode_to_folder(["rhume", "heart", "not in it"], encoder, tmp_path / "vectors")
    build_index(umls, bundle, tmp_path / "i", vectors=tmp_path / "vectors")
    assert answers(tmp_path / "i") == answers(built)


def test_stored_vectors_of_another_encoder(umls, bundle, tmp_path):
    other = write_bundle(tmp_path / "other", seed=1)
    encode_to_folder(["rhume"], Encoder.open(other), tmp_path / "vectors")
    with pytest.raises(InputError, match="made by another encoder"):
        build_index(umls, bundle, tmp_path / "i", vectors=tmp_path / "vectors")
    assert not (tmp_path / "i").exists()


def test_a_new_build_replaces_the_old_index(index, bundle, tmp_path):
    umls = write_umls(tmp_path / "umls", ATOMS[:3])
    build_index(umls, bundle, index)
    assert Manifest.read(current_release(index)).rows["concepts"] == 1
    assert content(index) == ["current", "release-2"]


def test_an_index_can_be_built_again_with_its_own_encoder(index, umls, built):
    build_index(umls, current_release(index) / "encoder", index)
    assert Manifest.read(current_release(index)) == Manifest.read(current_release(built))


FAILURES = {
    "tables": (Concepts, "save"),
    "vectors": (vectors, "write_vectors"),
    "codes": (DenseIndex, "save_codes"),
    "lexical": (LexicalIndex, "save"),
    "copy": (shutil, "copyfile"),
    "manifest": (Manifest, "write"),
}


@pytest.mark.parametrize("place", FAILURES)
def test_a_full_disk_anywhere_is_an_input_error_and_the_old_index_answers(
    index, built, umls, bundle, monkeypatch, place
):
    def fail(*arguments, **options):
        raise FULL

    with monkeypatch.context() as patch:
        patch.setattr(*FAILURES[place], fail)
        with pytest.raises(InputError, match=r"umls_index: cannot be written: No space left.*choose another"):
            build_index(umls, bundle, index)
    assert answers(index) == answers(built)
    begun = place not in ("tables", "vectors")  # what was embedded is kept for the next time
    assert content(index) == ["current", "release-1", *["release-2"] * begun]
    build_index(umls, bundle, index)
    assert content(index) == ["current", "release-2"]
    verify(index)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_build(index, built, umls, bundle, monkeypatch, error):
    def fail(*arguments, **options):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Concepts, "save", fail)
        with pytest.raises(error):
            build_index(umls, bundle, index)
    assert answers(index) == answers(built)
    assert content(index) == ["current", "release-1"]


KILLED = """
import os, signal, sys
from deft.index import build, dense, releases, vectors
from deft.index.lexical import LexicalIndex
from pathlib import Path

def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

place, *arguments = sys.argv[1:]
if place == "tables":
    build.Concepts.save = die
elif place == "embedding":
    real = vectors.quantize_vectors
    vectors._STRINGS, calls = 4, []
    vectors.quantize_vectors = lambda values: die() if len(calls) == 2 else calls.append(1) or real(values)
elif place == "training":
    dense.DenseIndex.build = die
elif place == "lexical":
    LexicalIndex.save = die
elif place == "manifest":
    build.Manifest.write = die
elif place == "half a manifest":
    Path.replace = lambda self, target: die() if target.name == "manifest.json" else os.replace(self, target)
elif place == "before the switch":
    Path.replace = lambda self, target: die() if target.name == "current" else os.replace(self, target)
elif place == "after the switch":
    Path.replace = lambda self, target: os.replace(self, target) or target.name == "current" and die()
elif place == "cleaning":
    releases._remove_others = lambda folder: os.unlink(folder.parent / "release-1" / "vectors.npy") or die()
build.build_index(*arguments)
"""

SWITCHED = ["after the switch", "cleaning"]
PLACES = [
    *("tables", "embedding", "training", "lexical", "manifest", "half a manifest", "before the switch"),
    *SWITCHED,
]


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_build_goes_on_and_the_old_index_answers(index, built, umls, bundle, place, monkeypatch):
    command = [sys.executable, "-c", KILLED, place, str(umls), str(bundle), str(index)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert current_release(index).name == ("release-2" if place in SWITCHED else "release-1")
    assert answers(index) == answers(built)
    verify(index)
    add_again = remove_from_index(shutil.copytree(index, index.parent / "copy"), cuis=["C0000003"])
    assert add_again.rows["concepts"] == 5  # what was left does not stand in the way of something else
    shutil.rmtree(index.parent / "copy")
    embedded = watch(monkeypatch)
    monkeypatch.setattr(vectors, "_STRINGS", 4)
    build_index(umls, bundle, index)
    assert content(index) == ["current", "release-3" if place in SWITCHED else "release-2"]
    assert Manifest.read(current_release(index)) == Manifest.read(current_release(built))
    verify(index)
    assert len(embedded) == {"tables": 15, "embedding": 7, **dict.fromkeys(SWITCHED, 15)}.get(place, 0)


def test_of_two_builds_into_one_folder_the_second_is_refused(index, umls, bundle, built, monkeypatch):
    real = LexicalIndex.save

    def meanwhile(self, folder):
        with pytest.raises(InputError, match=r"umls_index: is being written by another process\. Wait"):
            build_index(umls, bundle, index)
        return real(self, folder)

    monkeypatch.setattr(LexicalIndex, "save", meanwhile)
    build_index(umls, bundle, index)
    assert Manifest.read(current_release(index)) == Manifest.read(current_release(built))


def test_another_build_does_not_go_on_with_what_it_finds(index, umls, bundle, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(LexicalIndex, "save", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build_index(umls, bundle, index)
    assert content(index) == ["current", "release-1", "release-2"]
    assert build_index(umls, bundle, index, AtomFilter(languages=("ENG",))).rows["strings"] == 5
    assert content(index) == ["current", "release-2"]


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("std::bad_alloc"), RuntimeError("Failed to allocate memory for 9")]
)
def test_short_of_memory(index, built, umls, bundle, monkeypatch, error):
    def fail(*arguments, **options):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(DenseIndex, "build", fail)
        with pytest.raises(InputError, match=r"memory is short .*Lower --memory or --threads"):
            build_index(umls, bundle, index)
    assert answers(index) == answers(built)


LIMITED = """
import resource, sys
from deft.index.build import build_index
from deft.errors import InputError
import deft.index.dense, deft.index.build
real = deft.index.build.DenseIndex.build

def limited(vectors, **options):
    import numpy as np
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)
    np.ones(1 << 28)  # as a sample of a great index would
    return real(vectors, **options)

deft.index.build.DenseIndex.build = limited
try:
    build_index(*sys.argv[1:])
except InputError as error:
    sys.exit(f"refused: {error}")
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's account of memory")
def test_a_limit_of_memory_that_the_system_sets(index, built, umls, bundle):
    command = [sys.executable, "-c", LIMITED, str(umls), str(bundle), str(index)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert "refused: memory is short" in done.stderr
    assert answers(index) == answers(built)


@pytest.mark.parametrize("name", ["vectors.npy", "atoms.arrow", "lexical_postings.npy"])
def test_flipped_bits_are_found_by_verifying_and_a_short_file_on_opening(index, name):
    path = current_release(index) / name
    data = bytearray(path.read_bytes())
    data[-5] ^= 16
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"{name}: does not have the checksum"):
        verify(index)
    path.write_bytes(data[:-1])
    with pytest.raises(InputError, match=f"{name}: has .* bytes, not .*cut short"):
        TermMapper.open(index)


MORE = [
    Atom("C0000001", "refroidissement", source="LOCAL"),
    Atom("C0000001", "rhume", source="LOCAL", term_type="SY", preferred=False),
    Atom("C0000042", "zona", source="LOCAL"),
    Atom("C0000042", "herpes zoster", "ENG", source="LOCAL"),
]


def test_what_is_added_gives_the_index_of_a_fresh_build(index, umls, bundle, tmp_path, monkeypatch):
    more = write_umls(tmp_path / "more", MORE, types=[("C0000042", "T047"), ("C0000001", "T184")])
    types = [*TYPES, ("C0000042", "T047"), ("C0000001", "T184")]
    both = write_umls(tmp_path / "both", [*ATOMS, *MORE], types=types)
    build_index(both, bundle, tmp_path / "fresh")
    embedded = watch(monkeypatch)
    manifest = add_to_index(index, more)
    assert sorted(embedded) == ["herpes zoster", "refroidissement", "zona"]
    fresh = Manifest.read(current_release(tmp_path / "fresh"))
    assert manifest.files == fresh.files
    assert manifest.rows == fresh.rows
    assert "added more/MRCONSO.RRF" in manifest.inputs


def test_what_is_removed_gives_the_index_of_a_fresh_build(index, bundle, tmp_path, monkeypatch):
    rest = [atom for atom in ATOMS if atom.cui != "C0000003"]
    kept = {atom.cui for atom in rest}
    fewer = write_umls(tmp_path / "fewer", rest, types=[each for each in TYPES if each[0] in kept])
    fresh = build_index(fewer, bundle, tmp_path / "fresh")
    monkeypatch.setattr(Encoder, "encode", lambda self, texts, **options: 1 / 0)
    manifest = remove_from_index(index, cuis=["C0000003"])
    assert manifest.files == fresh.files
    assert manifest.filters["removed"] == [{"cuis": ["C0000003"], "sources": []}]
    assert Manifest.read(current_release(index)) == manifest


def test_what_was_fitted_and_tuned_is_kept_and_harms_nothing(index, umls, bundle):
    (index / "mapping.json").write_text("its own")
    write_settings(current_release(index) / "encoder", {"plain": Settings(block_tokens=99)})
    verify(index)
    assert Parts.open(current_release(index)).dense.kind == "flat"
    for change in (
        lambda: remove_from_index(index, cuis=["C0000003"]),
        lambda: add_to_index(index, umls),
    ):
        assert "encoder/runtime.json" not in change().files
        assert (index / "mapping.json").read_text() == "its own"
        assert read_settings(current_release(index) / "encoder")["plain"].block_tokens == 99
        verify(index)
    build_index(umls, bundle, index)
    assert content(index) == ["current", "mapping.json", "release-4"]


def test_what_is_being_written_is_not_listed(index, umls, bundle, monkeypatch):
    real = LexicalIndex.save

    def litter(self, folder):
        real(self, folder)
        (folder / ".manifest.json.part").write_text("")
        (folder / ".spill").mkdir()
        (folder / ".spill" / "tmp").write_text("")

    monkeypatch.setattr(LexicalIndex, "save", litter)
    manifest = build_index(umls, bundle, index)
    assert not [name for name in manifest.files if "part" in name or "spill" in name]


def test_an_interrupted_addition_with_another_filter_is_another_job(index, tmp_path, monkeypatch):
    more = write_umls(tmp_path / "more", MORE, types=[("C0000042", "T047"), ("C0000001", "T184")])
    with monkeypatch.context() as patch:
        patch.setattr(LexicalIndex, "save", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            add_to_index(index, more)
    assert content(index) == ["current", "release-1", "release-2"]
    assert add_to_index(index, more, AtomFilter(languages=("ENG",))).rows["strings"] == 16


def test_a_damaged_index_is_not_changed(index, umls):
    path = current_release(index) / "vectors.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    for change in (lambda: remove_from_index(index, cuis=["C0000003"]), lambda: add_to_index(index, umls)):
        with pytest.raises(InputError, match=r"vectors\.npy: does not have the checksum"):
            change()


def test_removing_what_is_not_there_or_everything_changes_nothing(index, built):
    for cuis, sources, problem in (
        (["C0000099"], [], r"has no atom of C0000099\. Nothing was changed"),
        (["C0000099", "C0000001"], ["LOCAL"], r"has no atom of C0000099, LOCAL\. Nothing was changed"),
        ([], [], "give a concept or a source to take out"),
        (["X0000001"], [], r"field cui: expected a CUI such as C0012569, found 'X0000001'"),
        (["C1"], [], "found 'C1'"),
        (["abc"], [], "found 'abc'"),
    ):
        with pytest.raises(InputError, match=problem):
            remove_from_index(index, cuis=cuis, sources=sources)
    with pytest.raises(InputError, match="no atom is left"):
        remove_from_index(index, sources={atom.source for atom in ATOMS})
    assert Manifest.read(current_release(index)) == Manifest.read(current_release(built))
    assert content(index) == ["current", "release-1"]


def test_a_new_release_embeds_only_new_strings(index, bundle, tmp_path, monkeypatch):
    release = write_umls(tmp_path / "new", [*ATOMS[2:], *MORE])
    fresh = build_index(release, bundle, tmp_path / "fresh")
    embedded = watch(monkeypatch)
    assert build_index(release, bundle, index, vectors=index) == fresh
    assert sorted(embedded) == ["herpes zoster", "refroidissement", "zona"]


def test_bad_input_leaves_nothing(umls, bundle, tmp_path):
    out = tmp_path / "place" / "i"
    with pytest.raises(InputError, match="no such encoder folder"):
        build_index(umls, tmp_path / "absent", out)
    with pytest.raises(InputError, match=r"no MRCONSO\.RRF"):
        build_index(tmp_path, bundle, out)
    with pytest.raises(InputError, match="no atom with language XXX"):
        build_index(umls, bundle, out, AtomFilter(languages=("XXX",)))
    assert not out.parent.exists()


def test_a_folder_that_is_no_index_is_not_replaced(umls, bundle, tmp_path):
    (tmp_path / "notes.txt").write_text("precious")
    with pytest.raises(InputError, match=r"holds other things and is not replaced \(it has no current\)"):
        build_index(umls, bundle, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "precious"


def test_an_output_that_cannot_be_written(umls, bundle, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file/i: cannot be written"):
        build_index(umls, bundle, tmp_path / "file" / "i")
