"""The command line: what it prints where, and how it ends."""

import json
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from demo import ATOMS, write_bundle, write_umls
from typer.main import get_command

import deft
from deft.cli.app import app
from deft.config import Block
from deft.corpora.deft2020 import SentencePair, SentenceSet, write_t1, write_t2
from deft.errors import GateError
from deft.index.releases import current_release
from deft.mapping.fusion import EXPECTED_PRESENT

CANDIDATE = [
    *("rank", "cui", "name", "matched", "language", "source", "term_type", "semantic_types"),
    *("match", "cosine", "lexical", "score", "confidence", "relation"),
]


def commands(group=None, path=()):
    """Every command with its path."""
    for name, command in (group or get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield (*path, name), command
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def test_the_share_that_is_expected_is_the_same_everywhere():
    found = [
        option.default
        for _, command in commands()
        for option in command.params
        if option.name == "expected_present"
    ]
    assert found == [EXPECTED_PRESENT] * 3


@pytest.fixture
def lexicon(tmp_path):
    path = tmp_path / "lexicon.csv"
    path.write_text(
        'Terme,Explication au grand public,Sources,CUI\n"crise, cardiaque",x,y,C0000003\nrhume,x,y,C0000002\n'
        "crise cardiaque,x,y,C0000003\nrhume,x,y,C0000001;C0000002\n",
        encoding="utf-8-sig",
    )
    return path


class TestHelp:
    @pytest.mark.parametrize("path", [path for path, _ in commands()], ids=" ".join)
    def test_every_command_teaches_with_an_example(self, run, path, monkeypatch):
        monkeypatch.setenv("COLUMNS", "200")
        done = run(*path, "--help")
        assert done.code == 0
        assert f"Example: deft {' '.join(path)} " in " ".join(done.out.replace("│", " ").split())
        assert done.err == ""

    def test_the_whole(self, run):
        done = run("--help")
        assert done.code == 0
        for (name, *_), _ in commands():
            assert name in done.out
        assert "deft map 'crise cardiaque'" in " ".join(done.out.split())

    def test_version(self, run):
        done = run("--version")
        assert (done.code, done.out) == (0, f"{deft.__version__}\n")

    @pytest.mark.parametrize("arguments", [(), ("index",), ("score",), ("evaluate",), ("review",)])
    def test_nothing_asked_for(self, run, arguments):
        done = run(*arguments)
        assert "Usage" in done.out + done.err
        assert done.code in {0, 2}

    @pytest.mark.parametrize(
        "arguments",
        [
            ("nothing",),
            ("map", "a", "--format", "xml"),
            ("map", "a", "--top-k", "0"),
            ("map", "a", "--threshold", "2"),
            ("map", "a", "--min-confidence", "1.1"),
            ("map", "a", "--channel", "best"),
            ("explain",),
            ("explain", "a", "--top-k", "0"),
            ("review", "apply", "sheet.csv"),
            ("fit", "--wrong"),
            ("index", "add", "umls_index"),
            ("score", "t1"),
            ("--wrong",),
        ],
    )
    def test_usage_errors(self, run, arguments):
        done = run(*arguments)
        assert done.code == 2
        assert done.out == ""
        assert "Usage" in done.err


class TestMap:
    def test_a_table_by_default(self, run, built):
        done = run("map", "crise cardiaque", "rhume", "--index", built, "--top-k", 2)
        lines = done.out.splitlines()
        assert done.code == 0
        assert done.err == ""
        assert lines[0] == "crise cardiaque"
        rank, cui, confidence, match, *name = lines[1].split()
        assert (rank, cui, match, name[0]) == ("1", "C0000003", "exact", "infarctus")
        assert 0.5 < float(confidence) <= 1
        assert [line for line in lines if not line.startswith(" ")] == ["crise cardiaque", "rhume"]
        assert lines[4] == "  another concept carries the same string"

    def test_jsonl_has_one_line_for_every_row_in_order(self, run, built, lexicon):
        done = run(
            "map",
            "--input",
            lexicon,
            "--column",
            "Terme",
            "--index",
            built,
            "--top-k",
            3,
            "--format",
            "jsonl",
        )
        assert done.code == 0
        records = [json.loads(line) for line in done.out.splitlines()]
        assert [record["query"] for record in records] == [
            "crise, cardiaque",
            "rhume",
            "crise cardiaque",
            "rhume",
        ]
        for record in records:
            assert list(record) == [
                *("query", "ambiguous", "no_match", "note", "candidates", "row", "columns")
            ]
            assert [candidate["rank"] for candidate in record["candidates"]] == [1, 2, 3]
            assert all(list(candidate) == CANDIDATE for candidate in record["candidates"])
        assert records[2]["candidates"][0]["cui"] == "C0000003"
        assert [record.pop("row") for record in records] == [1, 2, 3, 4]
        assert records[1] == records[3]
        assert [record["ambiguous"] for record in records] == [False, True, False, True]

    def test_progress_is_on_standard_error(self, run, built, lexicon):
        done = run("map", "--input", lexicon, "--index", built)
        assert "3/3" in done.err  # distinct terms
        assert done.out.startswith("query\trank\tcui\t")
        assert len(done.out.splitlines()) == 1 + 4 * 5

    def test_output_and_threshold(self, run, built, lexicon, tmp_path):
        out = tmp_path / "deep" / "m.jsonl"
        done = run(
            "map",
            "--input",
            lexicon,
            "--index",
            built,
            "--format",
            "jsonl",
            "--output",
            out,
            "--threshold",
            0.999,
            "--channel",
            "dense",
        )
        assert (done.code, done.out) == (0, "")
        counts = [len(json.loads(line)["candidates"]) for line in out.read_text().splitlines()]
        assert counts[1:] == [2, 1, 2]

    @pytest.mark.parametrize("channel", ["fused", "dense", "lexical"])
    def test_channels_and_least_confidence(self, run, built, channel):
        arguments = ("map", "crise cardiaque", "--index", built, "--format", "jsonl", "--channel", channel)
        first, *_ = json.loads(run(*arguments).out)["candidates"]
        expected = {"fused": None, "dense": "cosine", "lexical": "lexical"}[channel]
        assert expected is None or first["score"] == first[expected]
        least = first["confidence"]
        assert json.loads(run(*arguments, "--min-confidence", least).out)["candidates"][0] == first
        done = run(*arguments, "--min-confidence", least + 1e-5)
        assert json.loads(done.out)["candidates"] == []
        table = run("map", "crise cardiaque", "--index", built, "--channel", channel, "--min-confidence", 1)
        assert table.out == "crise cardiaque\n  no match\n"

    def test_filters(self, run, built):
        arguments = ("map", "heart", "--index", built, "--format", "jsonl", "--top-k", 9)

        def found(*options):
            return json.loads(run(*arguments, *options).out)["candidates"]

        assert {row["language"] for row in found("--language", "ENG")} == {"ENG"}
        assert {row["source"] for row in found("--source", "DEMO", "--language", "FRE")} == {"DEMO"}
        assert {row["cui"] for row in found("--semantic-type", "T061")} == {"C0000005"}
        groups = ("--semantic-group", "ANAT", "--semantic-group", "PROC")
        assert {row["cui"] for row in found(*groups)} == {"C0000004", "C0000005"}
        done = run(*arguments, "--language", "fr")
        assert (done.code, done.out) == (2, "")
        assert done.err == "deft: the index has no language fr. It has ENG, FRE.\n"

    def test_a_group_for_each_term(self, run, built, tmp_path, caplog):
        (tmp_path / "t.csv").write_text("Terme,groupe\nheart,DISO\nheart,\nheart,ANAT\nheart,coeur\n ,ANAT\n")
        arguments = ("map", "--input", tmp_path / "t.csv", "--index", built, "--format", "jsonl")
        plain = [json.loads(line) for line in run(*arguments).out.splitlines()]
        done = run(*arguments, "--group-column", "groupe")
        diso, free, anat, unknown, empty = (json.loads(line) for line in done.out.splitlines())
        assert [row["cui"] for row in anat["candidates"]] == ["C0000004"]
        assert "C0000004" not in {row["cui"] for row in diso["candidates"]}
        assert free["candidates"] == unknown["candidates"] == plain[1]["candidates"]
        assert (empty["query"], empty["candidates"], empty["row"]) == ("", [], 5)
        assert "t.csv, line 5: there is no semantic group 'coeur'" in caplog.text
        assert "t.csv: 1 rows hold no term and have no match: lines 6." in caplog.text
        done = run(*arguments, "--group-column", "absent")
        assert (done.code, done.out) == (2, "")
        assert "no column 'absent'" in done.err

    @pytest.fixture
    def codes(self, tmp_path):
        path = tmp_path / "codes.csv"
        path.write_text(
            'sourceCode;sourceName;name\nD1;"rhume";=1\nD2;;x\nD3;NA;y\n\nD4;Na;z\nD1;rhume;w\n', "utf-8"
        )
        return path

    @pytest.mark.parametrize("keep", [False, True])
    def test_rows_join_back(self, run, built, codes, tmp_path, keep):
        arguments = ("map", "--input", codes, "--column", "sourceName", "--index", built, "--top-k", 2)
        options = ("--keep-columns",) if keep else ()
        done = run(*arguments, *options, "--format", "jsonl", "--review", tmp_path / "r.csv")
        records = [json.loads(line) for line in done.out.splitlines()]
        assert [record["row"] for record in records] == [1, 2, 3, 4, 5]
        assert [record["query"] for record in records] == ["rhume", "", "NA", "Na", "rhume"]
        assert [len(record["candidates"]) for record in records] == [2, 0, 0, 2, 2]
        assert {record["note"] for record in records[1:3]} == {"the cell holds no term"}
        assert [record["no_match"] for record in records[1:3]] == [1, 1]
        first = {"sourceCode": "D1", "sourceName": "rhume", "name": "=1"}
        assert records[0]["columns"] == (first if keep else {})
        kept = ["sourceCode", "sourceName", "row.name"] if keep else []
        table = pd.read_csv(tmp_path / "r.csv", sep=";", dtype=str, keep_default_na=False)
        assert [*table.columns][12:] == ["row", *kept]
        assert [*table["row"]] == ["1;5", "1;5", "2", "3", "4", "4"]
        run(*arguments, *options, "--format", "tsv", "--output", tmp_path / "m.tsv")
        table = pd.read_csv(tmp_path / "m.tsv", sep="\t", keep_default_na=False)
        assert [*table.columns][19:] == ["row", *kept]
        mine = pd.read_csv(codes, sep=";", keep_default_na=False)
        joined = table.join(mine, on=table["row"] - 1, rsuffix=".mine")
        assert [*joined["sourceCode"]] == ["D1", "D1", "D2", "D3", "D4", "D4", "D1", "D1"]
        sssom = run(*arguments, *options, "--format", "sssom").out.splitlines()
        header = next(line for line in sssom if not line.startswith("#")).split("\t")
        assert ("ext_sourceCode" in header, "ext_row" in header) == (keep, True)

    def test_what_was_written_is_read_again(self, run, built, codes, tmp_path):
        run("map", "- rhume", "=cœur", "--index", built, "--format", "tsv", "--output", tmp_path / "m.tsv")
        done = run(
            "map", "--input", tmp_path / "m.tsv", "--column", "query", "--index", built, "--format", "jsonl"
        )
        assert {json.loads(line)["query"] for line in done.out.splitlines()} == {"- rhume", "=cœur"}

    def test_columns_of_no_table(self, run, built):
        done = run("map", "rhume", "--keep-columns", "--index", built)
        assert (done.code, done.out) == (2, "")
        assert "terms have no columns to keep" in done.err

    def test_terms_that_begin_with_a_dash(self, run, built):
        options = ("--index", built, "--format", "jsonl", "--threshold", "-1")
        terms = ["- rhume", "-rhume", "-- rhume", "–rhume", "-"]
        done = run("map", *terms, *options)
        found = [json.loads(line) for line in done.out.splitlines()]
        assert (done.code, [record["query"] for record in found]) == (0, terms)
        assert [record["candidates"][0]["cui"] for record in found[:4]] == ["C0000001"] * 4
        done = run("map", *options, "--", "--rhume", "-k")
        assert [json.loads(line)["query"] for line in done.out.splitlines()] == ["--rhume", "-k"]
        assert run("explain", "- rhume", "--index", built).out.startswith("- rhume\n")

    @pytest.mark.parametrize("wrong", ["--top-K", "--formt=tsv", "-k", "--rhume"])
    def test_a_mistyped_option_is_no_term(self, run, built, wrong):
        done = run("map", "- rhume", wrong, "3", "--index", built)
        assert (done.code, done.out) == (2, "")
        assert "[--] TERM" in done.err
        assert "No such option" in done.err

    def test_sssom(self, run, built, tmp_path):
        done = run("map", "crise cardiaque", "zzz", "--index", built, "--format", "sssom", "--top-k", 2)
        assert done.code == 0
        header = next(line for line in done.out.splitlines() if not line.startswith("#")).split("\t")
        assert {"subject_label", "predicate_id", "object_id", "mapping_justification", "confidence"} <= {
            *header
        }
        assert "C0000003" in done.out
        out = tmp_path / "m.sssom.tsv"
        run(
            "map",
            "crise cardiaque",
            "zzz",
            "--index",
            built,
            "--format",
            "sssom",
            "--top-k",
            2,
            "--output",
            out,
        )
        assert out.read_text(encoding="utf-8") == done.out

    def test_what_sssom_says_about_itself(self, run, built):
        about = ("--mapping-set-id", "https://example.org/s", "--license", "https://example.org/l")
        creators = ("--creator", "0000-0002-1825-0097", "--creator", "Ada")
        sssom = ("map", "rhume", "--index", built, "--format", "sssom")
        done = run(*sssom, *about, *creators)
        for line in ("mapping_set_id: https://example.org/s", "license: https://example.org/l", "  - Ada"):
            assert f"#{line}\n" in done.out
        assert "#  - orcid:0000-0002-1825-0097\n" in done.out
        done = run(*sssom, "--license", "CC BY")
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("deft: field license: 'CC BY' is no http(s) URI.")
        done = run("map", "rhume", "--index", built, *creators)
        assert (done.code, done.out) == (2, "")
        assert "Add --format sssom" in done.err

    def test_control_characters_and_a_long_term(self, run, built, caplog):
        with caplog.at_level(logging.WARNING):
            done = run("map", "rhu\x07me\udce9", "rhume" * 2000, "--index", built, "--format", "jsonl")
        assert done.code == 0
        assert [json.loads(line)["query"][:6] for line in done.out.splitlines()] == ["rhu me", "rhumer"]
        assert "texts have more than 64 tokens and were truncated" in caplog.text

    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            ((), "give terms or --input, one of the two. For example: deft map"),
            (("a", "--input", "x.csv"), "give terms or --input, one of the two"),
            (("a", "--context-column", "x"), "terms have no columns"),
            (("a", ""), "term 2 is empty"),
            (("\x07",), "term 1 is empty"),
        ],
    )
    def test_bad_terms(self, run, built, arguments, problem):
        done = run("map", *arguments, "--index", built)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("deft: ")
        assert problem in done.err
        assert done.err.count("\n") == 1

    def test_bad_files(self, run, built, lexicon, tmp_path):
        cases = [
            ("Nom", lexicon.read_bytes(), "lexicon.csv:1: no column 'Nom'. The header has: 'Terme'"),
            ("Terme", lexicon.read_bytes() + b" ,x,y\n", "lexicon.csv:6: expected 4 fields as in the header"),
            ("Terme", "Terme,b\nfièvre,x\n".encode("utf-16")[:-1], "lexicon.csv: is cut short"),
            ("Terme", b"Terme,b\n ,x\n", "lexicon.csv: field Terme: holds no term"),
            ("Terme", b"", "lexicon.csv: is empty"),
        ]
        for column, data, problem in cases:
            lexicon.write_bytes(data)
            done = run(
                "map",
                "--input",
                lexicon,
                "--column",
                column,
                "--index",
                built,
                "--output",
                tmp_path / "out.tsv",
            )
            assert done.code == 2
            assert problem in done.err
            assert "Traceback" not in done.err
            assert not (tmp_path / "out.tsv").exists()

    def test_an_index_that_is_not_whole(self, run, built, tmp_path):
        index = shutil.copytree(built, tmp_path / "i")
        (current_release(index) / "vectors.npy").unlink()
        done = run("map", "a", "--index", index)
        assert done.code == 2
        assert "vectors.npy: is missing from the index. Build it again with `deft index build`." in done.err
        done = run("map", "a", "--index", tmp_path / "absent")
        assert done.code == 2
        assert "is no index" in done.err

    def test_an_output_that_cannot_be_written(self, run, built, tmp_path):
        (tmp_path / "file").write_text("")
        done = run("map", "a", "--index", built, "--output", tmp_path / "file" / "m.tsv")
        assert done.code == 2
        assert "cannot be written" in done.err


class TestDecisions:
    """From a mapping to a review sheet, from there to curated mappings, and back into the mapping."""

    @pytest.mark.parametrize("suffix", ["csv", "xlsx"])
    def test_there_and_back(self, run, built, tmp_path, suffix):
        if suffix == "xlsx":
            pytest.importorskip("openpyxl")
        sheet, curated = tmp_path / f"r.{suffix}", tmp_path / "curated.tsv"
        arguments = ("map", "rhume", "cœur", "--index", built, "--top-k", 3, "--format", "jsonl")
        plain = run(*arguments, "--review", sheet)
        assert plain.code == 0
        asked = [json.loads(line)["candidates"] for line in plain.out.splitlines()]
        decide(sheet, {("rhume", asked[0][2]["cui"]): "oui", ("cœur", asked[1][0]["cui"]): "non"})
        done = run("review", "apply", sheet, "--curated", curated)
        assert done.code == 0
        assert json.loads(done.out) == {"accepted": 1, "rejected": 1, "undecided": 4, "left_out": 0}
        again = run(*arguments, "--curated", curated)
        first, second = (json.loads(line)["candidates"] for line in again.out.splitlines())
        assert (first[0]["cui"], first[0]["match"], first[0]["confidence"]) == (
            asked[0][2]["cui"],
            "curated",
            1,
        )
        assert asked[1][0]["cui"] not in {row["cui"] for row in second}
        explained = run("explain", "rhume", "--index", built, "--curated", curated)
        assert "curated" in explained.out

    def test_rows_that_cannot_be_used(self, run, built, tmp_path):
        sheet = tmp_path / "r.csv"
        run("map", "rhume", "--index", built, "--top-k", 2, "--review", sheet)
        decide(sheet, {("rhume", "C0000001"): "oui", ("rhume", "C0000002"): "peut-être"})
        done = run("review", "apply", sheet, "--curated", tmp_path / "curated.tsv")
        assert done.code == 2
        assert json.loads(done.out) == {"accepted": 1, "rejected": 0, "undecided": 0, "left_out": 1}
        assert done.err.startswith(f"{sheet}:3: ")
        assert "peut-être" in done.err
        assert "C0000001" in (tmp_path / "curated.tsv").read_text()

    def test_files_that_are_not_there(self, run, built, tmp_path):
        done = run("map", "rhume", "--index", built, "--curated", tmp_path / "c.tsv")
        assert (done.code, done.out) == (2, "")
        assert "c.tsv: cannot be read" in done.err
        done = run("review", "apply", tmp_path / "r.csv", "--curated", tmp_path / "c.tsv")
        assert (done.code, done.out) == (2, "")
        assert not (tmp_path / "c.tsv").exists()

    def test_concepts_that_are_not_in_the_index(self, run, built, tmp_path, caplog):
        (tmp_path / "c.tsv").write_text("query\tcui\tdecision\nrhume\tC0999999\taccept\n")
        done = run("map", "rhume", "--index", built, "--curated", tmp_path / "c.tsv")
        assert done.code == 0
        assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
            "C0999999 is not in the index; the line has no effect."
        ]


def decide(sheet, decisions):
    """Fill in the column of decisions of a review sheet, as a person would."""
    if sheet.suffix == ".csv":
        table = pd.read_csv(sheet, sep=None, engine="python", dtype=str, keep_default_na=False)
    else:
        table = pd.read_excel(sheet, dtype=str, keep_default_na=False)
    pairs = list(zip(table["query"], table["cui"], strict=True))
    assert set(decisions) <= set(pairs)
    table["decision"] = [decisions.get(pair, "") for pair in pairs]
    if sheet.suffix == ".csv":
        table.to_csv(sheet, index=False)
    else:
        table.to_excel(sheet, index=False)


class TestExplain:
    def test_a_table(self, run, built):
        done = run("explain", "crise cardiaque aigu", "--index", built, "--top-k", 2)
        lines = done.out.splitlines()
        assert (done.code, done.err) == (0, "")
        assert lines[0] == "crise cardiaque aigu"
        assert "  1  C0000003" in done.out
        assert "the string lacks aigu" in done.out
        assert "after the first by" in done.out
        assert sum(line.split()[0].isdigit() for line in lines[1:]) == 2

    def test_bad_input(self, run, built, tmp_path):
        done = run("explain", " ", "--index", built)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
        assert "term 1 is empty" in done.err
        assert "is no index" in run("explain", "a", "--index", tmp_path).err


class TestFit:
    @pytest.fixture
    def params(self, tmp_path):
        names = [atom for atom in ATOMS if atom.suppress == "N"]
        rows = "".join(f"{atom.string} x\t{atom.cui}\n" for atom in names)
        (tmp_path / "gold.tsv").write_text(f"q\tc\n{rows}", encoding="utf-8")
        path = tmp_path / "p.yaml"
        path.write_text(f"gold: [{{path: {tmp_path / 'gold.tsv'}, query: q, cui: c}}]\nfolds: 3\n")
        return path

    def test_the_index_uses_it(self, run, built, params, tmp_path):
        index = shutil.copytree(built, tmp_path / "i")
        before = run("map", "crise", "--index", index)
        arguments = ("fit", "--params", params, "--index", index)
        done = run(*arguments, "--out", tmp_path / "m.json", "--output", tmp_path / "r.json")
        assert done.code == 0
        assert json.loads(done.out) == json.loads((tmp_path / "r.json").read_text())
        assert json.loads(done.out)["queries"] == 16
        assert run("map", "crise", "--index", index) == before
        assert run(*arguments).out == done.out
        assert (index / "mapping.json").read_text() == (tmp_path / "m.json").read_text()
        assert run("map", "crise", "--index", index) != before
        assert run("index", "verify", index).code == 0

    def test_without_gold(self, run, built, tmp_path):
        (tmp_path / "gold.tsv").write_text("cui\nC0000003\n")
        held_out = ("--held-out", tmp_path / "gold.tsv", "--held-out-cui-column", "cui")
        index = shutil.copytree(built, tmp_path / "i")
        done = run("fit", "--held-out-synonyms", 9, *held_out, "--index", index)
        assert done.code == 0
        assert json.loads(done.out)["queries"] == 4  # of the five others, one has no other name
        assert json.loads((index / "mapping.json").read_text())["about"]["held_out_synonyms"] == 9

    def test_nothing_to_fit_on_is_asked_for(self, run, built):
        done = run("fit", "--held-out-synonyms", 0, "--index", built)
        assert (done.code, json.loads(done.out)) == (0, {"queries": 0})
        assert not (built / "mapping.json").exists()

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            ("gold: []", "p.yaml: there is neither gold nor a number of held_out_synonyms or held_out_lay"),
            ("gold: [{path: a, query: q, cui: c}]\nfold: 1\n", "p.yaml: field fold"),
            ("gold: [{path: absent.tsv, query: q, cui: c}]\n", "absent.tsv: cannot be read"),
        ],
    )
    def test_bad_input(self, run, built, params, content, problem):
        params.write_text(content)
        done = run("fit", "--params", params, "--index", built)
        assert (done.code, done.out) == (2, "")
        assert problem in done.err
        assert "Traceback" not in done.err


class TestIndex:
    def test_build_then_map(self, run, bundle, tmp_path):
        umls = write_umls(tmp_path / "umls", compressed=True)
        out = tmp_path / "i"
        done = run(
            *("index", "build", "--umls", umls, "--encoder", bundle, "--out", out),
            *("--language", "FRE", "--semantic-type", "T047", "--semantic-group", "ANAT"),
        )
        assert done.code == 0
        assert json.loads(done.out) == {"strings": 6, "atoms": 7, "concepts": 4, "kind": "flat"}
        assert "MRCONSO" in done.err
        assert run("map", "rhume", "--index", out).code == 0

    def test_verify(self, run, built, tmp_path):
        assert run("index", "verify", built).out == "The index is whole.\n"
        index = shutil.copytree(built, tmp_path / "i")
        vectors = current_release(index) / "vectors.npy"
        data = bytearray(vectors.read_bytes())
        data[-1] ^= 1
        vectors.write_bytes(data)
        done = run("index", "verify", index)
        assert done.code == 2
        assert "vectors.npy: does not have the checksum it was built with" in done.err

    def test_verify_looks_at_what_lies_beside_the_release(self, run, built, tmp_path):
        index = shutil.copytree(built, tmp_path / "i")
        (index / "mapping.json").write_text('{"weights": {}}')
        done = run("index", "verify", index)
        assert (done.code, "mapping.json: is no mapping model" in done.err) == (2, True)
        (index / "mapping.json").unlink()
        (current_release(index) / "encoder" / "runtime.json").write_text('{"plain": {"workers": 0}}')
        done = run("index", "verify", index)
        assert (done.code, "runtime.json: field plain.workers" in done.err) == (2, True)

    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            (("--cui", "X0000001"), "field cui: expected a CUI such as C0012569, found 'X0000001'."),
            (("--cui", "C1"), "found 'C1'."),
            (("--cui", "abc"), "found 'abc'."),
            (("--cui", "C0000001", "--cui", "C7777777"), "has no atom of C7777777. Nothing was changed."),
            (("--cui", "C0000001", "--source", "NONE"), "has no atom of NONE. Nothing was changed."),
            ((), "give a concept or a source to take out. For example: --cui C0012569"),
        ],
    )
    def test_what_cannot_be_removed(self, run, built, arguments, problem):
        done = run("index", "remove", built, *arguments)
        assert done.code == 2
        assert problem in done.err.splitlines()[-1]
        assert run("index", "verify", built).code == 0

    def test_filters_of_the_parameters(self, run, umls, bundle, tmp_path):
        params = tmp_path / "params.yaml"
        params.write_text(
            f"prepare: {{umls: {umls}, languages: [ENG]}}\nmap: {{lexicon: a}}\n"
            "score: {t1_train: a, t1_test: b, t2_test: c, data: sample, gold: d}\n"
        )
        build = ("index", "build", "--encoder", bundle, "--out", tmp_path / "i", "--params", params)
        assert json.loads(run(*build).out)["atoms"] == 5
        done = run(*build, "--language", "FRE")
        assert done.code == 2
        assert "the filters come from --params or from options, not from both" in done.err

    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            ((), "give --umls, the folder of a Metathesaurus, or --params. For example"),
            (("--umls", "absent"), "no MRCONSO.RRF (or MRCONSO.RRF.gz) here"),
            (("--umls", "UMLS", "--language", "xx"), "no atom with language xx. It holds ENG, FRE"),
            (("--umls", "UMLS", "--source", "xx"), "no atom with source xx"),
            (("--umls", "UMLS", "--semantic-type", "T999"), "no concept has the semantic type T999"),
            (("--umls", "UMLS", "--semantic-group", "xx"), "no semantic group is called xx"),
        ],
    )
    def test_bad_input(self, run, umls, bundle, tmp_path, arguments, problem):
        arguments = [umls if argument == "UMLS" else argument for argument in arguments]
        done = run("index", "build", "--encoder", bundle, "--out", tmp_path / "i", *arguments)
        assert (done.code, done.out) == (2, "")
        assert problem in done.err
        assert not (tmp_path / "i").exists()

    def test_encode_and_reuse(self, run, umls, bundle, tmp_path):
        (tmp_path / "t.csv").write_text("string\nrhume\nrhume\ncoryza\n")
        done = run("encode", "--input", tmp_path / "t.csv", "--encoder", bundle, "--out", tmp_path / "v")
        assert json.loads(done.out)["strings"] == 2
        build = ("index", "build", "--umls", umls, "--out", tmp_path / "i", "--vectors", tmp_path / "v")
        assert run(*build, "--encoder", bundle).code == 0
        done = run(*build, "--encoder", write_bundle(tmp_path / "other", seed=1))
        assert done.code == 2
        assert "made by another encoder" in done.err


class TestScores:
    @pytest.fixture
    def t1(self, tmp_path):
        pairs = [
            SentencePair(str(place), f"mot {place}", f"mot {place + 1} x", place % 6) for place in range(12)
        ]
        write_t1(tmp_path / "t1.xml", pairs)
        return tmp_path / "t1.xml"

    @pytest.fixture
    def t2(self, tmp_path):
        write_t2(tmp_path / "t2.xml", [SentenceSet("0", "le rhume", ("rhume", "xyz", "zz"), 1)])
        return tmp_path / "t2.xml"

    def test_t1(self, run, t1, bundle, tmp_path):
        arguments = (
            "--data",
            t1,
            "--train",
            t1,
            "--model",
            bundle,
            "--data-kind",
            "sample",
            "--bootstrap",
            100,
        )
        done = run(
            "score",
            "t1",
            *arguments,
            "--output",
            tmp_path / "t1.json",
            "--write-predictions",
            tmp_path / "p.tsv",
        )
        assert done.code == 0
        assert "12 items, sample data" in done.out
        for metric in ("edrm", "edrm_prediction", "spearman", "p_value"):
            assert metric in done.out
        scores = json.loads((tmp_path / "t1.json").read_text())
        printed = run("score", "t1", *arguments, "--format", "json").out
        assert json.loads(printed) == scores
        done = run(
            "score",
            "t1",
            "--data",
            t1,
            "--predictions",
            tmp_path / "p.tsv",
            "--format",
            "json",
            "--bootstrap",
            100,
        )
        predicted = json.loads(done.out)["systems"]["predictions"]
        assert predicted["n"] == 12
        assert predicted["edrm"]["value"] == pytest.approx(
            scores["systems"]["deft"]["edrm"]["value"], abs=1e-4
        )

    def test_t2(self, run, t2, bundle, tmp_path):
        arguments = ("score", "t2", "--data", t2, "--bootstrap", 100)
        done = run(
            *arguments, "--model", bundle, "--write-predictions", tmp_path / "p.tsv", "--format", "json"
        )
        assert json.loads(done.out)["systems"]["deft"]["n"] == 1
        assert json.loads(done.out)["data"] == "unspecified"
        done = run(*arguments, "--predictions", tmp_path / "p.tsv", "--format", "json")
        assert set(json.loads(done.out)["systems"]["predictions"]) == {"map", "accuracy", "n"}

    def test_mapping(self, run, built, lexicon, tmp_path):
        arguments = (
            "evaluate",
            "mapping",
            "--gold",
            lexicon,
            "--index",
            built,
            "--data-kind",
            "sample",
            "--bootstrap",
            100,
        )
        done = run(
            *arguments,
            *("--output", tmp_path / "m.json", "--errors", tmp_path / "e.csv", "--curve", tmp_path / "c.csv"),
        )
        assert done.code == 0
        assert "4 items, sample data" in done.out
        scores = json.loads((tmp_path / "m.json").read_text())["systems"]
        assert set(scores) == {"deft", "ngrams"}
        assert set(scores["deft"]) == {
            "recall_at_1",
            "recall_at_5",
            "recall_at_8",
            "recall_at_10",
            "recall_at_64",
            "mrr",
            "n",
            "clusters",
            "in_index",
        }
        assert list(pd.read_csv(tmp_path / "c.csv").columns) == ["k", "system", "recall"]
        assert pd.read_csv(tmp_path / "e.csv")["query"].to_list() == ["rhume"]
        done = run(*arguments, "--no-baseline", "--format", "json")
        assert set(json.loads(done.out)["systems"]) == {"deft"}

    def test_t1_keeps_its_grade_model(self, run, t1, bundle, tmp_path):
        model = shutil.copytree(bundle, tmp_path / "model")
        arguments = ("score", "t1", "--data", t1, "--model", model, "--bootstrap", 100, "--format", "json")
        fitted = run(*arguments, "--train", t1, "--save-grade-model")
        assert (model / "grades.json").is_file()
        again = run(*arguments)
        assert json.loads(again.out)["systems"]["deft"] == json.loads(fitted.out)["systems"]["deft"]

    def test_some_rows_of_the_gold_file(self, run, built, tmp_path):
        (tmp_path / "g.tsv").write_text("Terme\tCUI\tpart\nrhume\tC0000001\tdev\nx\tC0000001\tfinal\n")
        arguments = (
            "evaluate",
            "mapping",
            "--gold",
            tmp_path / "g.tsv",
            "--index",
            built,
            "--format",
            "json",
        )
        done = run(*arguments, "--where", "part=dev", "--bootstrap", 100)
        assert json.loads(done.out)["systems"]["deft"]["n"] == 1
        done = run(*arguments, "--where", "part")
        assert (done.code, done.err) == (2, "deft: expected NAME=VALUE, found 'part'.\n")

    def test_mapping_with_other_columns(self, run, built, tmp_path):
        (tmp_path / "g.tsv").write_text("lay\tcuis\nrhume\tC0000001;C0000002\n")
        arguments = (
            "--gold",
            tmp_path / "g.tsv",
            "--query-column",
            "lay",
            "--cui-column",
            "cuis",
            "--index",
            built,
        )
        done = run("evaluate", "mapping", *arguments, "--format", "json", "--bootstrap", 100)
        assert json.loads(done.out)["systems"]["deft"]["recall_at_1"]["value"] == 1

    def test_queries_as_people_write_them(self, run, built, tmp_path):
        (tmp_path / "g.tsv").write_text(
            "Terme\tCUI\tsens\ninfarctus du myocarde\tC0000003\tcrise cardiaque\n"
        )
        options = ("--gold", tmp_path / "g.tsv", "--index", built, "--bootstrap", 100, "--no-baseline")
        done = run("evaluate", "mapping", *options, "--noise", "--context-column", "sens")
        assert done.code == 0, done.err
        assert "as it is written" in done.out
        written = json.loads(run("evaluate", "mapping", *options, "--noise", "--format", "json").out)["noise"]
        assert written["clean"]["recall_at_1"]["value"] == 1
        assert {"clean", "swapped", "glued", "capitals", "cut short"} <= set(written)
        done = run("evaluate", "mapping", *options, "--context-column", "absent")
        assert (done.code, "no column 'absent'" in done.err) == (2, True)

    def test_channels_are_compared(self, run, built, lexicon):
        arguments = ("evaluate", "mapping", "--gold", lexicon, "--index", built, "--bootstrap", 100)
        done = run(*arguments, "--channel", "lexical", "--compare", "dense,fused", "--format", "json")
        assert done.code == 0, done.err
        done = run(*arguments, "--compare", "dense,best")
        assert (done.code, done.out) == (2, "")
        assert "no channel is called best" in done.err

    @pytest.mark.parametrize("task", ["t1", "t2"])
    def test_neither_or_both(self, run, t1, t2, bundle, tmp_path, task):
        data = {"t1": t1, "t2": t2}[task]
        done = run("score", task, "--data", data)
        assert (done.code, done.err) == (2, "deft: give --model or --predictions.\n")
        done = run("score", task, "--data", data, "--predictions", tmp_path / "p.tsv", "--model", bundle)
        assert done.code == 2
        assert "leave those out" in done.err

    def test_bad_input(self, run, t1, t2, tmp_path):
        (tmp_path / "p.tsv").write_text("0\t1\n0\t2\n")
        done = run("score", "t1", "--data", t1, "--predictions", tmp_path / "p.tsv")
        assert done.code == 2
        assert "p.tsv:2: field id: '0' was already given" in done.err
        done = run("score", "t1", "--data", t2, "--predictions", tmp_path / "p.tsv")
        assert "no <paire> element" in done.err
        t1.write_text(t1.read_text().replace('moy="5"', 'moy="7"', 1))
        done = run("score", "t1", "--data", t1, "--model", tmp_path)
        assert done.code == 2


@dataclass(frozen=True)
class Made:
    """What a training stage tells of its result."""

    dimension: int = 7
    max_length: int = 9
    precision: str = "fp32"
    base: str = "teacher"
    licence: str = ""
    sha256: str = "0"


class TestStages:
    def test_prepare(self, run, umls, tmp_path):
        params = tmp_path / "params.yaml"
        params.write_text(
            f"prepare: {{umls: {umls}}}\nmap: {{lexicon: a}}\n"
            "score: {t1_train: a, t1_test: b, t2_test: c, data: sample, gold: d}\n"
        )
        done = run("prepare", "--params", params, "--out", tmp_path / "prepared")
        assert json.loads(done.out)["concepts"] == 6
        params.write_text("prepare: {umls: a, sead: 1}\n")
        done = run("prepare", "--params", params, "--out", tmp_path / "prepared")
        assert done.code == 2
        assert "params.yaml: field prepare.sead" in done.err

    def test_speed(self, run, bundle, lexicon, tmp_path):
        arguments = ("--input", lexicon, "--column", "Terme", "--count", 2, "--repeats", 1)
        done = run("speed", "--encoder", f"tiny={bundle}", *arguments, "--output", tmp_path / "s.json")
        assert done.code == 0
        assert json.loads(done.out) == json.loads((tmp_path / "s.json").read_text())
        assert "tiny" in done.out

    @pytest.mark.parametrize(
        ("command", "options"),
        [
            ("finetune", ("--prepared", "p", "--out", "o")),
            ("export", ("--model", "p", "--out", "o")),
        ],
    )
    def test_training_stages_hand_their_folders_over(self, run, root, monkeypatch, command, options):
        calls = []
        stage = SimpleNamespace(**{command: lambda *args, **_: calls.append(args) or Made()})
        monkeypatch.setitem(sys.modules, f"deft.training.{command}", stage)
        done = run(command, *options, "--params", root / "params.yaml")
        assert done.code == 0
        assert json.loads(done.out)["dimension"] == 7
        assert calls[0][:2] == (Path("p"), Path("o"))

    def test_pretrain(self, run, tmp_path, monkeypatch):
        calls = []

        class Recipe(Block):
            steps: int

        stage = SimpleNamespace(pretrain=lambda *args, **options: calls.append(args))
        monkeypatch.setattr("deft.recipe.params.RecipeParams", Recipe)
        monkeypatch.setitem(sys.modules, "deft.recipe.recipe", stage)
        (tmp_path / "p.yaml").write_text("steps: 3\n")
        done = run("pretrain", "--params", tmp_path / "p.yaml", "--work", "w", "--out", "o")
        assert (done.code, calls) == (0, [(Recipe(steps=3), Path("w"), Path("o"))])
        assert logging.getLogger("deft").level == logging.INFO
        logging.getLogger("deft").setLevel(logging.NOTSET)

    def test_parameters_of_pretraining_can_be_changed(self, run, tmp_path, monkeypatch):
        class Training(Block):
            steps: int = 1

        class Recipe(Block):
            training: Training
            name: str = ""

        calls = []
        stage = SimpleNamespace(pretrain=lambda *args, **options: calls.append(args[0]))
        monkeypatch.setattr("deft.recipe.params.RecipeParams", Recipe)
        monkeypatch.setitem(sys.modules, "deft.recipe.recipe", stage)
        (tmp_path / "p.yaml").write_text("training: {steps: 3}\n")
        changes = ("--set", "training.steps=7", "--set", "name=a=b")
        assert run("pretrain", "--params", tmp_path / "p.yaml", *changes).code == 0
        logging.getLogger("deft").setLevel(logging.NOTSET)
        assert calls == [Recipe(training=Training(steps=7), name="a=b")]
        done = run("pretrain", "--params", tmp_path / "p.yaml", "--set", "training.steps")
        logging.getLogger("deft").setLevel(logging.NOTSET)
        assert (done.code, done.err) == (2, "deft: expected NAME=VALUE, found 'training.steps'.\n")

    def test_report(self, run, root, tmp_path):
        shutil.copy(root / "experiments" / "published.csv", tmp_path)
        out = tmp_path / "report.html"
        arguments = ("--folder", tmp_path, "--published", tmp_path / "published.csv", "--out", out)
        done = run("report", *arguments, "--params", root / "params.yaml")
        assert done.code == 0, done.err
        assert done.out == f"{out}\n"
        assert "0.8217" in (tmp_path / "leaderboard.csv").read_text(encoding="utf-8")
        assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")

    def test_a_closed_gate_is_exit_code_1(self, run, root, monkeypatch, tmp_path):
        def closed(*arguments, **options):
            raise GateError("spearman fell by 0.2.")

        stage = SimpleNamespace(quantize_and_compare=closed)
        monkeypatch.setitem(sys.modules, "deft.compress.gate", stage)
        done = run("quantize", "--params", root / "params.yaml", "--out", tmp_path)
        assert (done.code, done.out, done.err) == (1, "", "deft: spearman fell by 0.2.\n")

    def test_a_missing_package_is_named(self, run, root, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "deft.training.export", None)
        done = run("export", "--params", root / "params.yaml", "--model", tmp_path, "--out", tmp_path / "out")
        assert done.code == 2
        assert "pip install 'deft[train]'" in done.err


def shell(*arguments, **options):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "deft.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, **options)


class TestProcess:
    """What only a real process shows."""

    def test_terms_from_standard_input(self, built, lexicon):
        table = lexicon.read_text(encoding="utf-8")
        arguments = ("map", "--index", built, "--format", "tsv", "--input")
        piped = shell(*arguments, "-", input=table)
        assert piped.returncode == 0, piped.stderr
        assert piped.stdout == shell(*arguments, lexicon).stdout
        wrong = shell(*arguments, "-", "--column", "Nom", input=table)
        assert (wrong.returncode, wrong.stdout) == (2, "")
        assert wrong.stderr.startswith("deft: -:1: no column 'Nom'.")

    def test_tracebacks_only_on_demand(self, tmp_path):
        plain = shell("map", "a", "--index", tmp_path)
        assert (plain.returncode, plain.stdout) == (2, "")
        remedy = "Build one with `deft index build --umls FOLDER`."
        assert plain.stderr == f"deft: {tmp_path}: is no index (it has no file `current`). {remedy}\n"
        debug = shell("--debug", "map", "a", "--index", tmp_path)
        assert debug.returncode == 1
        assert "Traceback" in debug.stderr
        assert "InputError" in debug.stderr

    def test_a_warning_is_on_standard_error(self, built):
        done = shell("map", "rhume " * 1700, "--index", built, "--format", "jsonl")
        assert done.returncode == 0
        assert len(done.stdout.splitlines()) == 1
        assert done.stderr.startswith("WARNING: 1 of 1 texts have more than 64 tokens and were truncated")

    @pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
    def test_a_console_that_is_not_utf_8(self, built, encoding):
        environment = os.environ | {"PYTHONIOENCODING": encoding}
        command = [sys.executable, "-m", "deft.cli"]
        terms = ("crise cardiaque", "cœur α")

        def printed(*arguments):
            whole = [*command, *arguments, "--index", built]
            done = subprocess.run(whole, capture_output=True, env=environment, check=False)
            assert (done.returncode, done.stderr) == (0, b"")
            return done.stdout

        lines = printed("map", *terms).decode(encoding).splitlines()
        assert lines[1].endswith("<- crise cardiaque")
        assert {"ascii": "c?ur ?", "cp1252": "cœur ?"}[encoding] in lines
        assert b"C0000004" in printed("explain", terms[1])
        for data in ("tsv", "jsonl", "sssom"):  # for programs: in UTF-8, as in a file
            assert "cœur α" in printed("map", terms[1], "--format", data).decode()

    def test_a_reader_that_has_seen_enough(self, built, lexicon):
        lexicon.write_text("Terme\n" + "".join(f"rhume {place}\n" for place in range(3000)))
        mapping = f'"{sys.executable}" -m deft.cli map --input "{lexicon}" --index "{built}"'
        done = subprocess.run(
            f"{mapping} | head -n 1", shell=True, capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith("query\t")
        assert "Traceback" not in done.stderr
        assert "BrokenPipe" not in done.stderr


class TestLay:
    """What laypeople say: looked at, checked, added."""

    def test_export(self, run, tmp_path):
        assert run("lay", "export", tmp_path / "lay.tsv").code == 0
        header, *lines = (tmp_path / "lay.tsv").read_text("utf-8").splitlines()
        assert header == "phrase\tcui\trelation\tregister\tnote\twritten\tread"
        assert run("lay", "export", tmp_path / "MRCONSO.RRF", "--format", "rrf").code == 0
        rows = (tmp_path / "MRCONSO.RRF").read_text("utf-8").splitlines()
        assert len(rows) == len(lines) > 100
        assert all(row.count("|") == 18 and "|LAYFR|LAY|" in row for row in rows)

    def test_check_and_add(self, run, umls, bundle, tmp_path):
        index, phrases = tmp_path / "i", tmp_path / "ours.csv"
        assert (
            run("index", "build", "--umls", umls, "--encoder", bundle, "--out", index, "--no-lay").code == 0
        )
        said = ["mal au crâne", "la tête dans un étau", "la caboche en feu"]
        phrases.write_text("cui,phrase\n" + "".join(f"C0000006,{phrase}\n" for phrase in said), "utf-8")
        checked = run("lay", "check", phrases, "--index", index)
        assert (checked.code, checked.out) == (0, "3 phrases on 1 concepts: no fault.\n")
        added = run("lay", "add", index, phrases, "--source", "LAYHUG")
        assert json.loads(added.out)["strings"] == 18
        answer = run("map", "la caboche en feu", "--index", index, "--format", "jsonl", "--top-k", "1")
        (best,) = json.loads(answer.out)["candidates"]
        assert (best["cui"], best["source"], best["relation"]) == ("C0000006", "LAYHUG", "exact")
        without = (
            "map",
            "la caboche en feu",
            "--index",
            index,
            "--without-source",
            "LAYHUG",
            "--format",
            "jsonl",
        )
        assert "LAYHUG" not in run(*without).out

    def test_faults_are_told_by_their_line(self, run, built, tmp_path):
        phrases = tmp_path / "ours.csv"
        phrases.write_text("cui,phrase\nC0000006,maux de têtes.\nC0000004,gêne\nC0000001,gêne\n", "utf-8")
        checked = run("lay", "check", phrases, "--index", built)
        assert checked.code == 2
        assert f"{phrases}:2: a final full stop" in checked.out
        assert f"{phrases}:2: the same words as 'mal de tête'" in checked.out
        assert f"{phrases}:3: 'gêne' is said of C0000004, C0000001, and not broader on each" in checked.out
        assert checked.err.endswith("faults. Mend them and check again.\n")
