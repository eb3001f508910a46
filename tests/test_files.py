"""Nothing half-written stays behind, and what cannot be read or written is named."""

import errno
import gzip
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from deft import files
from deft.errors import GateError, InputError
from deft.files import atomic_folder, atomic_write, read_json, read_text, sha256, write_json

needs_posix = pytest.mark.skipif(os.name != "posix", reason="links and pipes are those of POSIX")


@contextmanager
def no_room(size):
    """Let no file grow beyond a size."""
    resource = pytest.importorskip("resource", reason="this system sets no limits")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def write(path, text, *, error=None):
    with atomic_write(path) as stream:
        stream.write(text)
        if error is not None:
            raise error


def fill(path, text, *, error=None, **options):
    with atomic_folder(path, **options) as folder:
        (folder / "a").write_text(text)
        if error is not None:
            raise error


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class TestMessages:
    def test_every_part_has_its_place(self):
        error = InputError("is odd.", path="a.tsv", line=3, field="grade", remedy="Mend it.")
        assert str(error) == "a.tsv:3: field grade: is odd. Mend it."
        assert (error.path, error.line, error.field) == (Path("a.tsv"), 3, "grade")

    def test_parts_may_be_missing(self):
        assert str(InputError("is odd.")) == "is odd."
        assert str(InputError("is odd.", path="a")) == "a: is odd."
        assert str(InputError("is odd.", field="b")) == "field b: is odd."

    def test_exit_codes(self):
        assert (InputError.exit_code, GateError.exit_code) == (2, 1)


class TestAtomicWrite:
    def test_writes_text_as_it_is(self, tmp_path):
        with atomic_write(tmp_path / "new" / "a.txt") as stream:
            stream.write("été\r\n")
        assert (tmp_path / "new" / "a.txt").read_bytes() == "été\r\n".encode()
        assert names(tmp_path / "new") == ["a.txt"]

    def test_obeys_the_umask(self, tmp_path):
        old = os.umask(0o027)
        try:
            write_json(tmp_path / "a.json", 1)
        finally:
            os.umask(old)
        assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o640

    def test_an_error_leaves_the_old_file(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("old")
        with pytest.raises(ZeroDivisionError):
            write(path, "new" * 100_000, error=ZeroDivisionError())
        assert path.read_text() == "old"
        assert names(tmp_path) == ["a.txt"]

    @pytest.mark.parametrize("size", [1, 1_000_000])
    def test_full_disk(self, tmp_path, size):
        path = tmp_path / "a.txt"
        path.write_text("old")
        problem = r"a\.txt: cannot be written: File too large.*Check"
        with no_room(size // 2), pytest.raises(InputError, match=problem) as caught:
            write(path, "x" * size)
        assert caught.value.path == path
        assert path.read_text() == "old"
        assert names(tmp_path) == ["a.txt"]

    def test_folder_that_cannot_be_made(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match=r"file/a\.txt: cannot be written: File exists"):
            write_json(tmp_path / "file" / "a.txt", 1)

    def test_read_only_folder(self, tmp_path, monkeypatch):
        def refuse(self, *arguments, **options):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

        monkeypatch.setattr(Path, "open", refuse)
        with pytest.raises(InputError, match="cannot be written: Permission denied"):
            write_json(tmp_path / "a.json", 1)

    def test_a_folder_is_no_file(self, tmp_path):
        with pytest.raises(InputError, match="cannot be written: Is a directory"):
            write_json(tmp_path, 1)
        assert tmp_path.is_dir()

    def test_devices_are_written_to_and_not_replaced(self):
        with atomic_write(Path("/dev/null")) as stream:
            stream.write("x")
        assert Path("/dev/null").is_char_device()

    @needs_posix
    def test_a_link_stays_and_its_target_is_replaced(self, tmp_path):
        (tmp_path / "disk").mkdir()
        (tmp_path / "disk" / "a.txt").write_text("old")
        (tmp_path / "link").symlink_to(Path("disk") / "a.txt")
        (tmp_path / "link to link").symlink_to("link")
        (tmp_path / "dangling").symlink_to(tmp_path / "new" / "b.txt")
        write(tmp_path / "link to link", "new")
        write(tmp_path / "dangling", "new")
        assert (tmp_path / "disk" / "a.txt").read_text() == (tmp_path / "new" / "b.txt").read_text() == "new"
        assert names(tmp_path / "disk") == ["a.txt"]
        with pytest.raises(ZeroDivisionError):
            write(tmp_path / "link", "half", error=ZeroDivisionError())
        assert (tmp_path / "link").read_text() == "new"
        assert all((tmp_path / name).is_symlink() for name in ("link", "link to link", "dangling"))

    @needs_posix
    def test_planted_links_are_not_written_through(self, tmp_path, monkeypatch):
        (tmp_path / "precious").write_text("precious")
        monkeypatch.setattr(secrets, "token_hex", lambda size: "0" * 2 * size)
        for name in (".a.txt.part", ".a.txt.00000000.part"):
            (tmp_path / name).symlink_to(tmp_path / "precious")
        with pytest.raises(InputError, match=r"a\.txt: cannot be written: File exists"):
            write(tmp_path / "a.txt", "x")
        assert (tmp_path / "precious").read_text() == "precious"

    @needs_posix
    @pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
    def test_standard_output_is_written_to(self, tmp_path, name):
        if not Path(name).exists():
            pytest.skip(f"there is no {name} here")
        script = (
            "import sys; from pathlib import Path; from deft.files import atomic_write\n"
            "print('before')\n"
            f"with atomic_write(Path({name!r})) as stream: stream.write('é')\n"
            "print('after')\n"
        )
        run = partial(subprocess.run, [sys.executable, "-c", script], check=True)
        assert run(stdout=subprocess.PIPE).stdout.decode() == "before\néafter\n"
        path = tmp_path / "log"
        path.write_text("kept\n")
        with path.open("a") as stream:
            run(stdout=stream)
        assert path.read_text(encoding="utf-8") == "kept\nbefore\néafter\n"

    @needs_posix
    def test_a_named_pipe_is_written_to(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        reader = "import sys; print(open(sys.argv[1]).read())"
        command = [sys.executable, "-c", reader, str(tmp_path / "pipe")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            write(tmp_path / "pipe", "through")
            assert process.stdout.read() == "through\n"
        assert (tmp_path / "pipe").is_fifo()

    def test_leftovers_of_killed_processes_go_and_what_is_written_stays(self, tmp_path):
        for name in (".a.txt.0123abcd.part", ".a.txt.new.part", ".b.txt.0123abcd.part"):
            (tmp_path / name).write_text("half")
        (tmp_path / ".a.txt.ffffffff.part").mkdir()
        with atomic_write(tmp_path / "a.txt") as first:
            first.write("first")
            write(tmp_path / "a.txt", "second")
            assert (tmp_path / "a.txt").read_text() == "second"
        assert (tmp_path / "a.txt").read_text() == "first"
        assert names(tmp_path) == [".a.txt.ffffffff.part", ".a.txt.new.part", ".b.txt.0123abcd.part", "a.txt"]

    def test_a_system_without_file_locks(self, tmp_path, monkeypatch):
        monkeypatch.setattr(files, "fcntl", None)
        (tmp_path / ".a.txt.0123abcd.part").write_text("half")
        write(tmp_path / "a.txt", "x")
        assert names(tmp_path) == ["a.txt"]

    def test_a_target_that_is_in_use_for_a_moment(self, tmp_path, monkeypatch):
        """As on Windows, where a file cannot be replaced while someone reads it."""
        real, refusals = Path.replace, [PermissionError(errno.EACCES, "Access is denied")] * 2

        def replace(self, target):
            if refusals:
                raise refusals.pop()
            return real(self, target)

        monkeypatch.setattr(Path, "replace", replace)
        write(tmp_path / "a.txt", "x")
        assert (tmp_path / "a.txt").read_text() == "x"
        refusals += [PermissionError(errno.EACCES, "Access is denied")] * 9
        with pytest.raises(InputError, match="cannot be written: Access is denied"):
            write(tmp_path / "a.txt", "y")
        assert names(tmp_path) == ["a.txt"]


class TestAtomicFolder:
    @needs_posix
    @pytest.mark.parametrize("name", [".out.part", ".out.old"])
    def test_nothing_is_removed_through_a_planted_link(self, tmp_path, name):
        home = tmp_path / "home"
        home.mkdir()
        (home / "precious").write_text("")
        (tmp_path / name).symlink_to(home)
        with pytest.raises(InputError, match=rf"{name}: is in the way and is no folder\. Remove it"):
            fill(tmp_path / "out", "x")
        assert names(home) == ["precious"]
        assert names(tmp_path) == [name, "home"]

    @needs_posix
    def test_a_lock_is_not_made_through_a_planted_link(self, tmp_path):
        (tmp_path / "precious").write_text("precious")
        (tmp_path / ".out.lock").symlink_to(tmp_path / "precious")
        with pytest.raises(InputError, match="out: cannot be written"):
            fill(tmp_path / "out", "x")
        assert (tmp_path / "precious").read_text() == "precious"

    def test_of_two_writers_the_second_is_refused(self, tmp_path):
        with atomic_folder(tmp_path / "out") as folder:
            with pytest.raises(InputError, match=r"out: is being written by another process\. Wait"):
                fill(tmp_path / "out", "x")
            (folder / "a").write_text("first")
        assert (tmp_path / "out" / "a").read_text() == "first"
        assert names(tmp_path) == ["out"]

    def test_makes_and_replaces(self, tmp_path):
        fill(tmp_path / "deep" / "out", "1")
        fill(tmp_path / "deep" / "out", "2")
        assert (tmp_path / "deep" / "out" / "a").read_text() == "2"
        assert names(tmp_path / "deep") == ["out"]

    @pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
    def test_an_error_leaves_the_old_folder(self, tmp_path, error):
        fill(tmp_path / "out", "old")
        with pytest.raises(error):
            fill(tmp_path / "out", "new", error=error())
        assert (tmp_path / "out" / "a").read_text() == "old"
        assert names(tmp_path) == ["out"]

    def test_readers_see_the_old_folder_until_the_end(self, tmp_path):
        fill(tmp_path / "out", "old")
        with atomic_folder(tmp_path / "out") as folder:
            (folder / "a").write_text("new")
            assert (tmp_path / "out" / "a").read_text() == "old"
        assert (tmp_path / "out" / "a").read_text() == "new"

    def test_full_disk(self, tmp_path):
        fill(tmp_path / "out", "old")
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with pytest.raises(InputError, match=r"out: cannot be written: No space left on device\. Check"):
            fill(tmp_path / "out", "new", error=full)
        assert (tmp_path / "out" / "a").read_text() == "old"
        assert names(tmp_path) == ["out"]

    def test_leftovers_of_a_killed_build_go(self, tmp_path):
        for leftover in (".out.part", ".out.old"):
            (tmp_path / leftover).mkdir()
            (tmp_path / leftover / "junk").write_text("")
        (tmp_path / "out").mkdir()
        fill(tmp_path / "out", "new")
        assert names(tmp_path) == ["out"]
        assert names(tmp_path / "out") == ["a"]

    def test_killed_between_the_renames(self, tmp_path):
        (tmp_path / ".out.old").mkdir()
        (tmp_path / ".out.old" / "a").write_text("old")
        with pytest.raises(ZeroDivisionError):
            fill(tmp_path / "out", "new", error=ZeroDivisionError())
        assert (tmp_path / "out" / "a").read_text() == "old"
        assert names(tmp_path) == ["out"]

    def test_really_killed(self, tmp_path):
        fill(tmp_path / "out", "old")
        script = (
            "import sys, time; from pathlib import Path; from deft.files import atomic_folder\n"
            "with atomic_folder(Path(sys.argv[1])) as folder:\n"
            "    (folder / 'a').write_text('half'); time.sleep(60)\n"
        )
        with subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "out")]) as process:
            deadline = time.monotonic() + 30
            while not (tmp_path / ".out.part" / "a").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
        assert names(tmp_path) == [".out.lock", ".out.part", "out"]
        assert (tmp_path / "out" / "a").read_text() == "old"
        fill(tmp_path / "out", "new")
        assert names(tmp_path) == ["out"]

    def test_parent_that_is_a_file(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match="file/out: cannot be written"):
            fill(tmp_path / "file" / "out", "x")

    def test_a_file_is_not_replaced(self, tmp_path):
        (tmp_path / "out").write_text("precious")
        with pytest.raises(InputError, match=r"out: is a file, not a folder\. Choose another"):
            fill(tmp_path / "out", "x")
        assert (tmp_path / "out").read_text() == "precious"
        assert names(tmp_path) == ["out"]

    def test_a_folder_of_another_kind_is_not_replaced(self, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.tex").write_text("precious")
        with pytest.raises(
            InputError, match=r"out: holds other things .*no manifest\.json.*empty the folder"
        ):
            fill(tmp_path / "out", "x", marker="manifest.json")
        assert (tmp_path / "out" / "thesis.tex").read_text() == "precious"
        assert names(tmp_path) == ["out"]

    def test_what_counts_as_its_own(self, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / ".gitkeep").write_text("")
        fill(tmp_path / "out", "1", marker="a")
        fill(tmp_path / "out", "2", marker="a")
        assert (tmp_path / "out" / "a").read_text() == "2"

    def test_a_link_stays_a_link(self, tmp_path):
        (tmp_path / "disk").mkdir()
        (tmp_path / "out").symlink_to(tmp_path / "disk")
        fill(tmp_path / "out", "new")
        assert (tmp_path / "out").is_symlink()
        assert (tmp_path / "disk" / "a").read_text() == "new"

    @pytest.mark.parametrize("path", [".", "..", "/"])
    def test_places_that_are_never_a_result(self, tmp_path, monkeypatch, path):
        inside = tmp_path / "work" / "deep"
        inside.mkdir(parents=True)
        (inside / "precious").write_text("")
        monkeypatch.chdir(inside)
        with pytest.raises(InputError, match="holds other things"):
            fill(Path(path), "x", marker="manifest.json")
        assert (inside / "precious").exists()


class TestReading:
    @pytest.mark.parametrize("data", ["é\n".encode(), b"\xef\xbb\xbf" + "é\n".encode()])
    def test_utf8_with_or_without_mark(self, tmp_path, data):
        (tmp_path / "a").write_bytes(data)
        (tmp_path / "a.gz").write_bytes(gzip.compress(data))
        assert read_text(tmp_path / "a") == read_text(tmp_path / "a.gz") == "é\n"

    @pytest.mark.parametrize(
        ("encoding", "line", "likely"),
        [("latin-1", 2, "WINDOWS-1252"), ("utf-16", 1, "UTF-16"), ("utf-16-be", 1, "UTF-16")],
    )
    def test_other_encodings_are_named(self, tmp_path, encoding, line, likely):
        text = "terme\nfièvre\n" if encoding != "utf-16-be" else "\ufeffterme\nfièvre\n"
        (tmp_path / "a.csv").write_bytes(text.encode(encoding))
        with pytest.raises(InputError, match=rf"a\.csv:{line}: is not UTF-8\. Convert it.*iconv -f {likely}"):
            read_text(tmp_path / "a.csv")

    def test_lines_that_are_not_utf8_are_guessed_if_asked_for(self, tmp_path, caplog):
        lines = ["é\n".encode(), "fièvre\r\n".encode("cp1252"), "œil\n".encode(), b"10 \x80 l\x92os\n"]
        path = tmp_path / "a.csv"
        path.write_bytes(b"\xef\xbb\xbf" + b"".join(lines))
        assert read_text(path, mixed=True) == "é\nfièvre\r\nœil\n10 € l’os\n"
        (message,) = caplog.messages
        assert message == f"{path}: 2 lines are not UTF-8 and were read as Windows-1252: 2, 4."
        caplog.clear()
        path.write_bytes(b"\x8d\xe9\n" * 9)  # the first is no letter there either
        assert read_text(path, mixed=True) == "\ufffdé\n" * 9
        assert caplog.messages[0].endswith(
            "9 lines are not UTF-8 and were read as Windows-1252: 1, 2, 3, 4, 5 ...."
        )
        path.write_text("fièvre\n", encoding="utf-16")
        assert read_text(path, mixed=True) == "fièvre\n"
        with pytest.raises(InputError, match="is not UTF-8"):
            read_text(path)

    def test_whole_files_make_no_warning(self, tmp_path, caplog):
        (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + "é\n".encode())
        assert read_text(tmp_path / "a.csv", mixed=True) == "é\n"
        assert not caplog.messages

    def test_missing_or_broken(self, tmp_path):
        with pytest.raises(InputError, match="a: cannot be read: No such file"):
            read_text(tmp_path / "a")
        whole = gzip.compress(b"x" * 1000)
        broken = bytearray(whole)
        broken[15] ^= 0xFF
        for data in (whole[:-9], b"no gzip", bytes(broken)):
            (tmp_path / "a.gz").write_bytes(data)
            with pytest.raises(InputError, match=r"a\.gz: cannot be read: \S"):
                read_text(tmp_path / "a.gz")

    def test_json(self, tmp_path):
        write_json(tmp_path / "a.json", {"é": [1, None]})
        assert read_json(tmp_path / "a.json") == {"é": [1, None]}
        assert json.loads((tmp_path / "a.json").read_text()) == {"é": [1, None]}
        (tmp_path / "a.json").write_text('{\n"a": }')
        with pytest.raises(InputError, match=r"a\.json:2: is not valid JSON"):
            read_json(tmp_path / "a.json")

    def test_a_small_file_that_swells(self, tmp_path, monkeypatch):
        (tmp_path / "a.gz").write_bytes(gzip.compress(b"0" * 3_000_000))
        assert len(read_text(tmp_path / "a.gz", largest=3_000_000)) == 3_000_000
        with pytest.raises(
            InputError, match=r"a\.gz: holds more than 2 MiB, which is more than is read at once"
        ):
            read_text(tmp_path / "a.gz", largest=2_999_999)
        monkeypatch.setattr(files, "LARGEST_JSON", 2 << 20)
        with pytest.raises(InputError, match=r"a\.gz: holds more than 2 MiB"):
            read_json(tmp_path / "a.gz")

    @pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no /dev/zero here")
    def test_a_file_without_end(self):
        with pytest.raises(InputError, match="/dev/zero: holds more than 4 MiB"):
            read_text(Path("/dev/zero"), largest=4 << 20)

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("[" * 100_000, "is not valid JSON here: it is nested too deeply"),
            ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
            ("1" * 5000, r"is not valid JSON \(Exceeds the limit"),
            ('{"name": "\\ud800"}', "half a character"),
            ('{"\\uDFFF": 1}', "half a character"),
            ("", "is not valid JSON"),
        ],
    )
    def test_json_that_python_cannot_take(self, tmp_path, text, problem):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(InputError, match=rf"a\.json(:1)?: .*{problem}") as caught:
            read_json(tmp_path / "a.json")
        assert "\n" not in str(caught.value)

    def test_json_with_whole_characters(self, tmp_path):
        (tmp_path / "a.json").write_text('["\\ud83d\\ude00", "\\\\ud800"]')
        assert read_json(tmp_path / "a.json") == ["😀", "\\ud800"]
        (tmp_path / "a.json").write_bytes(b'["\xed\xa0\x80"]')
        with pytest.raises(InputError, match="is not UTF-8"):
            read_json(tmp_path / "a.json")

    def test_sha256(self, tmp_path):
        (tmp_path / "a").write_bytes(b"abc")
        assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
