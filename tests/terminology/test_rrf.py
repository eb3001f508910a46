"""UMLS Rich Release Format: what is read, what is kept, and which line is at fault."""

import gzip
import logging
import subprocess

import pytest
from demo import ATOMS, Atom, write_lines, write_umls
from hypothesis import given
from hypothesis import strategies as st

from deft.errors import InputError
from deft.terminology.rrf import (
    AtomFilter,
    find,
    read_atoms,
    read_definitions,
    read_retired,
    read_semantic_types,
)

fields = st.text(st.characters(codec="utf-8", exclude_characters="|\r\n"), max_size=30)
strings = fields.filter(str.strip).filter(lambda text: text.strip(" \t\x0b\x0c\x1c\x1d\x1e\x1f\x85"))


def conso(tmp_path, *lines, name="MRCONSO.RRF"):
    write_umls(tmp_path)
    (tmp_path / "MRCONSO.RRF").unlink()
    write_lines(tmp_path / name, lines)
    return tmp_path


GOOD = [atom.line() for atom in ATOMS]


class TestAtoms:
    def test_columns_and_order(self, umls):
        atoms = read_atoms(umls)
        assert list(atoms.columns) == [
            "cui",
            "language",
            "source",
            "term_type",
            "code",
            "string",
            "preferred",
        ]
        assert atoms["string"].to_list() == [atom.string for atom in ATOMS if atom.suppress == "N"]
        first = atoms.iloc[1].to_dict()
        assert first == {
            "cui": "C0000001",
            "language": "FRE",
            "source": "DEMO",
            "term_type": "SY",
            "code": "C0000001",
            "string": "coryza",
            "preferred": False,
        }
        assert atoms["preferred"].sum() == sum(atom.preferred for atom in ATOMS)

    @pytest.mark.parametrize(
        ("keep", "count"),
        [
            (AtomFilter(languages=("ENG",)), 5),
            (AtomFilter(languages=("FRE", "ENG")), 16),
            (AtomFilter(sources=("OTHER",)), 7),
            (AtomFilter(term_types=("SY",)), 2),
            (AtomFilter(languages=("FRE",), sources=("OTHER",)), 2),
            (AtomFilter(semantic_types=("T023",)), 2),
            (AtomFilter(semantic_types=("T023", "T033")), 5),
            (AtomFilter(semantic_groups=("PROC",)), 3),
            (AtomFilter(semantic_groups=("ANAT",), semantic_types=("T061",)), 5),
            (AtomFilter(suppressed=True), 17),
        ],
    )
    def test_filters(self, umls, keep, count):
        assert len(read_atoms(umls, keep)) == count

    def test_gzip_and_meta(self, tmp_path, umls):
        write_umls(tmp_path / "META", compressed=True)
        assert read_atoms(tmp_path).equals(read_atoms(umls))
        assert read_semantic_types(tmp_path).equals(read_semantic_types(umls))
        assert read_definitions(tmp_path).equals(read_definitions(umls))

    def test_plain_comes_before_gzip(self, tmp_path):
        write_umls(tmp_path, compressed=True)
        write_umls(tmp_path, ATOMS[:1])
        assert find(tmp_path, "MRCONSO.RRF").name == "MRCONSO.RRF"
        assert len(read_atoms(tmp_path)) == 1

    @given(st.lists(st.tuples(strings, fields), min_size=1, max_size=5), st.booleans())
    def test_any_string_survives(self, tmp_path, rows, compressed):
        atoms = [Atom("C0000001", text, source=source) for text, source in rows]
        folder = write_umls(tmp_path / ("gz" if compressed else "plain"), atoms, compressed=compressed)
        frame = read_atoms(folder)
        assert list(zip(frame["string"], frame["source"], strict=True)) == rows

    def test_no_quoting_and_no_missing_values(self, tmp_path):
        texts = ['"', "'a", "\\", "NA", "null", "nan", '5\'-"x"', "\ufeff", "a" * 10_000]
        frame = read_atoms(write_umls(tmp_path, [Atom("C0000001", text) for text in texts]))
        assert frame["string"].to_list() == texts

    def test_line_ends_byte_order_mark_and_blank_lines(self, tmp_path):
        conso(tmp_path)
        data = "\ufeff" + "\r\n".join(GOOD[:2]) + "\r\n\r\n" + GOOD[2]
        (tmp_path / "MRCONSO.RRF").write_bytes(data.encode())
        assert read_atoms(tmp_path)["string"].to_list() == ["rhume", "coryza", "common cold"]

    def test_progress_goes_to_standard_error(self, umls, capsys):
        read_atoms(umls, progress=True)
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "MRCONSO.RRF" in captured.err


class TestBadLines:
    @pytest.mark.parametrize("name", ["MRCONSO.RRF", "MRCONSO.RRF.gz"])
    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            (GOOD[0][:20], "expected 18 fields and a trailing bar, found . bars. Is the download whole"),
            (GOOD[0][:-1], "expected 18 fields and a trailing bar, found 17 bars"),
            (GOOD[0] + "|", "found 19 bars"),
            (GOOD[0] + "x", "the line does not end with a bar"),
            ("CUI,LAT,TS", "found 0 bars"),
            (GOOD[0].replace("rhume", "  "), "field STR: is empty, found '  '"),
            (GOOD[0].replace("C0000001", "C001", 1), "field CUI: expected C and seven digits, found 'C001'"),
            (GOOD[0].replace("C0000001", "", 1), "field CUI: expected C and seven digits, found ''"),
        ],
    )
    def test_the_line_is_named(self, tmp_path, name, line, problem):
        folder = conso(tmp_path, GOOD[0], GOOD[1], line, GOOD[2], name=name)
        with pytest.raises(InputError, match=problem) as caught:
            read_atoms(folder)
        assert caught.value.line == 3
        assert caught.value.path == tmp_path / name
        assert caught.value.remedy

    def test_cut_in_the_middle_of_the_last_line(self, tmp_path):
        folder = conso(tmp_path, *GOOD)
        path = folder / "MRCONSO.RRF"
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(InputError, match=rf"MRCONSO\.RRF:{len(GOOD)}: expected 18 fields"):
            read_atoms(folder)

    def test_cut_gzip(self, tmp_path):
        folder = conso(tmp_path, *GOOD * 300, name="MRCONSO.RRF.gz")
        path = folder / "MRCONSO.RRF.gz"
        for keep in (-4, -200, 5):
            path.write_bytes(gzip.compress("".join(f"{line}\n" for line in GOOD * 300).encode())[:keep])
            with pytest.raises(InputError, match=r"MRCONSO\.RRF\.gz: cannot be read.*Is the download whole"):
                read_atoms(folder)

    def test_flipped_bits_in_gzip(self, tmp_path):
        folder = conso(tmp_path, *GOOD * 300, name="MRCONSO.RRF.gz")
        path = folder / "MRCONSO.RRF.gz"
        data = bytearray(path.read_bytes())
        for place in (0, len(data) // 2, len(data) - 6):
            broken = data.copy()
            broken[place] ^= 0x55
            path.write_bytes(broken)
            with pytest.raises(InputError, match=r"MRCONSO\.RRF\.gz"):
                read_atoms(folder)

    @pytest.mark.parametrize(("encoding", "line"), [("latin-1", 9), ("utf-16", 1)])
    def test_encodings(self, tmp_path, encoding, line):
        folder = conso(tmp_path)
        text = "".join(f"{atom.line()}\n" for atom in ATOMS).replace("œ", "é")
        (folder / "MRCONSO.RRF").write_bytes(text.encode(encoding))
        with pytest.raises(InputError, match=r"is not UTF-8\. RRF files are UTF-8: convert it") as caught:
            read_atoms(folder)
        assert caught.value.line == line

    def test_empty_files(self, tmp_path):
        with pytest.raises(InputError, match=r"MRCONSO\.RRF: cannot be read: Empty"):
            read_atoms(conso(tmp_path))
        with pytest.raises(InputError, match=r"MRCONSO\.RRF: holds nothing but blank lines"):
            read_atoms(conso(tmp_path, "", ""))

    def test_missing_files(self, tmp_path):
        with pytest.raises(
            InputError, match=r"no MRCONSO\.RRF \(or MRCONSO\.RRF\.gz\) here\. Give the folder"
        ):
            read_atoms(tmp_path / "nowhere")
        write_umls(tmp_path)
        (tmp_path / "MRSTY.RRF").unlink()
        with pytest.raises(InputError, match=r"no MRSTY\.RRF"):
            read_atoms(tmp_path, AtomFilter(semantic_types=("T047",)))


class TestEmptyResults:
    @pytest.mark.parametrize(
        ("keep", "field", "problem"),
        [
            (AtomFilter(languages=("fre",)), "LAT", "no atom with language fre. It holds ENG, FRE"),
            (
                AtomFilter(sources=("MSH", "MSHFRE")),
                "SAB",
                "no atom with source MSH, MSHFRE. It holds DEMO, OTHER",
            ),
            (AtomFilter(term_types=("XX",)), "TTY", "no atom with term type XX. It holds PT, SY"),
            (
                AtomFilter(semantic_types=("T999",)),
                None,
                "no concept has the semantic type T999. It holds T023, T033",
            ),
            (
                AtomFilter(semantic_groups=("DISEASE",)),
                None,
                "no semantic group is called DISEASE. The groups are ACTI",
            ),
            (AtomFilter(semantic_groups=("GENE",)), None, "no atom passes the filter. Ask for more"),
            (AtomFilter(sources=("OTHER",), term_types=("SY",)), None, "no atom passes the filter"),
        ],
    )
    def test_the_reason_is_named(self, umls, keep, field, problem):
        with pytest.raises(InputError, match=problem) as caught:
            read_atoms(umls, keep)
        assert caught.value.field == field

    def test_everything_suppressed(self, tmp_path):
        with pytest.raises(InputError, match="or keep suppressed atoms"):
            read_atoms(write_umls(tmp_path, [Atom("C0000001", "a", suppress="O")]))

    def test_one_unknown_value_among_others_is_a_warning(self, umls, caplog):
        with caplog.at_level(logging.WARNING):
            assert len(read_atoms(umls, AtomFilter(languages=("ENG", "FRA")))) == 5
        assert "no atom with language FRA. It holds ENG, FRE." in caplog.text


class TestOtherFiles:
    def test_semantic_types(self, umls):
        types = read_semantic_types(umls)
        assert types.iloc[-1].to_dict() == {"cui": "C0000006", "tui": "T033", "name": "name of T033"}

    def test_definitions_without_suppressed_ones(self, umls, tmp_path):
        assert read_definitions(umls).to_dict("list") == {
            "cui": ["C0000003"],
            "source": ["DEMO"],
            "definition": ["Nécrose d'une partie du muscle cardiaque."],
        }
        assert read_definitions(tmp_path).empty
        assert list(read_definitions(tmp_path).columns) == ["cui", "source", "definition"]

    def test_retired_concepts(self, tmp_path):
        assert read_retired(tmp_path).empty
        lines = ["C0000009|1995AA|SY|||C0000001|Y|", "C0000008|1995AA|DEL||||Y|"]
        write_lines(tmp_path / "MRCUI.RRF.gz", lines)
        assert read_retired(tmp_path).to_dict("list") == {
            "cui": ["C0000009", "C0000008"],
            "relation": ["SY", "DEL"],
            "target": ["C0000001", ""],
        }

    @pytest.mark.parametrize(
        ("read", "name", "line", "count"),
        [
            (read_semantic_types, "MRSTY.RRF", "C0000001|T047|A1|x|AT1|", 6),
            (read_definitions, "MRDEF.RRF", "C0000001|A1|AT1||DEMO|text|N|", 8),
            (read_retired, "MRCUI.RRF", "C0000001|1995AA|SY|||C0000001|Y", 7),
        ],
    )
    def test_bad_lines(self, tmp_path, read, name, line, count):
        write_lines(tmp_path / name, [line])
        with pytest.raises(InputError, match=rf"{name}:1: expected {count} fields and a trailing bar"):
            read(tmp_path)


class TestReleasesAsTheyCome:
    def test_parts_are_to_be_joined(self, tmp_path):
        meta = tmp_path / "META"
        meta.mkdir()
        for part in ("aa", "ab"):
            write_lines(meta / f"MRCONSO.RRF.{part}.gz", GOOD)
        with pytest.raises(
            InputError, match=r"MRCONSO.RRF is in 2 parts\. Join them: cat .*aa\.gz .*ab\.gz > "
        ) as caught:
            read_atoms(tmp_path)
        command = str(caught.value).partition("Join them: ")[2]
        subprocess.run(["sh", "-c", command], check=True)
        assert len(read_atoms(tmp_path)) == 2 * len([atom for atom in ATOMS if atom.suppress == "N"])

    @pytest.mark.parametrize("given", ["folder", "file"])
    def test_an_archive_is_to_be_unpacked(self, tmp_path, given):
        archive = tmp_path / "umls-2026AA-metathesaurus-full.zip"
        archive.write_bytes(b"PK")
        with pytest.raises(InputError, match=r"full\.zip: is the archive of a release\. Unpack it"):
            read_atoms(tmp_path if given == "folder" else archive)

    def test_a_retired_cui_leads_to_a_cui_or_nowhere(self, tmp_path):
        write_umls(tmp_path)
        good = ["C0000008|2018AA|SY|||C0000001|Y|", "C0000009|2018AA|DEL||||Y|"]
        write_lines(tmp_path / "MRCUI.RRF", good)
        assert read_retired(tmp_path)["target"].to_list() == ["C0000001", ""]
        write_lines(tmp_path / "MRCUI.RRF", [*good, "C0000010|2018AA|SY|||C12|Y|"])
        with pytest.raises(
            InputError, match=r"MRCUI\.RRF:3: field CUI2: expected a CUI or nothing, found 'C12'"
        ):
            read_retired(tmp_path)
