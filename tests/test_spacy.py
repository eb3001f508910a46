"""The spaCy component: what it writes into Docs, alone, in batches, in worker processes and after saving."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace

import pytest

spacy = pytest.importorskip("spacy")

from spacy.tokens import Doc, DocBin, Span  # noqa: E402

import deft.spacy  # noqa: E402
from deft.errors import InputError  # noqa: E402
from deft.mapping.fusion import EXPECTED_PRESENT  # noqa: E402
from deft.mapping.mapper import TermMapper  # noqa: E402
from deft.spacy import NIL, DeftLinker  # noqa: E402

PATTERNS = [
    {
        "label": "DISO",
        "pattern": [{"LOWER": "crise"}, {"IS_SPACE": True, "OP": "?"}, {"LOWER": "cardiaque"}],
    },
    {"label": "DISO", "pattern": [{"LOWER": "rhume"}]},
    {"label": "ANAT", "pattern": [{"LOWER": "cœur"}]},
]
SENTENCES = ["Crise cardiaque en 2019, et une crise cardiaque.", "Aucun rhume.", "Rien.", "Cœur et rhume."]


@pytest.fixture
def pipeline(built):
    """Make a French pipeline that finds the patterns and links them."""

    def make(**config):
        nlp = spacy.blank("fr")
        nlp.add_pipe("entity_ruler").add_patterns(PATTERNS)
        nlp.add_pipe("deft_linker", config={"index": str(built), **config})
        return nlp

    return make


@pytest.fixture
def calls(monkeypatch):
    """Record what the mapper is asked for, from the opening of the index on."""
    calls = []
    ask = TermMapper.map

    def record(self, terms, *arguments, **options):
        calls.append((list(terms), arguments, options))
        return ask(self, terms, *arguments, **options)

    monkeypatch.setattr(TermMapper, "map", record)
    return calls


def links(doc):
    return [(ent.text, ent.kb_id_) for ent in doc.ents]


def test_entities_get_their_concept_and_their_candidates(pipeline, built):
    doc = pipeline(k=2)(SENTENCES[0])
    assert links(doc) == [("Crise cardiaque", "C0000003"), ("crise cardiaque", "C0000003")]
    assert [token.ent_kb_id_ for token in doc[:3]] == ["C0000003", "C0000003", ""]
    assert [ent._.deft for ent in doc.ents] == TermMapper.open(built).map([ent.text for ent in doc.ents], k=2)
    assert doc[2:4]._.deft is None
    assert doc[0:2]._.deft is None  # the same words, but not that entity


def test_line_breaks_inside_an_entity(pipeline):
    (ent,) = pipeline()("une crise\n  cardiaque").ents
    assert ent.text == "crise\n  cardiaque"
    assert ent.kb_id_ == "C0000003"
    assert ent._.deft.query == "crise cardiaque"


def test_a_batch_is_one_search(pipeline, calls):
    nlp = pipeline()
    calls.clear()
    together = list(nlp.pipe(SENTENCES, batch_size=10))
    terms = ["Crise cardiaque", "crise cardiaque", "rhume", "Cœur", "rhume"]
    assert [asked for asked, _, _ in calls] == [terms]
    assert [doc.text for doc in together] == SENTENCES
    calls.clear()
    assert [links(doc) for doc in nlp.pipe(SENTENCES, batch_size=3)] == [links(doc) for doc in together]
    assert len(calls) == 2
    assert [links(nlp(text)) for text in SENTENCES] == [links(doc) for doc in together]


def test_settings_reach_the_search(pipeline, calls):
    nlp = pipeline(k=3, threshold=0.25, channel="lexical", label_groups={"DISO": "DISO"})
    calls.clear()
    nlp("Cœur et rhume.")
    options = {"channel": "lexical", "groups": ["", "DISO"], "contexts": ["", ""]}
    assert calls == [(["Cœur", "rhume"], (3, 0.25), options)]


def test_the_sentence_around_a_span_is_its_context(pipeline, calls):
    nlp = pipeline(sentences=True)
    with pytest.raises(ValueError, match="E030"):
        nlp("Un rhume.")
    nlp.add_pipe("sentencizer", first=True)
    calls.clear()
    nlp("Il tousse. Un rhume banal. Rhume")
    ((_, _, options),) = calls
    assert options["contexts"] == ["Un rhume banal.", ""]  # a span that is its sentence has nothing beside it


def test_the_share_that_is_expected_moves_confidence(pipeline):
    (usual,), (few,) = (pipeline(**config)("un rhume").ents for config in ({}, {"expected_present": 0.1}))
    assert few._.deft.confidence < usual._.deft.confidence
    with pytest.raises(InputError, match="expected_present must be above 0 and below 1, not 1"):
        pipeline(expected_present=1)


def test_a_label_limits_the_semantic_group(pipeline):
    def groups(**config):
        doc = pipeline(k=6, **config)("Cœur et rhume.")
        return [
            {tui for candidate in ent._.deft.candidates for tui in candidate.semantic_types}
            for ent in doc.ents
        ]

    every = {"T023", "T033", "T047", "T061", "T184"}
    assert groups() == [every, every]
    assert groups(label_groups={"DISO": "DISO", "OTHER": "PROC"}) == [every, {"T033", "T047", "T184"}]


def test_curated_mappings_come_first(pipeline, tmp_path):
    decisions = tmp_path / "curated.tsv"
    decisions.write_text("query\tcui\tdecision\tname\tcomment\nrhume\tC0000004\taccept\t\t\n")
    (ent,) = pipeline(curated=str(decisions))("un rhume").ents
    assert (ent.kb_id_, ent._.deft.best.match) == ("C0000004", "curated")


def test_threshold_leaves_no_candidate(pipeline):
    (ent,) = pipeline(threshold=1.5)("un rhume").ents
    assert (ent.kb_id_, ent._.deft.query, ent._.deft.candidates) == (NIL, "rhume", ())


@pytest.mark.parametrize(("least", "kb_id"), [(None, "C0000001"), (0.5, "C0000001"), (0.51, NIL)])
def test_least_confidence(pipeline, monkeypatch, least, kb_id):
    nlp = pipeline(min_confidence=least, k=1)
    ask = TermMapper.map

    def unsure(self, *arguments, **options):
        (mapping,) = ask(self, *arguments, **options)
        return [replace(mapping, candidates=(replace(mapping.best, confidence=0.5),))]

    monkeypatch.setattr(TermMapper, "map", unsure)
    (ent,) = nlp("rhume").ents
    assert ent.kb_id_ == kb_id
    assert ent._.deft.best.cui == "C0000001"  # stays to be seen


class TestSpanGroups:
    def group(self, nlp, text, *spans):
        doc = nlp.make_doc(text)
        doc.spans["found"] = [Span(doc, start, end, label) for start, end, label in spans]
        return doc

    def test_overlapping_spans_and_white_space(self, pipeline):
        nlp = pipeline(span_group="found")
        doc = self.group(nlp, "crise cardiaque \n\n .", (0, 2, "A"), (1, 2, "B"), (2, 3, "A"), (1, 1, "A"))
        whole, part, white, empty = nlp.get_pipe("deft_linker")(doc).spans["found"]
        assert [span.label_ for span in doc.spans["found"]] == ["A", "B", "A", "A"]
        assert whole.kb_id_ == whole._.deft.best.cui == "C0000003"
        assert part.kb_id_ == part._.deft.best.cui
        assert part._.deft.query == "cardiaque"
        assert (white.kb_id_, white._.deft) == (empty.kb_id_, empty._.deft) == ("", None)
        assert not doc.ents

    def test_the_same_words_under_two_labels(self, pipeline):
        nlp = pipeline(span_group="found")
        doc = self.group(nlp, "rhume", (0, 1, "A"), (0, 1, "B"))
        first, second = nlp.get_pipe("deft_linker")(doc).spans["found"]
        first._.deft = replace(first._.deft, candidates=())
        assert first._.deft.best is None
        assert second._.deft.best.cui == "C0000001"

    def test_a_group_that_is_not_there(self, pipeline):
        nlp = pipeline(span_group="fuond")
        with pytest.raises(InputError, match=r"no span group 'fuond'; it has 'found'\. Name in"):
            nlp.get_pipe("deft_linker")(self.group(nlp, "rhume"))


@pytest.mark.parametrize(("overwrite", "kb_id"), [(True, "C0000001"), (False, "Q1")])
def test_overwrite(pipeline, overwrite, kb_id):
    nlp = pipeline(overwrite=overwrite)
    doc = nlp.make_doc("rhume et crise cardiaque")
    doc.ents = [Span(doc, 0, 1, "DISO", kb_id="Q1"), Span(doc, 2, 4, "DISO")]
    assert [ent.kb_id_ for ent in nlp.get_pipe("deft_linker")(doc).ents] == [kb_id, "C0000003"]


class TestKeeping:
    """Mappings live as long as the Doc, in whatever form."""

    @pytest.fixture
    def nlp(self, pipeline):
        return pipeline(k=2)

    @pytest.fixture
    def doc(self, nlp):
        return nlp(SENTENCES[0])

    def mappings(self, doc):
        return [ent._.deft for ent in doc.ents]

    def test_bytes(self, nlp, doc):
        back = Doc(nlp.vocab).from_bytes(doc.to_bytes())
        assert (links(back), self.mappings(back)) == (links(doc), self.mappings(doc))

    def test_doc_bin(self, doc):
        saved = DocBin(docs=[doc], store_user_data=True).to_bytes()
        (back,) = DocBin().from_bytes(saved).get_docs(spacy.blank("fr").vocab)
        assert (links(back), self.mappings(back)) == (links(doc), self.mappings(doc))

    def test_json(self, nlp, doc):
        plain = json.loads(json.dumps(doc.to_json(underscore=["deft"])))
        back = Doc(nlp.vocab).from_json(plain)
        assert self.mappings(back) == self.mappings(doc)

    def test_cut_and_joined(self, doc):
        (ent,) = doc[5:].as_doc(copy_user_data=True).ents
        assert ent._.deft == self.mappings(doc)[1]
        assert self.mappings(Doc.from_docs([doc, doc])) == self.mappings(doc) * 2

    def test_reading_changes_nothing(self, doc):
        before = dict(doc.user_data)
        assert doc[2:3]._.deft is None
        assert doc.user_data == before


class TestErrors:
    """What fails is for spaCy's error handler to judge, and takes nothing else along."""

    @pytest.fixture
    def nlp(self, pipeline, monkeypatch):
        nlp = pipeline()
        ask = TermMapper.map

        def fail(self, terms, *arguments, **options):
            if {"cœur", "Cœur"} & set(terms):
                raise RuntimeError("no heart")
            return ask(self, terms, *arguments, **options)

        monkeypatch.setattr(TermMapper, "map", fail)
        return nlp

    def test_raised_by_default(self, nlp):
        with pytest.raises(RuntimeError, match="no heart"):
            list(nlp.pipe(SENTENCES))
        with pytest.raises(RuntimeError, match="no heart"):
            nlp("cœur")

    def test_only_the_doc_that_fails_is_lost(self, nlp):
        seen = []
        nlp.set_error_handler(lambda name, linker, docs, error: seen.append((name, docs[0].text, str(error))))
        assert [doc.text for doc in nlp.pipe(SENTENCES)] == SENTENCES[:3]
        assert seen == [("deft_linker", SENTENCES[3], "no heart")]


class TestSaving:
    def test_saved_and_loaded(self, pipeline, tmp_path):
        nlp = pipeline(k=2, label_groups=None)
        nlp.to_disk(tmp_path / "model")
        back = spacy.load(tmp_path / "model")
        assert back.get_pipe("deft_linker").cfg == nlp.get_pipe("deft_linker").cfg
        assert links(back("un rhume")) == [("rhume", "C0000001")]

    def test_another_place_when_loaded(self, pipeline, built, tmp_path):
        pipeline().to_disk(tmp_path / "model")
        config = tmp_path / "model" / "config.cfg"
        config.write_text(config.read_text().replace(str(built), "/nowhere/umls_index"))
        with pytest.raises(InputError, match="/nowhere/umls_index"):
            spacy.load(tmp_path / "model")
        back = spacy.load(tmp_path / "model", config={"components.deft_linker.index": str(built)})
        assert links(back("un rhume")) == [("rhume", "C0000001")]
        assert back.config["components"]["deft_linker"]["index"] == str(built)

    def test_bytes(self, pipeline):
        nlp = pipeline(k=2)
        back = spacy.blank("fr").from_config(nlp.config).from_bytes(nlp.to_bytes())
        assert links(back("un rhume")) == [("rhume", "C0000001")]


def test_settings_are_those_of_the_configuration(pipeline, built):
    nlp = pipeline(k=2, min_confidence=None)
    cfg = nlp.get_pipe("deft_linker").cfg
    assert cfg == {
        "index": str(built),
        "k": 2,
        "min_confidence": None,
        "threshold": None,
        "channel": "fused",
        "span_group": None,
        "label_groups": None,
        "curated": None,
        "expected_present": EXPECTED_PRESENT,
        "sentences": False,
        "overwrite": True,
    }
    assert {"factory": "deft_linker", **cfg} == nlp.config["components"]["deft_linker"]


class TestSettingsThatAreWrong:
    """They are told when the component is made, not at the first Doc."""

    def test_no_index(self, tmp_path):
        with pytest.raises(InputError, match=f"{tmp_path}.*is no index"):
            spacy.blank("fr").add_pipe("deft_linker", config={"index": str(tmp_path)})

    def test_index_not_given(self):
        with pytest.raises(ValueError, match="index\tmissing required argument"):
            spacy.blank("fr").add_pipe("deft_linker")

    def test_no_such_group(self, pipeline):
        with pytest.raises(InputError, match="no semantic group is called DISEASE"):
            pipeline(label_groups={"DISO": "DISEASE"})

    def test_k(self, pipeline):
        with pytest.raises(InputError, match="k must be at least 1, not 0"):
            pipeline(k=0)

    @pytest.mark.parametrize(
        "wrong", [{"k": "many"}, {"label_groups": "DISO"}, {"channel": "sparse"}, {"indexx": "a"}]
    )
    def test_type(self, pipeline, wrong):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            pipeline(**wrong)


WORKERS = """
import multiprocessing, sys
import spacy, deft.spacy

if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    nlp = spacy.blank("fr")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "DISO", "pattern": [{"TEXT": "rhume"}, {}]}])
    nlp.add_pipe("deft_linker", config={"index": sys.argv[1]})
    texts = [f"rhume {number}" for number in range(40)]
    here = [doc.ents[0]._.deft for doc in nlp.pipe(texts)]  # FAISS has its threads before the fork
    there = list(nlp.pipe(texts, n_process=2, batch_size=10))
    assert [doc.ents[0]._.deft for doc in there] == here
    print(*{ent._.deft.best.cui == ent.kb_id_ for doc in there for ent in doc.ents})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks only on Linux")
def test_forked_workers(built, tmp_path):
    script = tmp_path / "workers.py"
    script.write_text(WORKERS)
    command = [sys.executable, script, built]
    threads = os.environ | {"OMP_NUM_THREADS": "2"}  # one thread would survive a fork
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=threads)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True\n"


def test_spawned_workers_open_the_index_again(pipeline):
    linker = pipeline(k=2).get_pipe("deft_linker")
    linker.set_error_handler(print)
    back = pickle.loads(pickle.dumps(linker))
    assert (back.name, back.cfg, back.get_error_handler()) == (linker.name, linker.cfg, print)
    doc = spacy.blank("fr")("rhume")
    doc.ents = [Span(doc, 0, 1, "DISO")]
    assert links(back(doc)) == [("rhume", "C0000001")]


def test_a_whole_pipeline_is_pickled(pipeline):
    nlp = pipeline(k=2)
    back = pickle.loads(pickle.dumps(nlp))
    assert back.get_pipe("deft_linker").cfg == nlp.get_pipe("deft_linker").cfg
    assert links(back("un rhume")) == links(nlp("un rhume")) == [("rhume", "C0000001")]


def test_no_text_of_a_patient_is_logged(pipeline, tmp_path, caplog):
    curated = tmp_path / "c.tsv"
    rows = ("rhume\tC9999999\taccept", "rhume\tC0000001\taccept", "crise cardiaque\tC8888888\treject")
    curated.write_text("\n".join(("query\tcui\tdecision", *rows, "")))
    nlp = pipeline(curated=str(curated), min_confidence=0.9)
    for _ in nlp.pipe([*SENTENCES, "crise cardiaque " * 500]):
        pass
    assert "C9999999 is not in the index" in caplog.text
    assert not [word for word in ("rhume", "crise", "cardiaque") if word in caplog.text.casefold()]


def test_pipelines_without_a_linker_stay_light():
    # spaCy imports the module with every pipeline, linked or not
    code = "import sys, deft.spacy; print({'faiss', 'onnxruntime', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_without_spacy():
    code = "import sys; sys.modules['spacy'] = None; import deft.spacy"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "needs spacy, which is not installed. Install it with: pip install 'deft[spacy]'" in done.stderr


def test_the_factory_is_an_entry_point():
    from importlib.metadata import entry_points

    (point,) = entry_points(group="spacy_factories", name="deft_linker")
    assert point.load() is DeftLinker is deft.spacy.DeftLinker
    code = "import spacy; print(spacy.blank('fr').has_factory('deft_linker'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
