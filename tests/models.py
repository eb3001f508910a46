"""Tiny models of true architectures, and the encoders made of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

WORDS = [
    *(
        "fièvre",
        "douleur",
        "thoracique",
        "abdominale",
        "crise",
        "cardiaque",
        "maladie",
        "de",
        "Crohn",
        "diabète",
    ),
    *(
        "type",
        "rein",
        "foie",
        "cœur",
        "peau",
        "fracture",
        "du",
        "col",
        "fémur",
        "infarctus",
        "aigu",
        "myocarde",
    ),
    *("insuffisance", "rénale", "chronique", "pression", "artérielle", "élevée", "comprimé", "dose", "oubli"),
    *("médecin", "pharmacien", "deux", "fois", "par", "jour", "high", "blood", "pressure", "heart", "attack"),
]


def draw_phrases(count: int, *, seed: int = 0) -> list[str]:
    """Distinct phrases of 1 to 12 words."""
    draw = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(draw.choices(WORDS, k=draw.randint(1, 12)))] = None
    return list(found)


@pytest.fixture(scope="session")
def phrases() -> Callable[..., list[str]]:
    """The function that draws phrases."""
    return draw_phrases


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory) -> Path:
    """A sentence-transformers folder: BERT with mean pooling, and a WordPiece tokenizer."""
    pytest.importorskip("sentence_transformers")
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        draw_phrases(300),
        trainers.WordPieceTrainer(vocab_size=150, special_tokens=[*special.values()], show_progress=False),
    )
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    config = BertConfig(vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=48, **_SHAPE)
    return _save(
        tmp_path_factory.mktemp("bert"),
        BertModel,
        config,
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=48, **special),
        "mean",
    )


@pytest.fixture(scope="session")
def camembert_folder(tmp_path_factory) -> Path:
    """A sentence-transformers folder: CamemBERT with cls pooling, and a BPE tokenizer."""
    pytest.importorskip("sentence_transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import CamembertConfig, CamembertModel, PreTrainedTokenizerFast

    special = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>"}
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(
        draw_phrases(300),
        trainers.BpeTrainer(vocab_size=150, special_tokens=[*special.values()], show_progress=False),
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    config = CamembertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        max_position_embeddings=50,
        pad_token_id=1,
        type_vocab_size=1,
        **_SHAPE,
    )
    return _save(
        tmp_path_factory.mktemp("camembert"),
        CamembertModel,
        config,
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=48, **special),
        "cls",
    )


@pytest.fixture(scope="session")
def fp32_bundle(bert_folder, tmp_path_factory) -> Path:
    """The fp32 encoder of `bert_folder`."""
    from deft.config import ExportParams
    from deft.training.export import export
    from deft.training.origin import Origin

    out = tmp_path_factory.mktemp("encoders") / "fp32"
    export(bert_folder, out, ExportParams(), origin=Origin("scratch", ("nothing",), "Apache-2.0"))
    return out


@pytest.fixture(scope="session")
def onnxruntime_bundle(fp32_bundle, tmp_path_factory) -> Path:
    """The int8 encoder that onnxruntime makes of `fp32_bundle`."""
    from deft.compress.registry import make_variant

    out = tmp_path_factory.mktemp("int8") / "onnxruntime"
    make_variant(fp32_bundle, out, "onnxruntime")
    return out


@pytest.fixture(scope="session")
def inc_bundle(fp32_bundle, bert_folder, tmp_path_factory) -> Path:
    """The int8 encoder that Intel Neural Compressor makes of `bert_folder`."""
    pytest.importorskip("neural_compressor")
    from deft.compress.registry import make_variant

    out = tmp_path_factory.mktemp("int8") / "inc"
    make_variant(fp32_bundle, out, "inc", model=bert_folder)
    return out


_SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


def _save(folder: Path, model_class, config, tokenizer, pooling: str) -> Path:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    torch.manual_seed(0)
    plain = folder / "plain"
    model = model_class(config)
    with torch.no_grad():  # at its initial size, noise, a transformer hardly mixes its tokens
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(6)
    model.save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    transformer = Transformer(str(plain), max_seq_length=16)
    modules = [transformer, Pooling(config.hidden_size, pooling), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "model"))
    return folder / "model"
