"""The report is one page that holds what was measured and nothing else."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from deft.errors import InputError
from deft.evaluation.calibration import Calibration, NilScore
from deft.evaluation.leaderboard import Row, update_leaderboard, write_leaderboard
from deft.evaluation.linking import Miss, compare_systems, write_misses
from deft.evaluation.report import ReportInputs, build_report, render
from deft.files import read_json, write_json

VOID = {"meta", "br", "line", "path", "rect", "use"}


class Page(HTMLParser):
    """Text by element, open elements, and what would be fetched."""

    def __init__(self, html):
        super().__init__()
        self.open, self.fetched, self.rows, self.identifiers = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        named_here = (named[key] for key in ("src", "href", "srcset", "data") if key in named)
        self.fetched += [place for place in named_here if not place.startswith("#")]
        self.identifiers += [named["id"]] if tag == "section" and "id" in named else []
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert tag in VOID

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and {"td", "th"} & set(self.open):
            self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]} {data}".split())


def interval(value):
    return {"value": value, "low": value - 0.02, "high": value + 0.02}


def task(n=100, **metrics):
    return {**{name: interval(value) for name, value in metrics.items()}, "n": n}


def linking(value, n=50):
    return task(
        n,
        recall_at_1=value,
        recall_at_5=value + 0.1,
        recall_at_10=value + 0.15,
        recall_at_64=value + 0.2,
        mrr=value,
    )


def speed(rate):
    return {
        "texts_per_second": {"value": rate, "low": rate - 1, "high": rate + 1},
        "file_mib": 106.6,
        "peak_memory_mib": 300,
    }


@pytest.fixture
def folder(tmp_path):
    t1 = {
        name: task(edrm=value, edrm_prediction=0.7, spearman=0.65)
        for name, value in {"deft": 0.777, "ngrams": 0.701}.items()
    }
    t1["deft"]["p_value"] = 1e-9
    write_json(tmp_path / "t1.json", {"data": "sample", "systems": t1})
    write_json(tmp_path / "t2.json", {"data": "sample", "systems": {"deft": task(map=0.95, accuracy=0.9)}})
    systems = {
        name: {**linking(value), "in_index": linking(value + 0.1, 40)}
        for name, value in {"deft": 0.5, "ngrams": 0.3}.items()
    }
    write_json(tmp_path / "mapping.json", {"data": "sample", "systems": systems})
    write_misses(
        tmp_path / "errors.csv",
        [Miss('<b>toux</b> & "fièvre"', "C1", "toux", "C2", "rhume", "RHUME", "exact", 0.91, 0.8)],
    )
    change = {"fp32": 0.8, "int8": 0.795, "difference": {"value": -0.005, "low": -0.01, "high": 0.001}}
    engines = {
        "onnxruntime": {"passed": True, "metrics": {"spearman": change}},
        "inc": {"passed": False, "metrics": {"spearman": change}},
    }
    write_json(tmp_path / "quantization.json", {"engine": "onnxruntime", "engines": engines})
    write_json(
        tmp_path / "speed.json",
        {
            "systems": {"fp32": speed(50), "onnxruntime": speed(125), "inc": speed(100)},
            "texts": {"n": 512, "mean_characters": 20.5},
            "repeats": 3,
            "threads": 2,
            "hardware": {"processor": "A processor", "processors": 2, "memory_gib": 23.0, "system": "Linux"},
            "versions": {"python": "3.11.9"},
        },
    )
    write_leaderboard(
        tmp_path / "published.csv",
        [Row("t1", "edrm", "UASZ", 2020, "official", 0.8217, None, None, "their run")],
    )
    update_leaderboard(tmp_path / "published.csv", tmp_path)
    (tmp_path / "params.yaml").write_text("seed: 13 # <i>\n")
    return tmp_path


@pytest.fixture
def html(folder):
    return render(ReportInputs.in_folder(folder, params=folder / "params.yaml"))


def test_the_page_is_whole_and_asks_nothing_of_the_network(html):
    page = Page(html)
    assert page.open == []
    assert page.fetched == []
    assert not re.search(r"https?://|//cdn|@import|url\((?!#)|<script|<link", html)
    assert page.identifiers == [
        "summary",
        "t1",
        "t2",
        "mapping",
        "quantization",
        "leaderboard",
        "misses",
        "setting",
    ]


def test_scores_stand_beside_the_baseline_with_intervals(html):
    rows = Page(html).rows
    assert ["EDRM (gold)", "0.777 [0.757, 0.797]", "0.701 [0.681, 0.721]", ""] in rows
    assert ["Recall@1", "0.500 [0.480, 0.520]", "0.300 [0.280, 0.320]", ""] in rows
    assert ["Recall@1", "0.600 [0.580, 0.620]", "0.400 [0.380, 0.420]", ""] in rows
    assert "p &lt; 0.001" in html


def test_sample_scores_never_stand_in_the_official_column(html):
    rows = Page(html).rows
    header = next(row for row in rows if "Official data" in row)
    official, sample = header.index("Official data"), header.index("Sample data")
    published = next(row for row in rows if row[0].startswith("UASZ"))
    ours = [row for row in rows if row[0].startswith("deft this experiment")]
    assert published[official] == "0.8217"
    assert published[sample] == ""
    assert len(ours) == 5
    assert all(row[official] == "" and row[sample] for row in ours)
    assert "cannot be compared" in html


def test_official_scores_stand_in_the_official_column(folder):
    text = (folder / "t1.json").read_text().replace('"sample"', '"official"')
    (folder / "t1.json").write_text(text)
    update_leaderboard(folder / "published.csv", folder)
    html = render(ReportInputs(t1=folder / "t1.json", leaderboard=folder / "leaderboard.csv"))
    rows = Page(html).rows
    assert ["deft this experiment, t1.json", "0.7770 [0.7570, 0.7970]"] in rows
    assert "Sample data" not in html
    assert "cannot be compared" not in html


def test_precisions_are_compared(html):
    rows = Page(html).rows
    assert ["int8, onnxruntime", "107", "300", "125 [124, 126]", "× 2.50"] in rows
    assert ["Spearman", "0.8000", "−0.0050 [−0.0100, +0.0010]", "−0.0050 [−0.0100, +0.0010]"] in rows
    assert "gate passed" in html
    assert "gate failed" in html


def test_text_is_escaped(html):
    assert "&lt;b&gt;toux&lt;/b&gt; &amp; &#34;fièvre&#34;" in html
    assert "<b>" not in html
    assert "seed: 13 # &lt;i&gt;" in html


def test_recall_is_drawn_for_each_part_of_the_queries(html):
    assert html.count("<figure>") == 2
    assert html.count("Character n-grams\n") + html.count(">Character n-grams<") >= 2


def test_a_restriction_that_leaves_all_queries_is_not_repeated(folder):
    systems = {"deft": {**linking(0.5), "in_index": linking(0.5)}}
    write_json(folder / "mapping.json", {"data": "sample", "systems": systems})
    assert render(ReportInputs(mapping=folder / "mapping.json")).count("<figure>") == 1


@pytest.mark.parametrize(
    "name", ["t1", "t2", "mapping", "errors", "quantization", "speed", "leaderboard", "params"]
)
def test_any_file_may_be_missing(folder, name):
    inputs = vars(ReportInputs.in_folder(folder, params=folder / "params.yaml"))
    Page(render(ReportInputs(**(inputs | {name: folder / "absent"}))))
    Page(render(ReportInputs(**{name: inputs[name]})))


def test_nothing_measured_is_still_a_page(tmp_path):
    page = Page(render(ReportInputs.in_folder(tmp_path)))
    assert page.identifiers == ["summary"]


@pytest.mark.parametrize("name", ["t1.json", "mapping.json", "quantization.json", "speed.json"])
def test_a_file_of_another_shape_is_named(folder, name):
    (folder / name).write_text('{"systems": {"deft": 3}, "engines": [1]}')
    with pytest.raises(InputError, match=name):
        render(ReportInputs.in_folder(folder))


def test_build_report_writes_the_page_and_repeats_itself(folder):
    out = folder / "new" / "report.html"
    build_report(ReportInputs.in_folder(folder), out)
    first = out.read_bytes()
    build_report(ReportInputs.in_folder(folder), out)
    assert out.read_bytes() == first
    assert b"<!DOCTYPE html>" in first[:20]


class TestConfidence:
    @pytest.fixture
    def measured(self, folder):
        """What `run_mapping` writes when all is asked for, into the metrics file."""
        confidence = np.array([0.95] * 10 + [0.45] * 10)
        correct = np.array([1] * 9 + [0] + [1] * 5 + [0] * 5)
        part = {**task(20, recall_at_1=0.7, recall_at_8=0.8, mrr=0.75)}
        more = {
            "channel": "fused",
            "calibration": {
                "all": Calibration.of(confidence, correct & (np.arange(20) % 2), resamples=50).to_dict(),
                "in_index": Calibration.of(confidence[5:], correct[5:], resamples=50).to_dict(),
            },
            "by": {"group": {"DISO": {**part, "in_index": task(12, recall_at_1=0.6)}, "": {"n": 0}}},
            "seen": {"seen": part},
            "compare": compare_systems(
                {"dense": np.array([1, 2, 0, 1]), "fused": np.array([1, 1, 1, 2])}, resamples=50
            ),
            "no_match": {"removed": NilScore.of([0.1, 0.6, 0.6, 0.9], [1, 1, 0, 0], resamples=50).to_dict()},
        }
        write_json(folder / "mapping.json", read_json(folder / "mapping.json") | more)
        return folder / "mapping.json"

    @pytest.fixture
    def shown(self, measured):
        return render(ReportInputs(mapping=measured))

    def test_the_page_is_whole(self, shown):
        page = Page(shown)
        assert page.open == []
        assert page.identifiers == ["summary", "mapping", "calibration"]

    def test_calibration_and_its_thresholds(self, shown):
        rows = Page(shown).rows
        first = next(row for row in rows if row[0] == "Concept in the index")
        assert first[1] == "15"
        assert first[4:] == ["not reached", "not reached"]
        assert next(row for row in rows if row[0] == "All queries")[1] == "20"
        assert "area under the ROC curve of 0.875" in shown

    def test_calibration_is_drawn(self, shown):
        assert shown.count("<figure>") == 4
        assert 'class="bins"' in shown

    def test_systems_are_compared(self, shown):
        rows = Page(shown).rows
        change = next(row for row in rows if row[0] == "Dense to Fused")
        assert change[1].startswith("+0.2500")
        assert change[-2:] == ["1 : 2", "p = 1.000"]

    def test_parts_show_what_is_in_the_index(self, shown):
        rows = Page(shown).rows
        assert ["DISO", "12", "0.600 [0.580, 0.620]"] in rows
        assert ["(empty)", "0", ""] in rows
        assert '<tr class="ours"><th scope="row">Fused' in shown
        assert '<tr class="ours"><th scope="row">(empty)' not in shown
        assert any(row[:2] == ["seen", "20"] for row in rows)

    def test_all_in_the_index_is_drawn_once(self, measured):
        document = read_json(measured)
        document["calibration"]["in_index"] = document["calibration"]["all"]
        write_json(measured, document)
        rows = Page(render(ReportInputs(mapping=measured))).rows
        assert [row[0] for row in rows if row[0] in {"All queries", "Concept in the index"}] == [
            "All queries"
        ]

    @pytest.mark.parametrize("name", ["calibration", "by", "seen", "compare", "no_match"])
    def test_each_may_be_missing_and_none_may_have_another_shape(self, measured, name):
        document = read_json(measured)
        without = {key: value for key, value in document.items() if key != name}
        write_json(measured, without)
        assert Page(render(ReportInputs(mapping=measured))).open == []
        write_json(measured, document | {name: {"all": 3, "removed": 3, "n": 2}})
        with pytest.raises(InputError, match=r"mapping\.json"):
            render(ReportInputs(mapping=measured))
