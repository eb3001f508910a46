"""The report is one page that holds what was measured and nothing else."""

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from deft.errors import InputError
from deft.evaluation.leaderboard import Row, update_leaderboard, write_leaderboard
from deft.evaluation.linking import Miss, write_misses
from deft.evaluation.report import ReportInputs, build_report, render
from deft.files import write_json

VOID = {"meta", "br", "line", "circle", "polyline"}


class Page(HTMLParser):
    """Text by element, open elements, and what would be fetched."""

    def __init__(self, html):
        super().__init__()
        self.open, self.fetched, self.rows, self.identifiers = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.fetched += [named[key] for key in ("src", "href", "srcset", "data") if key in named]
        self.identifiers += [named["id"]] if "id" in named else []
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
        [Miss('<b>toux</b> & "fièvre"', "C1", "toux", "C2", "rhume", "RHUME", 0.91, None)],
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
    assert not re.search(r"https?://|//cdn|@import|url\(|<script|<link", html)
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


def test_the_plot_marks_every_depth_of_every_system(html):
    assert html.count("<figure>") == 2
    assert html.count("<circle") == 2 * 2 * 4
    heights = [float(y) for y in re.findall(r'<text x="270" y="([\d.]+)"', html)]
    assert len(heights) == 2 * 2 * 2


def test_labels_of_close_curves_do_not_overlap(folder):
    systems = {"deft": linking(0.5), "ngrams": linking(0.499)}
    write_json(folder / "mapping.json", {"data": "sample", "systems": systems})
    html = render(ReportInputs(mapping=folder / "mapping.json"))
    heights = sorted(float(y) for y in re.findall(r'<text x="270" y="([\d.]+)"', html))
    assert all(lower - upper > 10 for upper, lower in pairwise(heights))


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
