"""The model that fine-tuning starts from: a Hub id, a local folder, or a tiny random one."""

from __future__ import annotations

import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from huggingface_hub import model_info
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, set_seed
from transformers.utils import logging as transformers_logging

from deft.errors import InputError, one_line

SCRATCH = "scratch"
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
# What transformers and sentence-transformers raise for a folder that is not a model they know.
_LOADING_ERRORS = (OSError, ValueError, KeyError, RuntimeError)


def load_base(base: str, texts: Sequence[str] = (), *, seed: int = 13) -> SentenceTransformer:
    """Load a base encoder as a chain of Transformer, Pooling and Normalize with 32-bit weights.

    A sentence-transformers folder keeps its own pooling; a plain transformers model gets mean pooling. ONNX
    files beside the weights are ignored.

    Parameters
    ----------
    base
        A local folder, a Hub id, or ``scratch``: a tiny random BERT whose vocabulary is learned from `texts`.
    texts
        Strings for the vocabulary of ``scratch``.
    seed
        Of the weights that no file holds.

    Raises
    ------
    InputError
        The folder holds no such model, the Hub cannot be reached or does not know the id, or the model has
        other layers.
    """
    set_seed(seed)
    with quiet():
        if base == SCRATCH:
            model = _scratch(texts)
        elif Path(base).is_dir():
            model = _local(Path(base))
        else:
            model = _from_hub(base)
    return _with_unit_vectors(model, base)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep libraries and their progress bars from writing about their own affairs inside the block."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def _local(folder: Path) -> SentenceTransformer:
    if not any(any(folder.rglob(pattern)) for pattern in _WEIGHTS):
        raise InputError(
            "holds no PyTorch weights (model.safetensors).",
            path=folder,
            remedy="Training needs them; an ONNX graph alone cannot be trained.",
        )
    try:
        return SentenceTransformer(str(folder), local_files_only=True, model_kwargs={"dtype": torch.float32})
    except _LOADING_ERRORS as error:
        raise InputError(
            f"cannot be loaded as a model ({one_line(error)}).",
            path=folder,
            remedy="Expected config.json, model.safetensors and tokenizer.json, "
            "as sentence-transformers or transformers save them.",
        ) from error


def _from_hub(name: str) -> SentenceTransformer:
    if not _HUB_ID.fullmatch(name):
        raise InputError(
            f"{name!r} is no folder.",
            field="finetune.base",
            remedy="Give a folder that holds a model, or a Hub id such as owner/name.",
        )
    trouble = _hub_trouble(name)
    try:
        return SentenceTransformer(
            name, local_files_only=trouble is not None, model_kwargs={"dtype": torch.float32}
        )
    except Exception as error:
        raise InputError(
            f"{name!r} is no folder, nor can the Hugging Face Hub give it ({one_line(trouble or error)}).",
            field="finetune.base",
            remedy="Check the name and the network; offline, download the model where there is a network "
            "and set finetune.base to its folder.",
        ) from error


def _hub_trouble(name: str) -> Exception | None:
    """Return why the Hub does not answer for a model, if so: only the local cache is worth asking then.

    Without this one question, each of a model's files is asked for with retries, for more than a minute.
    """
    try:
        model_info(name, timeout=10)
    except Exception as error:  # noqa: BLE001 - the Hub's client changes its HTTP library between releases
        return error
    return None


def _scratch(texts: Sequence[str]) -> SentenceTransformer:
    tokenizer = _counted_tokenizer(texts, 1000)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
    )
    roles = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    with TemporaryDirectory() as folder:
        BertModel(config, add_pooling_layer=False).save_pretrained(folder)
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **roles).save_pretrained(
            folder
        )
        return SentenceTransformer(folder, local_files_only=True)


def _counted_tokenizer(texts: Sequence[str], size: int) -> Tokenizer:
    """Make a tokenizer whose vocabulary is every character and, up to `size` tokens, the most frequent words.

    The trainers of `tokenizers` break ties differently in each process; counting gives the same vocabulary
    always.
    """
    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))  # noqa: S106 - a vocabulary entry
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    words = Counter(
        word
        for text in texts
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
    )
    letters = sorted(set("".join(words)))
    frequent = sorted((word for word in words if len(word) > 1), key=lambda word: (-words[word], word))
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters), *frequent]
    tokenizer.model = WordPiece({token: row for row, token in enumerate(tokens[:size])}, unk_token="[UNK]")  # noqa: S106
    tokenizer.post_processor = BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def _with_unit_vectors(model: SentenceTransformer, base: str) -> SentenceTransformer:
    modules = list(model)
    if not isinstance(modules[-1], Normalize):
        modules.append(Normalize())
    kinds = tuple(type(module) for module in modules)
    if kinds != (Transformer, Pooling, Normalize):
        names = ", ".join(kind.__name__ for kind in kinds)
        raise InputError(
            f"base {base!r} is made of {names}; Transformer, Pooling, Normalize were expected.",
            field="finetune.base",
            remedy="Choose a base without further layers.",
        )
    # A chain of its own drops prompts of the base: the exported encoder embeds texts as they are.
    return SentenceTransformer(modules=modules, device=str(model.device))
