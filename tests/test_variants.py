"""The table of variants."""

import pytest

from deft.variants import COMPARED, VARIANTS, known_variant


def test_names_are_unique_and_serve_as_folders():
    assert all(name == variant.name and name == name.strip("./ ") for name, variant in VARIANTS.items())
    assert len({variant.title for variant in VARIANTS.values()}) == len(VARIANTS)
    assert set(COMPARED) <= set(VARIANTS)


def test_an_unknown_name_is_answered_with_the_list():
    assert known_variant("inc") == "inc"
    with pytest.raises(ValueError, match="there is no variant 'int4'; there are onnxruntime, inc"):
        known_variant("int4")
