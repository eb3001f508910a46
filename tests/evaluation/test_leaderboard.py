"""The leaderboard keeps scores on different data apart."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from deft.errors import InputError
from deft.evaluation.leaderboard import (
    TEST_PART,
    Row,
    our_rows,
    read_leaderboard,
    update_leaderboard,
    with_ours,
    write_leaderboard,
)
from deft.files import write_json

PUBLISHED = Path(__file__).parents[2] / "experiments" / "published.csv"

OFFICIAL = Row("t1", "edrm", "They", 2020, "official", 0.8217, None, None, "their paper")
RANGE = Row("t2", "map", "All", None, "official", None, 0.94, 0.99, "overview, with a comma")
SCORES = {"edrm": {"value": 0.7, "low": 0.6, "high": 0.8}, "p_value": 0.01, "n": 12}


def ours(**changes):
    options = {"system": "deft", "year": None, "data": "sample", "source": "here"} | changes
    return our_rows("t1", SCORES, **options)


def test_rows_survive_their_file(tmp_path):
    rows = [OFFICIAL, RANGE, *ours(), *ours(data="stand-in"), *ours(system="=1+1", source="-a")]
    write_leaderboard(tmp_path / "board.csv", rows)
    assert read_leaderboard(tmp_path / "board.csv") == rows
    assert ",'=1+1," in (tmp_path / "board.csv").read_text()  # no formula for a spreadsheet


def test_no_column_holds_scores_on_two_kinds_of_data(tmp_path):
    write_leaderboard(tmp_path / "board.csv", [OFFICIAL, *ours(), *ours(data="stand-in")])
    with (tmp_path / "board.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    for column in ("official", "official_low", "official_high"):
        assert [line[column] for line in lines[1:]] == ["", ""]
    assert [line["sample"] for line in lines] == ["", "0.7", ""]
    assert [line["stand_in"] for line in lines] == ["", "", "0.7"]


def test_our_rows_are_the_scores_with_intervals():
    assert ours() == [Row("t1", "edrm", "deft", None, "sample", 0.7, 0.6, 0.8, "here")]


def test_with_ours_replaces_what_the_same_system_scored_before():
    before = with_ours([OFFICIAL, RANGE], ours())
    assert [row.system for row in before] == ["They", "deft", "All"]
    better = [replace(row, value=0.75) for row in ours()]
    after = with_ours(before, better)
    assert [row for row in after if row.system == "deft"] == better
    assert with_ours(after, better) == after


def test_with_ours_keeps_other_tasks_and_data():
    other = ours(data="stand-in")
    assert set(with_ours([*other, OFFICIAL], ours())) == {OFFICIAL, *other, *ours()}


def test_update_writes_our_scores_beside_the_published(tmp_path):
    write_leaderboard(tmp_path / "published.csv", [OFFICIAL, RANGE])
    systems = {"deft": SCORES, "ngrams": {}}
    write_json(tmp_path / "t1.json", {"data": "sample", "systems": systems})
    rows = update_leaderboard(tmp_path / "published.csv", tmp_path)
    ours = Row("t1", "edrm", "deft", None, "sample", 0.7, 0.6, 0.8, "this experiment, t1.json")
    assert rows == [OFFICIAL, ours, RANGE]
    assert read_leaderboard(tmp_path / "leaderboard.csv") == rows
    assert read_leaderboard(tmp_path / "published.csv") == [OFFICIAL, RANGE]


@pytest.mark.parametrize("content", ["[]", "{}", '{"systems": {}, "data": "sample"}'])
def test_update_names_metrics_of_another_shape(tmp_path, content):
    (tmp_path / "t2.json").write_text(content)
    with pytest.raises(InputError, match=r"t2\.json"):
        update_leaderboard(PUBLISHED, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("official_low,", ""), "official_low"),
        (("0.8217", "high"), "none"),
        (("0.8217", ""), "found 0"),
        (("0.8217,,,,,,,", "0.8217,,,0.5,,,,"), "found 2"),
    ],
)
def test_a_bad_leaderboard_is_refused(tmp_path, change, message):
    path = tmp_path / "board.csv"
    write_leaderboard(path, [OFFICIAL])
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(InputError, match=message):
        read_leaderboard(path)


def test_the_published_results_are_there_with_their_sources():
    rows = read_leaderboard(PUBLISHED)
    found = {(row.task, row.metric, row.value, row.low, row.high) for row in rows}
    assert found == {
        ("t1", "edrm", 0.8217, None, None),
        ("t1", "edrm", None, 0.65, 0.82),
        ("t1", "spearman", 0.7691, None, None),
        ("t1", "spearman", 0.8030, None, None),
        ("t1", "spearman", 0.8343, None, None),
        ("t1", "spearman", 0.8396, None, None),
        ("t1", "edrm_prediction", 0.7767, None, None),
        ("t2", "map", None, 0.94, 0.99),
        ("t2", "accuracy", 0.9396, None, None),
    }
    assert all(row.data == "official" and row.source and row.where for row in rows)


def test_scores_on_other_parts_of_the_data_are_no_scores_of_the_challenge():
    parts = {row.system: row.part for row in read_leaderboard(PUBLISHED)}
    assert {system for system, part in parts.items() if part != TEST_PART} == {"DrBERT-7GB"}
    rows = with_ours([replace(OFFICIAL, part="elsewhere")], ours())
    assert [row.part for row in rows if row.metric == OFFICIAL.metric] == ["elsewhere", TEST_PART]
