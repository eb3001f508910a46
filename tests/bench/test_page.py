"""Tables and pages of measurements; nothing is fetched by them."""

import pytest
from bench_results import encoder_results, point

from deft.bench import index, page
from deft.bench.systems import FP32


@pytest.fixture
def results():
    return encoder_results()


def test_table_has_a_row_a_system(results):
    table = page.encoder_table(results)
    (line, *_) = [line for line in table.splitlines() if line.startswith(FP32)]
    assert line.split()[-11:] == [
        "120",
        "3.00",
        "200",
        "20",
        "0.9990",
        "12.0",
        "12.0",
        "1,200",
        "12",
        "0.500",
        "0.700",
    ]
    assert "random weights" in table
    assert [line.split()[-1] for line in table.splitlines() if line.startswith(FP32)] == ["0.700", "-"]


def test_page_of_encoders_is_whole_and_asks_for_nothing(results, tmp_path):
    page.write_page(results, tmp_path / "page.html", command="deft bench encoders")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "http" not in html
    assert "deft bench encoders" in html
    assert "&lt;shape&gt; has random weights" in html
    drawings = html.split("<svg")[1:]
    assert len(drawings) == 2


def test_page_of_growth_marks_what_was_projected(results, tmp_path):
    points = [point(100_000, 3.0), point(4_000_000, 3.0)]
    found = {
        "points": points,
        "projection": index.project(points, 15_000_000),
        "params": {"queries": 10, "embedded": 10},
        "hardware": results["hardware"],
        "versions": results["versions"],
    }
    page.write_page(found, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert html.count("<svg") == len(index.GROWING)
    assert "47 at 15 M" in html
    assert "straight line" in html
    assert "(projected)" in page.index_table(found)
    one = found | {"points": points[:1], "projection": None}
    page.write_page(one, tmp_path / "one.html")
    assert "straight line" not in (tmp_path / "one.html").read_text(encoding="utf-8")
    assert "(projected)" not in page.index_table(one)
