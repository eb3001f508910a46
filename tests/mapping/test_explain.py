"""Explanations: they tell the truth about the ranking, in words."""

from dataclasses import replace

import numpy as np
import pytest
from demo import ATOMS, TYPES, Atom, make_concepts, make_mapper, make_model, write_lines

from deft.errors import InputError
from deft.exchange.curated import read_curated
from deft.mapping.explain import KINDS, explain
from deft.mapping.kinds import Kinds
from deft.mapping.pool import FEATURES

LONG = "insuffisance cardiaque droite chronique du sujet très âgé"


@pytest.fixture(scope="module")
def concepts():
    kept = [atom for atom in ATOMS if atom.suppress == "N"]
    return make_concepts([*kept, Atom("C0000007", "hypertension artérielle"), Atom("C0000008", LONG)], TYPES)


@pytest.fixture(scope="module")
def mapper(concepts):
    return make_mapper(concepts)


def test_every_signal_is_of_one_kind():
    assert sorted(name for names in KINDS.values() for name in names) == sorted(FEATURES)


def test_what_is_explained_is_what_is_mapped(mapper):
    for term in ("crise cardiaque", "mal de tete", "RHUME", "HTA"):
        explanation = explain(mapper, term, 4)
        assert explanation.mapping == mapper.map([term], 4)[0]
        assert [reason.candidate for reason in explanation.reasons] == list(explanation.mapping.candidates)


@pytest.mark.parametrize("term", ["crise cardiaque", "mal de tete", "coeur", "rhume", "xyz"])
def test_differences_add_up_to_those_of_the_scores(mapper, term):
    (pool,) = mapper.pools([term])
    scores = dict(zip(pool.concept, mapper.model.scores(pool), strict=True))
    first, *others = explain(mapper, term, 7).reasons
    assert first.behind == {}
    best = scores[mapper.concepts.row_of(first.candidate.cui)]
    for reason in others:
        assert set(reason.behind) == set(KINDS)
        own = scores[mapper.concepts.row_of(reason.candidate.cui)]
        assert sum(reason.behind.values()) == pytest.approx(own - best, abs=0.03)
        assert sum(reason.behind.values()) <= 0.03


def test_each_kind_holds_its_signals(mapper):
    (pool,) = mapper.pools(["crise cardiaque"])
    first, second, *_ = explain(mapper, "crise cardiaque").reasons
    places = [
        int(np.flatnonzero(pool.concept == mapper.concepts.row_of(reason.candidate.cui))[0])
        for reason in (first, second)
    ]
    for kind, names in KINDS.items():
        columns = [FEATURES.index(name) for name in names]
        difference = pool.features[places[1], columns] - pool.features[places[0], columns]
        assert second.behind[kind] == pytest.approx(difference @ mapper.model.weights[columns], abs=0.006)


def test_words_that_lack_and_words_that_are_added(mapper):
    (reason, *_) = explain(mapper, "infarctus aigu du MYOCARDE gauche").reasons
    assert reason.candidate.matched == "infarctus du myocarde"
    assert (reason.missing, reason.extra) == (("aigu", "gauche"), ())
    (reason, *_) = explain(mapper, "l'infarctus").reasons
    assert (reason.missing, reason.extra) == ((), ("du", "myocarde"))


def test_how_the_query_was_read(mapper):
    explanation = explain(mapper, "  HTA ")
    (variant, *_) = explanation.query.variants
    assert (variant.text, variant.rule) == ("hypertension artérielle", "abbreviation")
    assert explanation.reasons[0].candidate.cui == "C0000007"
    lines = list(explanation.lines())
    assert lines[1] == "  also read as 'hypertension artérielle' (abbreviation)"


def test_the_table(mapper):
    term = "infarctus aigu"
    explanation = explain(mapper, term, 2)
    lines = list(explanation.lines())
    assert lines[0] == term
    header, *rows = [line for line in lines[1:] if not line.startswith("      ")]
    assert header.split() == [
        *("CUI", "concept", "by", "the", "string", "how", "meaning", "spelling", "confidence")
    ]
    assert len(rows) == 2
    for row, candidate in zip(rows, explanation.mapping.candidates, strict=True):
        assert row.split()[:2] == [str(candidate.rank), candidate.cui]
        assert f"[{candidate.source}]" in row
        assert row.split()[-4:] == [
            candidate.match,
            f"{candidate.cosine:.3f}",
            f"{candidate.lexical:.3f}",
            f"{candidate.confidence:.3f}",
        ]
        assert row.index(candidate.cui) == header.index("CUI")
    notes = [line for line in lines if line.startswith("      ")]
    assert notes[0] == "      the string lacks aigu; adds du, myocarde"
    second = explanation.reasons[1].behind
    lost = ", ".join(
        f"{kind} {value:+.1f}" for value, kind in sorted((v, k) for k, v in second.items()) if value < 0
    )
    assert f"      after the first by {lost}" in notes
    assert any(line.startswith("      before it by ") for line in notes) == any(
        value > 0 for value in second.values()
    )


def test_long_names_are_cut(mapper):
    lines = list(explain(mapper, LONG, 1).lines())
    assert LONG not in "".join(lines[1:])
    assert "insuffisance cardiaque droite chr…" in lines[2]


def test_an_ambiguous_string(mapper):
    assert "  ambiguous: another concept carries the same string" in list(explain(mapper, "rhume").lines())
    assert not any("ambiguous" in line for line in explain(mapper, "céphalée").lines())


def test_what_a_person_chose_and_what_is_left_when_all_is_rejected(concepts, tmp_path):
    path = tmp_path / "c.tsv"
    rows = ["rhume\tC0000005\taccept", *(f"cœur\tC{place:07d}\treject" for place in range(1, 9))]
    write_lines(path, ["query\tcui\tdecision", *rows])
    mapper = make_mapper(concepts, curated=read_curated(path))
    explanation = explain(mapper, "rhume", 2)
    assert explanation.reasons[0].candidate.match == "curated"
    assert "curated" in list(explanation.lines())[2]
    assert list(explain(mapper, "coeur").lines()) == ["coeur", "  no match"]


def test_bad_terms(mapper):
    with pytest.raises(InputError, match="term 1 is empty"):
        explain(mapper, " ")
    with pytest.raises(InputError, match="k must be at least 1"):
        explain(mapper, "rhume", 0)


class TestDoubts:
    """Why confidence is low, in words."""

    @pytest.fixture(scope="class")
    @staticmethod
    def doubter(concepts):
        """A mapper that is never sure, and that takes all it is asked for a drug."""
        kinds = Kinds(("CHEM", "DISO"), np.zeros((2, 24)), np.array([5.0, 0.0]))
        return make_mapper(concepts, model=replace(make_model(), kinds=kinds), expected_present=1e-4)

    @pytest.mark.parametrize(
        ("term", "doubts"),
        [
            ("rhume", ["a drug or a substance"]),
            (
                "suspicion de rhume chez le père",
                ["a drug", "doubted and of others", "% of how it is written"],
            ),
            ("RHU", ["a drug", "an abbreviation that no rule reads"]),
        ],
    )
    def test_each_is_said(self, doubter, term, doubts):
        explanation = explain(doubter, term)
        assert explanation.mapping.confidence < 0.5
        assert len(explanation.doubts) == len(doubts)
        assert all(part in doubt for part, doubt in zip(doubts, explanation.doubts, strict=True))
        lines = list(explanation.lines())
        assert [line for line in lines if line.startswith("  in doubt: ")] == [
            f"  in doubt: {doubt}" for doubt in explanation.doubts
        ]

    def test_nothing_is_said_where_it_is_sure(self, concepts):
        explanation = explain(make_mapper(concepts, expected_present=0.9999), "infarctus du myocarde")
        assert explanation.mapping.confidence > 0.5
        assert explanation.doubts == ()


def test_what_stands_beside_the_term_is_explained_too(concepts):
    model = make_model()
    model.weights[FEATURES.index("context")] = 5.0
    mapper = make_mapper(concepts, model=model)
    explanation = explain(mapper, "rhume", context="rhinopharyngite")
    assert explanation.mapping == mapper.map(["rhume"], contexts=["rhinopharyngite"])[0]
    assert any(reason.behind.get("context") for reason in explanation.reasons)
