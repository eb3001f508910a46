"""The least time of a text on a machine: operations and peaks."""

import pytest

from deft.bench import limit
from deft.bench.systems import Shape


def test_work_counts_the_products_of_a_layer():
    # one layer of 2 x 2 with 3 in the middle, one text of 5 tokens: queries, keys, values, output
    work = limit.work_of(Shape(layers=1, hidden=2, intermediate=3), [5])
    assert work["weights"] == 4 * (2 * 5 * 2 * 2) + 2 * (2 * 5 * 2 * 3)
    assert work["attention"] == 2 * (2 * 5 * 5 * 2)


def test_work_is_the_mean_over_texts():
    shape = Shape(layers=3, hidden=4, intermediate=8)
    one, other, both = (limit.work_of(shape, tokens) for tokens in ([2], [6], [2, 6]))
    for name in both:
        assert both[name] == pytest.approx((one[name] + other[name]) / 2)


def test_limit_takes_each_product_at_the_peak_of_its_type():
    work, peak = {"weights": 80.0, "attention": 20.0}, {"fp32": 10.0, "int8": 40.0}
    assert limit.limit_of(work, peak, "fp32") == pytest.approx(1 / 10)
    assert limit.limit_of(work, peak, "int8") == pytest.approx(1 / 4)


def test_products_of_both_types_are_measured():
    rates = limit.products({"threads": 1, "size": 32}, lambda: None)
    assert set(rates) == {"fp32", "int8"}
    assert min(rates.values()) > 0


def test_tokens_are_counted_as_the_encoder_sees_them(bundle):
    counts = limit.count_tokens(["abc", "a" * 500], bundle)
    assert counts == [3, 64]  # a letter is a token, and the bundle cuts at 64
