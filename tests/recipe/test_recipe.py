"""The recipe of the shipped encoder on a few lines of each input: what is kept out, and the whole of it."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("sentence_transformers")

import torch
from demo import Atom, write_umls
from sentence_transformers import SentenceTransformer

from deft.corpora.deft2020 import SentenceSet, write_t2
from deft.corpora.split import held_out
from deft.encoder.bundle import FILES, EncoderInfo
from deft.encoder.runtime import Encoder
from deft.errors import InputError
from deft.recipe import recipe
from deft.recipe.card import Sizes, model_card
from deft.recipe.inputs import build_corpora
from deft.recipe.params import RecipeParams
from deft.recipe.pretrain import Trainer
from deft.recipe.recipe import pretrain, teacher_folder
from deft.text import normalize
from deft.training.base import load_base

ATOMS = (
    Atom("C0000001", "céphalée"),
    Atom("C0000001", "mal de crâne", preferred=False),
    Atom("C0000001", "headache", "ENG"),
    Atom("C0000002", "diplopie"),
    Atom("C0000002", "vision dédoublée", preferred=False),
    Atom("C0000002", "diplopia", "ENG"),
    Atom("C0000002", "double vision", "ENG", preferred=False),
    Atom("C0000003", "hypertension artérielle"),
    Atom("C0000003", "tension élevée", preferred=False),
    Atom("C0000003", "HTA", preferred=False),
    Atom("C0000003", "high blood pressure", "ENG"),
    Atom("C0000004", "syndrome commun"),  # names two concepts, one of them held out
    Atom("C0000001", "syndrome commun", preferred=False),
    Atom("C0000005", "migraine"),
    Atom("C0000005", "maux de tête récurrents", preferred=False),  # contains a held-out term
    Atom("C0000005", "hémicrânie", preferred=False),
    Atom("C0000006", "knee", "ENG"),
    Atom("C0000006", "knee joint", "ENG", preferred=False),
    Atom("C0000007", "fièvre", "SPA"),  # of another language
)
KEPT_OUT = (
    ("violents maux de tête", "céphalées"),  # held-out terms, in the plural
    ("douleurs du crâne", "céphalée"),
    ("lourdeurs de la tête", "mal de crâne"),  # the held-out concept by a name that is no held-out term
    ("étau autour du front", "maux de crâne"),  # the same in the plural
    ("gêne diffuse", "syndrome commun"),
)
SENTENCES = (
    "Possible : vue qui se dédouble (diplopie).",
    "Possible : tension trop forte (hypertension artérielle).",
    "Possible : douleur d'un côté de la tête (migraine).",
    "Possible : gorge rouge (pharyngite aiguë).",
    "Possible : rougeur de peau (érythème diffus).",
    "Fréquent : rougeur de peau (érythème diffus).",
    *(f"Possible : {left} ({right})." for left, right in KEPT_OUT),
)
PARALLEL = (
    ("Is it raining?", "Pleut-il ?"),
    ("The dog runs.", "Le chien court."),
    ("A cat sleeps.", "Un chat dort."),
    ("A horse eats.", "Un cheval mange."),
    ("A bird sings.", "L'oiseau chante !"),
    ("", "rien"),
)
MENTIONS = (
    ("MEDLINE", "double vue", "C0000002"),
    ("MEDLINE", "vue double", "C0000002"),
    ("EMEA", "mal à la tête", "C0000001;C0000003"),  # contains a held-out term
    ("EMEA", "crâne douloureux", "C0000001"),  # of a held-out concept
    ("EMEA", "pression forte", "C0000003;C0000001"),
    ("EMEA", "chute", "C0999999"),  # of a concept that is not there
)
GRADED = (
    ("Le chien court.", "Un chien galope.", 4.2),
    ("Un homme mange.", "Une femme dort.", 0.5),
    ("Une fille lit.", "Une fille lit un livre.", 3.0),
    ("Il neige.", "La neige tombe.", 5.0),
)


LAY = (
    ("C0000002", "je vois double", "exact"),
    ("C0000002", "deux images pour une", "narrower"),
    ("C0000003", "la tension trop haute", "exact"),
    ("C0000003", "problème de tuyaux", "broader"),
    ("C0000001", "mon mal de tête", "exact"),  # contains a held-out term, and is another phrase
    ("C0000001", "mal à la tete !", "exact"),  # reads as a held-out term
    ("C0000005", "Vue qui se dédoublait", "exact"),  # as a held-out phrase, in another form
    ("C0999999", "chute", "exact"),  # of a concept that is not there
)


def write_tsv(path: Path, *rows: tuple[str, ...]) -> Path:
    data = "".join("\t".join(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """Every input of the recipe in its true format, and the parameter file."""
    folder = tmp_path_factory.mktemp("inputs")
    write_umls(folder / "umls" / "META", ATOMS)
    write_tsv(folder / "parallel.tsv.gz", ("source", "en", "fr"), *(("demo", *pair) for pair in PARALLEL))
    write_tsv(folder / "text.tsv.gz", ("source", "sentence"), *(("leaflet", text) for text in SENTENCES))
    rows = [(subset, "1", "DISO", mention, cui) for subset, mention, cui in MENTIONS]
    write_tsv(folder / "mentions.tsv", ("subset", "doc", "group", "mention", "cui"), *rows)
    write_tsv(folder / "lay_fr.tsv", ("cui", "phrase", "relation"), *LAY)
    write_tsv(folder / "gold.tsv", ("Terme", "CUI"), ("vue qui se dédoublait", "C0000005"))
    lines = [f'"{left}","{right}",{grade}' for left, right, grade in GRADED]
    (folder / "graded.csv").write_text("\n".join(["sentence1,sentence2,score", *lines]), encoding="utf-8")
    write_tsv(
        folder / "lay.tsv",
        ("part", "lay", "technical", "cuis", "kind", "n_leaflets"),
        ("dev", "mal de tête", "céphalée", "C0000001", "lay", "3"),
        ("final", "mal à la tête", "céphalée", "C0000001", "lay", "1"),
    )
    (folder / "dev.csv").write_text(
        "sentence1,sentence2,score\nUn cheval mange.,Une fille LIT,1.0\n", encoding="utf-8"
    )
    (folder / "t1-test.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<doc><paire id="0" moy="2.0" vote="2.0" scores="2,2,2,2,2">'
        "<source>Le chien court.</source><cible>Il pleut.</cible></paire></doc>\n",
        encoding="utf-8",
    )
    (folder / "sets.xml").write_text(  # known by its elements, not by its name
        '<?xml version="1.0" encoding="UTF-8"?>\n<doc><ensemble id="0" cible="1"><source>Il dort.</source>'
        '<cible num="1">L’oiseau chante</cible><cible num="2">B.</cible><cible num="3">C.</cible>'
        "</ensemble></doc>\n",
        encoding="utf-8",
    )
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    """A BERT of two layers and 32 dimensions whose tokenizer pads each text to one length."""
    from tokenizers import Tokenizer

    folder = tmp_path_factory.mktemp("scratch") / "teacher"
    model = load_base("scratch", [english for english, _ in PARALLEL] + [atom.string for atom in ATOMS])
    with torch.no_grad():  # at its initial size, noise, a transformer hardly mixes its tokens
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.mul_(6)
    model.save(str(folder), create_model_card=False)
    path = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_padding(length=32)
    tokenizer.save(str(path))
    return folder


@pytest.fixture(scope="module")
def params(inputs, teacher) -> RecipeParams:
    return RecipeParams(
        teacher=str(teacher),
        umls=inputs / "umls",
        parallel=inputs / "parallel.tsv.gz",
        text=inputs / "text.tsv.gz",
        mentions=inputs / "mentions.tsv",
        graded=inputs / "graded.csv",
        lay=inputs / "lay_fr.tsv",
        held_out_terms=(inputs / "lay.tsv",),
        held_out_phrases=(inputs / "gold.tsv",),
        held_out_texts=(inputs / "dev.csv", inputs / "t1-test.xml", inputs / "sets.xml"),
        training_data=("names of a few concepts (CC0)", "a leaflet (CC BY-NC)"),
        licence="CC BY-NC 4.0",
        vocabulary=150,
        training={
            "steps": 4,
            "batch_size": 4,
            "max_length": 16,
            "mixture": {"translation": 1, "synonyms": 1, "glosses": 1, "grades": 1},
        },
    )


@pytest.fixture(scope="module")
def corpora(params):
    return build_corpora(params)


@pytest.fixture(scope="module")
def made(params, tmp_path_factory) -> Path:
    """The folder that the recipe makes; its working folder is beside it."""
    folder = tmp_path_factory.mktemp("made")
    pretrain(params, folder / "work", folder / "encoder")
    return folder


def pairs(corpus) -> set[tuple[str, str]]:
    return set(zip(corpus.left, corpus.right, strict=True))


def test_no_gloss_has_a_held_out_term_or_concept(corpora):
    texts = [normalize(text) for pair in pairs(corpora["glosses"]) for text in pair]
    assert texts
    parts = ("maux de tete", "cephalee", "crane", "headache", "etau", "lourdeur", "syndrome commun", "gene")
    for part in parts:
        assert not [text for text in texts if part in text]


def test_glosses_that_name_a_concept_or_come_twice_are_kept(corpora):
    found = pairs(corpora["glosses"])
    assert ("vue qui se dédouble", "diplopie") in found
    assert ("rougeur de peau", "érythème diffus") in found  # twice in the text
    assert ("gorge rouge", "pharyngite aiguë") not in found  # once, and no concept


def test_a_phrase_is_paired_with_the_names_of_its_concept_but_not_with_itself(corpora):
    left = "tension trop forte"
    partners = {other for phrase, other in pairs(corpora["glosses"]) if phrase == left}
    assert partners == {"hypertension artérielle", "tension élevée", "HTA", "high blood pressure"}
    assert all(normalize(one) != normalize(other) for one, other in pairs(corpora["glosses"]))
    glosses = corpora["glosses"]
    groups = {int(group) for phrase, group in zip(glosses.left, glosses.group, strict=True) if phrase == left}
    assert len(groups) == 1


def test_a_gloss_is_not_paired_with_a_name_that_contains_a_held_out_term(corpora):
    left = "douleur d'un côté de la tête"
    partners = {other for phrase, other in pairs(corpora["glosses"]) if phrase == left}
    assert partners == {"migraine", "hémicrânie"}


def test_no_translation_has_a_held_out_text(corpora):
    found = pairs(corpora["translation"])
    assert ("Is it raining?", "Pleut-il ?") in found
    french = {right for _, right in found}
    assert not {"Le chien court.", "Un cheval mange.", "L'oiseau chante !"} & french
    assert "" not in french | {left for left, _ in found}


def test_translations_hold_the_names_of_concepts(corpora):
    found = pairs(corpora["translation"])
    assert ("diplopia", "vision dédoublée") in found
    assert ("double vision", "diplopie") not in found  # the main English name only
    codes = dict(zip(corpora["translation"].left, corpora["translation"].group, strict=True))
    assert len(set(codes.values())) == len(codes)


def test_no_graded_pair_has_a_held_out_text(corpora):
    grades = corpora["grades"]
    assert list(grades.left) == ["Un homme mange.", "Il neige."]
    assert grades.grade == pytest.approx([0.1, 1.0])


def test_synonyms_are_names_of_one_concept_with_mentions(corpora):
    synonyms = corpora["synonyms"]
    found = pairs(synonyms)
    assert {("diplopie", "double vue"), ("vue double", "diplopie")} & found
    assert ("knee", "knee joint") in found  # there is no French name
    texts = {text for pair in found for text in pair}
    assert "pression forte" in texts  # of the concept that is not held out
    assert not {"mal à la tête", "crâne douloureux", "chute", "fièvre"} & texts
    groups = dict(zip(synonyms.left, synonyms.group, strict=True))
    assert groups["diplopie"] == groups["vue double"] != groups["migraine"]
    held_out = {right for left, right in found if left == "pression forte"}
    assert held_out <= {"hypertension artérielle", "tension élevée", "HTA", "high blood pressure"}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("FRE", "Anévrisme"), ("FRE", "anevrisme"), True),
        (("FRE", "HTAP"), ("FRE", "htap"), False),  # too short to tell
        (("ENG", "aneurysm"), ("ENG", "aneurysm"), False),
        (("FRE", "anévrisme"), ("FRE", "tremblement"), False),
    ],
)
def test_concepts_that_share_a_french_name_are_no_negatives_of_one_another(
    params, one, other, same, tmp_path
):
    names = (("C2", "FRE", "dilatation"), ("C2", *one), ("C3", *other), ("C3", "FRE", "secousse"))
    atoms = [Atom(f"C000000{cui[1]}", string, language) for cui, language, string in names]
    write_umls(tmp_path / "umls" / "META", atoms)
    synonyms = build_corpora(params.model_copy(update={"umls": tmp_path / "umls"}))["synonyms"]
    group = dict(zip(synonyms.left, synonyms.group, strict=True))
    assert (group["dilatation"] == group["secousse"]) == same


class TestMentionsLeftOut:
    """Mentions of documents that are left for the mapping model."""

    ROWS = tuple(
        (f"{document}_{part}", f"mention {document} {part}", "C0000002")
        for document in range(30)
        for part in (1, 2)
    )

    def mentions(self, params, tmp_path, share):
        path = write_tsv(tmp_path / "m.tsv", ("doc", "mention", "cui"), *self.ROWS)
        changes = {"mentions": path, "mentions_held_out": share, "names_per_concept": 100}
        synonyms = build_corpora(params.model_copy(update=changes))["synonyms"]
        texts = {*synonyms.left, *synonyms.right}
        return {text for text in texts if text.startswith("mention")}

    def test_those_of_their_documents_are_not_used_and_all_others_are(self, params, tmp_path):
        kept = self.mentions(params, tmp_path, 0.4)
        assert kept == {mention for document, mention, _ in self.ROWS if not held_out(document, 0.4)}
        assert 0 < len(kept) < len(self.ROWS)

    def test_without_a_share_all_are_used(self, params, tmp_path):
        assert len(self.mentions(params, tmp_path, 0.0)) == len(self.ROWS)


class TestSets:
    """Sentences of task 2 to learn from."""

    @pytest.fixture
    def sets(self, params, tmp_path):
        items = [
            SentenceSet("7", "Le vent souffle.", ("Il vente.", "Le feu brûle.", "La mer monte."), 1),
            SentenceSet("8", "La nuit tombe.", ("Le jour point.", "On boit.", "Il fait nuit."), 3),
            SentenceSet("9", "On chante.", ("On rit.", "Il pleut ?", "On crie."), 1),  # a target is held out
            SentenceSet("10", "UN CHEVAL MANGE !", ("a", "b", "c"), 1),  # the source is held out
            SentenceSet("11", "Sans réponse.", ("d", "e", "f"), None),
        ]
        write_t2(tmp_path / "train.xml", items)
        path = write_tsv(tmp_path / "held.csv", ("sentence1,sentence2,score",), ("Il pleut,x,1",))
        changes = {"sets": tmp_path / "train.xml", "held_out_texts": (*params.held_out_texts, path)}
        return build_corpora(params.model_copy(update=changes))["sets"]

    def test_a_pair_for_each_distractor(self, sets):
        assert list(zip(sets.left, sets.right, sets.distractor, strict=True)) == [
            ("Le vent souffle.", "Il vente.", "Le feu brûle."),
            ("Le vent souffle.", "Il vente.", "La mer monte."),
            ("La nuit tombe.", "Il fait nuit.", "Le jour point."),
            ("La nuit tombe.", "Il fait nuit.", "On boit."),
        ]
        assert sets.group.tolist() == [0, 0, 1, 1]
        assert sets.grade is None

    def test_no_set_has_a_held_out_text(self, sets):
        texts = {normalize(text) for text in (*sets.left, *sets.right, *sets.distractor)}
        assert not texts & {"on chante", "on rit", "il pleut", "un cheval mange", "sans reponse"}

    def test_there_are_none_by_default(self, corpora):
        assert "sets" not in corpora

    def test_a_file_of_another_task(self, params, inputs):
        with pytest.raises(InputError, match=r"t1-test\.xml"):
            build_corpora(params.model_copy(update={"sets": inputs / "t1-test.xml"}))


def test_what_laypeople_say_is_paired_with_names_and_with_what_else_they_say(corpora):
    found = pairs(corpora["lay"])
    partners = {right for left, right in found if left == "je vois double"}
    everything = {"diplopie", "vision dédoublée", "diplopia", "double vision", "deux images pour une"}
    assert partners < everything
    assert len(partners) == 4
    codes = dict(zip(corpora["lay"].left, corpora["lay"].group, strict=True))
    assert codes["je vois double"] == codes["deux images pour une"] != codes["la tension trop haute"]


def test_what_covers_several_concepts_or_reads_as_a_held_out_phrase_is_not_learned(corpora):
    left = set(corpora["lay"].left)
    assert left == {"je vois double", "deux images pour une", "la tension trop haute", "mon mal de tête"}
    assert not {"problème de tuyaux", "mal à la tete !", "Vue qui se dédoublait"} & set(corpora["lay"].right)


def test_without_held_out_files_the_same_phrases_are_learned(params):
    changes = {"held_out_terms": (), "held_out_phrases": ()}
    free = build_corpora(params.model_copy(update=changes))["lay"]
    assert {"mal à la tete !", "Vue qui se dédoublait"} <= set(free.left)


def test_there_is_no_lay_vocabulary_by_default(params):
    assert "lay" not in build_corpora(params.model_copy(update={"lay": None}))


def test_names_of_a_concept_are_capped_mentions_last(params):
    texts = set()
    for cap in (1, 3):
        corpus = build_corpora(params.model_copy(update={"names_per_concept": cap}))["synonyms"]
        texts = {text for pair in pairs(corpus) for text in pair}
        assert "double vue" in texts if cap == 3 else "vision dédoublée" not in texts
    assert "vue double" not in texts


def test_corpora_are_the_same_each_time(params, corpora):
    for name, corpus in build_corpora(params).items():
        assert list(corpus.left) == list(corpora[name].left)
        assert list(corpus.right) == list(corpora[name].right)
        assert (corpus.group == corpora[name].group).all()


def test_no_held_out_files_keep_nothing_out(params):
    free = build_corpora(params.model_copy(update={"held_out_terms": (), "held_out_texts": ()}))
    kept_out = {pair for pair in KEPT_OUT if pair[1] not in ("céphalées", "maux de crâne")}
    assert kept_out <= pairs(free["glosses"])  # the plurals are no names, and come once
    assert {"mal à la tête", "crâne douloureux"} & set(free["synonyms"].left)
    assert "Le chien court." in free["translation"].right
    assert len(free["grades"]) == len(GRADED)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("source\ten\nx\ty\n", r"parallel\.tsv:1: no column 'fr'"),
        ("source\ten\tfr\nx\ty\n", r"parallel\.tsv:2: expected 3 fields as in the header, found 2"),
        (None, r"parallel\.tsv: cannot be read"),
    ],
)
def test_a_bad_table_is_named(params, tmp_path, content, message):
    path = tmp_path / "parallel.tsv"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        build_corpora(params.model_copy(update={"parallel": path}))


def test_a_table_that_is_cut_short(params, tmp_path):
    path = tmp_path / "parallel.tsv.gz"
    path.write_bytes(params.parallel.read_bytes()[:-12])
    with pytest.raises(InputError, match="cannot be read"):
        build_corpora(params.model_copy(update={"parallel": path}))


def test_the_teacher_is_a_folder_or_a_package(teacher, tmp_path, monkeypatch):
    assert teacher_folder(str(teacher)) == teacher
    package = tmp_path / "some_teacher"
    shutil.copytree(teacher, package / "model")
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert teacher_folder("some-teacher") == package / "model"


def test_no_teacher(teacher, tmp_path):
    with pytest.raises(InputError, match=r"no folder and no installed package.*pip install"):
        teacher_folder("no-such-teacher")
    with pytest.raises(InputError, match="no folder and no installed package"):
        teacher_folder("no/such/teacher")
    with pytest.raises(InputError, match=r"it has no config\.json"):
        teacher_folder("json")  # a package without a model
    shutil.copytree(teacher, tmp_path / "other")
    (tmp_path / "other" / "config.json").write_text('{"model_type": "roberta"}', encoding="utf-8")
    with pytest.raises(InputError, match="type roberta; a BERT was expected"):
        teacher_folder(str(tmp_path / "other"))


def test_the_folder_opens_both_ways_and_both_agree(made):
    encoder = Encoder.open(made / "encoder", threads=1)
    sentence = SentenceTransformer(str(made / "encoder"), device="cpu")
    texts = ["diplopie", "VISION dédoublée", "mal de crâne et tension élevée", "high blood pressure"]
    expected = sentence.encode(texts, show_progress_bar=False)
    assert encoder.dimension == sentence.get_embedding_dimension() == expected.shape[1] == 32
    assert np.linalg.norm(expected, axis=1) == pytest.approx(1, abs=2e-3)
    assert (encoder.encode(texts) * expected).sum(1).min() >= 0.99
    assert encoder.info.precision == "int8"
    assert encoder.info.base == "teacher"  # no path of this computer
    assert 0 < encoder.info.max_length <= 512
    assert sentence.max_seq_length <= 512
    assert encoder.encode(["tension élevée " * 600]).shape == (1, 32)
    weights = {weight.dtype for weight in load_weights(made / "encoder").values()}
    assert weights == {torch.float16}


def load_weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_a_fine_tuning_can_start_from_the_folder(made):
    assert next(load_base(str(made / "encoder")).parameters()).dtype == torch.float32


def test_the_folder_holds_what_it_should(made):
    names = {path.name for path in (made / "encoder").iterdir()}
    assert names >= {*FILES, "model.safetensors", "config.json", "modules.json", "README.md"}
    assert "plain" not in names
    assert str(made) not in "".join(path.read_text() for path in (made / "encoder").glob("*.json"))


def test_the_card_tells_what_the_folder_is(made, params):
    card = (made / "encoder" / "README.md").read_text(encoding="utf-8")
    _, header, body = card.split("---\n", 2)
    assert yaml.safe_load(header)["license"] == "cc-by-nc-4.0"
    assert yaml.safe_load(header)["language"] == ["fr", "en"]
    for expected in (
        *params.training_data,
        "32 dimensions",
        "512 tokens",
        "Not for clinical",
        "README of the",
    ):
        assert expected in body
    size = (made / "encoder" / "model.onnx").stat().st_size / 1e6
    assert f"{size:.1f} MB" in body
    assert "{" not in body


def test_the_card_of_free_weights_forbids_no_trade(params):
    info = EncoderInfo(
        dimension=384,
        max_length=512,
        pooling="mean",
        precision="int8",
        engine="onnxruntime",
        batch_invariant=True,
        base="teacher",
        training=(),
        licence="",
        deft_version="0",
    )
    sizes = Sizes(parameters=22_300_000, vocabulary=30_000, weights=44_600_000, graph=23_000_000)
    card = model_card(params, info, sizes)
    assert "22.3 million parameters" in card
    assert "30,000 tokens" in card
    assert "44.6 MB" in card
    assert "Not for commercial use" in card
    free = model_card(params.model_copy(update={"licence": "Apache-2.0", "training_data": ()}), info, sizes)
    assert "license: apache-2.0" in free
    assert "commercial" not in free
    assert "It was not named." in free


def test_a_second_run_goes_on_from_what_is_there(made, params, monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(Trainer, "_step", lambda self, step: pytest.fail("nothing is left to train"))
    monkeypatch.setattr(recipe.TeacherVectors, "compute", lambda *_, **__: pytest.fail("it is there"))
    monkeypatch.setattr(recipe, "pack", lambda student, *_: student.state_dict())
    capfd.readouterr()
    again = pretrain(params, made / "work", tmp_path / "again")
    assert capfd.readouterr() == ("", "")  # the library is silent
    shipped = load_weights(made / "encoder")
    assert all(torch.equal(weight.half(), shipped[name]) for name, weight in again.items() if name in shipped)
    assert len(shipped) > 30


def test_a_working_folder_of_another_run_is_refused(made, params, tmp_path):
    longer = params.training.model_copy(update={"steps": 5})
    with pytest.raises(InputError, match="other inputs or another schedule"):
        pretrain(params.model_copy(update={"mentions_held_out": 0.3}), made / "work", tmp_path / "out")
    with pytest.raises(InputError, match="other inputs or another schedule"):
        pretrain(params.model_copy(update={"training": longer}), made / "work", tmp_path / "out")
    other = write_tsv(tmp_path / "parallel.tsv", ("en", "fr"), ("A dog", "Un chien"))
    with pytest.raises(InputError, match="other inputs or another schedule"):
        pretrain(params.model_copy(update={"parallel": other}), made / "work", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_things_is_not_replaced(params, made, tmp_path):
    (tmp_path / "thesis.tex").touch()
    words = np.load(made / "work" / "embeddings.npy")
    student = recipe.build_student(teacher_folder(params.teacher), words)
    with pytest.raises(InputError, match="holds other things"):
        recipe.pack(student, made / "work" / "tokenizer.json", tmp_path, params)
    assert (tmp_path / "thesis.tex").exists()


def test_packing_leaves_the_student_as_it_was(params, made, tmp_path):
    student = recipe.build_student(teacher_folder(params.teacher), np.load(made / "work" / "embeddings.npy"))
    recipe.save_student(student, made / "work" / "tokenizer.json", tmp_path)
    assert {weight.dtype for weight in student.parameters()} == {torch.float32}


def test_the_record_of_a_run_names_no_path(made):
    record = json.loads((made / "work" / "recipe.json").read_text())
    assert set(record) == {"schedule", "files"}
    assert "/" not in json.dumps(record)
