"""Releases that do not change, and one step from one to the next."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from demo import ATOMS, TYPES, write_umls

from deft.errors import InputError
from deft.index.build import build_index, remove_from_index
from deft.index.manifest import Manifest
from deft.index.parts import Parts
from deft.index.releases import POINTER, current_release, new_release, open_release


def make(index, text, job="a", *, fail=None, **options):
    with new_release(index, {"job": job}, worth="first", **options) as folder:
        for name in ("first", "second"):
            (folder / name).write_text(text)
        if fail is not None:
            raise fail
    return folder


def read(folder):
    return [(folder / name).read_text() for name in ("first", "second")]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_each_release_takes_the_place_of_the_one_before(tmp_path):
    index = tmp_path / "deep" / "index"
    for number, text in enumerate(("one", "two", "three"), start=1):
        make(index, text, job=text)
        assert names(index) == [POINTER, f"release-{number}"]
        assert open_release(index, read) == [text] * 2
        assert names(current_release(index)) == ["first", "second"]
    assert json.loads((index / POINTER).read_text()) == {"release": "release-3"}


def test_a_link_to_an_index_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "index").symlink_to(tmp_path / "disk")
    make(tmp_path / "index", "one")
    make(tmp_path / "index", "two", base=current_release(tmp_path / "index"))
    assert (tmp_path / "index").is_symlink()
    assert open_release(tmp_path / "disk", read) == ["two", "two"]


def test_what_is_worth_while_is_kept_for_the_same_job(tmp_path, caplog):
    index = tmp_path / "index"
    with pytest.raises(ZeroDivisionError), new_release(index, {"job": "a"}, worth="first"):
        raise ZeroDivisionError
    assert not index.exists()
    with pytest.raises(KeyboardInterrupt):
        make(index, "one", fail=KeyboardInterrupt())
    assert "what was done is kept; the same command goes on from there" in caplog.text
    with pytest.raises(InputError, match=r"is no index \(it has no file `current`\)"):
        current_release(index)
    (index / "release-1" / ".half.part").write_text("")
    (index / "release-1" / ".spill").mkdir()
    (index / "release-1" / ".spill" / "x").write_text("")
    with new_release(index, {"job": "a"}, worth="first") as folder:
        assert read(folder) == ["one", "one"]
        assert names(folder) == [".deft-job.json", "first", "second"]
    with pytest.raises(KeyboardInterrupt):
        make(index, "two", fail=KeyboardInterrupt())
    with new_release(index, {"job": "b"}, worth="first") as folder:
        assert names(folder) == [".deft-job.json"]


def test_the_release_it_is_made_from_must_still_answer(tmp_path):
    old = make(tmp_path / "index", "one")
    make(tmp_path / "index", "two")
    with pytest.raises(InputError, match=r"index: was changed by another process meanwhile\. Run"):
        make(tmp_path / "index", "one and more", base=old)
    assert open_release(tmp_path / "index", read) == ["two", "two"]


def test_one_writer_at_a_time(tmp_path):
    with new_release(tmp_path / "index", {}, worth="x") as folder:
        with pytest.raises(InputError, match=r"index: is being written by another process\. Wait"):
            make(tmp_path / "index", "two")
        assert folder.is_dir()


def test_a_folder_of_someone_else_is_not_touched(tmp_path):
    for name in ("notes.txt", "release-1/song.ogg", ".lock"):
        folder = tmp_path / name.replace("/", "-")
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("precious")
        with pytest.raises(InputError, match=r"holds other things and is not replaced \(it has no current\)"):
            make(folder, "one")
        assert (folder / name).read_text() == "precious"
        assert len(names(folder)) == 1
    with pytest.raises(InputError, match="is a file, not a folder"):
        make(tmp_path / "notes.txt" / "notes.txt", "one")


def test_nothing_is_removed_through_a_link(tmp_path):
    index, home = tmp_path / "index", tmp_path / "home"
    home.mkdir()
    (home / "precious").write_text("")
    make(index, "one")
    (index / "release-2").symlink_to(home)
    (index / "release-7").symlink_to(home)
    with pytest.raises(InputError, match="cannot be written: File exists"):
        make(index, "two")
    (index / "release-2").unlink()
    make(index, "two")
    assert names(home) == ["precious"]


def test_an_index_of_an_earlier_version(tmp_path):
    index = tmp_path / "index"
    (index / "encoder").mkdir(parents=True)
    for name in ("manifest.json", "vectors.npy", "atoms.arrow", "codes.faiss", "encoder/model.onnx"):
        (index / name).write_text("{}")
    (index / "mapping.json").write_text("{}")
    with pytest.raises(InputError, match=r"of an earlier version of deft\. Build it again with `deft"):
        current_release(index)
    make(index, "one")
    assert names(index) == [POINTER, "mapping.json", "release-1"]


@pytest.mark.parametrize("text", ["[]", "{}", '{"release": "../x"}', '{"release": 1}', "{", "[" * 9999])
def test_a_damaged_pointer(tmp_path, text):
    index = tmp_path / "index"
    make(index, "one")
    (index / POINTER).write_text(text)
    with pytest.raises(InputError, match="current"):
        open_release(index, read)
    with pytest.raises(ZeroDivisionError):
        make(index, "two", fail=ZeroDivisionError())
    (index / POINTER).write_text('{"release": "release-1"}')  # what answered before is still there
    assert open_release(index, read) == ["one", "one"]
    (index / POINTER).write_text(text)
    make(index, "two")
    assert open_release(index, read) == ["two", "two"]


STEPS = {
    "made": "Path.mkdir = after(Path.mkdir, lambda path: path.name == 'release-2')",
    "noted": "Path.write_bytes = after(Path.write_bytes, lambda path: path.name == '.deft-job.json')",
    "filled": "Path.write_text = after(Path.write_text, lambda path: path.name == 'second')",
    "before the switch": "Path.replace = before(Path.replace, lambda path: True)",
    "after the switch": "Path.replace = after(Path.replace, lambda path: True)",
    "note removed": "Path.unlink = after(Path.unlink, lambda path: path.match('release-2/.deft-job.json'))",
    "old removed": "shutil.rmtree = after(shutil.rmtree, lambda path: path.name == 'release-1')",
}

KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from deft.index.releases import new_release

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def before(real, chosen):
    return lambda path, *rest, **options: die() if chosen(path) else real(path, *rest, **options)

def after(real, chosen):
    def call(path, *rest, **options):
        done = real(path, *rest, **options)
        if chosen(path):
            die()
        return done
    return call

exec(sys.argv[2])
with new_release(Path(sys.argv[1]), {"job": "b"}, worth="first") as folder:
    for name in ("first", "second"):
        (folder / name).write_text("two")
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
@pytest.mark.parametrize("job", ["b", "c"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("first", [True, False])
def test_killed_at_any_step(tmp_path, step, first, job):
    index = tmp_path / "index"
    if not first:
        make(index, "one")
    how = STEPS[step].replace("release-2", "release-1") if first else STEPS[step]
    done = subprocess.run([sys.executable, "-c", KILLED, str(index), how], check=False)
    if first and step == "old removed":
        assert done.returncode == 0
    else:
        assert done.returncode == -signal.SIGKILL
    switched = step in ("after the switch", "note removed", "old removed")
    if switched or not first:
        assert open_release(index, read) == ["two" if switched else "one"] * 2
    make(index, "three", job=job)
    assert open_release(index, read) == ["three", "three"]
    assert len(names(index)) == 2


def test_readers_see_one_release_while_many_follow_each_other(tmp_path, umls, built, bundle):
    """Whole indexes, of different sizes: half of one and half of another would not fit each other."""
    index, other = tmp_path / "index", tmp_path / "other"
    rest = [atom for atom in ATOMS if atom.cui != "C0000003"]
    kept = {atom.cui for atom in rest}
    fewer = write_umls(tmp_path / "fewer", rest, types=[each for each in TYPES if each[0] in kept])
    build_index(fewer, bundle, other)
    sources = [current_release(built), current_release(other)]
    faults, seen = [], []

    def swap(turns):
        for turn in turns:
            with new_release(index, {"turn": turn}, worth="vectors.npy") as folder:
                shutil.copytree(sources[turn % 2], folder, dirs_exist_ok=True)

    def look():
        while writer.is_alive():
            try:
                parts = open_release(index, Parts.open)
            except InputError as error:
                faults.append(error)
                continue
            strings = next(parts.concepts.all_strings())
            found = [parts.lexical.search(text, 1)[0].tolist() for text in strings]
            seen.append(len(strings))
            if found != [[row] for row in range(parts.manifest.rows["strings"])]:
                faults.append(strings)

    swap([0])
    writer = threading.Thread(target=swap, args=[range(1, 60)])
    readers = [threading.Thread(target=look) for _ in range(2)]
    for thread in (writer, *readers):
        thread.start()
    for thread in (writer, *readers):
        thread.join()
    assert not faults
    assert {Manifest.read(source).rows["strings"] for source in sources} == set(seen)
    assert len(seen) > 20


def test_a_reader_and_a_writer_in_processes_of_their_own(tmp_path):
    index = tmp_path / "index"
    make(index, "0")
    script = (
        "import sys; from pathlib import Path; from deft.index.releases import new_release\n"
        "for turn in range(1, 300):\n"
        "    with new_release(Path(sys.argv[1]), {'turn': turn}, worth='x') as folder:\n"
        "        [(folder / name).write_text(str(turn)) for name in ('first', 'second')]\n"
    )
    seen = set()
    with subprocess.Popen([sys.executable, "-c", script, str(index)]) as process:
        while process.poll() is None:
            first, second = open_release(index, read)
            assert first == second
            seen.add(first)
    assert process.returncode == 0
    assert len(seen) > 3


def test_a_release_that_cannot_be_removed_goes_next_time(tmp_path, monkeypatch):
    """As on Windows, where a file that someone has mapped stays."""
    real = os.unlink

    def refuse(path, **options):
        if Path(path).name == "first":
            raise PermissionError(13, "Permission denied")
        return real(path, **options)

    index = tmp_path / "index"
    make(index, "one")
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        make(index, "two")
    assert open_release(index, read) == ["two", "two"]
    assert names(index) == [POINTER, "release-1", "release-2"]
    make(index, "three")
    assert names(index) == [POINTER, "release-3"]


def test_an_update_of_what_has_changed_meanwhile_is_refused(tmp_path, built, umls, bundle, monkeypatch):
    from deft.index import build

    index = shutil.copytree(built, tmp_path / "index")
    real = build._build

    def meanwhile(*arguments, **options):
        with monkeypatch.context() as patch:
            patch.setattr(build, "_build", real)
            build_index(umls, bundle, index)
        return real(*arguments, **options)

    monkeypatch.setattr(build, "_build", meanwhile)
    with pytest.raises(InputError, match="changed by another process meanwhile"):
        remove_from_index(index, cuis=["C0000003"])
    assert Manifest.read(current_release(index)) == Manifest.read(current_release(built))
