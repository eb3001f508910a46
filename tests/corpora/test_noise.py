"""The ways in which people write a term."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import OSA

from deft.corpora import noise as module
from deft.corpora.noise import KINDS, SLIPS, noisy, noisy_texts
from deft.text import fold

NAMES = ("Accident vasculaire cérébral", "hépato-splénomégalie", "Thalassémie bêta", "diabète de type 2")


@pytest.mark.parametrize(
    ("kind", "text", "allowed"),
    [
        ("accents", "Thalassémie bêta", {"Thalassemie beta"}),
        ("hyphens", "hépato-splénomégalie", {"hépato splénomégalie", "hépatosplénomégalie"}),
        ("glued", "mal de tête", {"malde tête", "mal detête"}),
        ("number", "maux", {None}),
        ("number", "douleur", {"douleurs"}),
        ("number", "douleurs", {"douleur"}),
        ("greek", "Thalassémie bêta", {"Thalassémie β"}),
        ("greek", "mal de tête", {None}),
        ("numeral", "diabète de type 2", {"diabète de type II"}),
        ("numeral", "diabète de type II", {"diabète de type 2"}),
        ("numeral", "grade 20", {None}),
        ("mojibake", "été", {"Ã©tÃ©"}),
        ("capitals", "été", {"ÉTÉ", "ETE"}),
        ("by ear", "pharynx", {"farynx", "pharinx", "pharyncs", "farinx", "faryncs", "pharincs"}),
        ("swapped", "aaaa", {None}),
        ("swapped", "os", {None}),
        ("split", "asthme", {"as thme", "ast hme", "asth me"}),
        ("cut short", "asthme", {None}),
    ],
)
def test_what_each_kind_does(kind, text, allowed):
    found = {noisy(text, kind, seed) for seed in range(40)}
    assert found <= allowed
    assert len(found) >= min(2, len(allowed))


@pytest.mark.parametrize("kind", [kind for kind in SLIPS if kind != "slips"])
@given(text=st.sampled_from(NAMES), seed=st.integers(0, 99))
def test_a_slip_is_one_letter(kind, text, seed):
    assert OSA.distance(text, noisy(text, kind, seed)) == 1


@given(text=st.sampled_from(NAMES), seed=st.integers(0, 99))
def test_slips_are_in_two_words(text, seed):
    changed = noisy(text, "slips", seed)
    if len(re.findall(r"\w{4,}", text)) < 2:
        assert changed is None
    else:
        before, after = (re.findall(r"\w+", value) for value in (text, changed))
        assert sum(one != other for one, other in zip(before, after, strict=True)) == 2


def test_words_that_are_cut_short_start_as_they_did():
    for seed in range(20):
        changed = noisy("Accident vasculaire cérébral", "cut short", seed)
        cut = [word.removesuffix(".") for word in changed.split() if word.endswith(".")]
        assert cut
        assert all(3 <= len(word) <= 5 for word in cut)
        whole = ("Accident", "vasculaire", "cérébral")
        assert all(word.removesuffix(".") == full[: len(word.removesuffix("."))]
                   for word, full in zip(changed.split(), whole, strict=True))  # fmt: skip


def test_keys_are_neighbours_of_each_other():
    for key, near in module._KEYS.items():
        assert key not in near
        assert all(key in module._KEYS[other] for other in near)
    assert set(module._KEYS["g"]) == set("fhtyvb")


@given(text=st.text(max_size=40), kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 9))
def test_the_same_every_time_and_never_the_text_itself(text, kind, seed):
    changed = noisy(text, kind, seed)
    assert changed == noisy(text, kind, seed)
    assert changed not in ("", text)


def test_each_seed_draws_anew():
    assert len({noisy("rhinopharyngite", "mistyped", seed) for seed in range(30)}) > 10


def test_texts_get_a_kind_each():
    found = noisy_texts([*NAMES, "x"], seed=3)
    assert found == noisy_texts([*NAMES, "x"], seed=3)
    assert all(
        noisy(text, kind, 3) == changed for text, (kind, changed) in zip(NAMES, found[:-1], strict=True)
    )
    assert dict(noisy_texts(["7"], 3, SLIPS)) == {"": "7"}
    kinds = {kind for kind, _ in noisy_texts([f"{name} {place}" for place in range(60) for name in NAMES], 1)}
    assert len(kinds) > 10


def test_what_is_heard_is_only_changed_a_little():
    for text in NAMES:
        heard = module._by_ear(text, random.Random(1))
        assert OSA.distance(fold(text), fold(heard)) <= 6
