"""The systems that are compared: ways to run one encoder, each opened in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deft.errors import InputError
from deft.variants import VARIANTS

Encode = Callable[[list[str]], np.ndarray]
Kind = Literal["published", "sentence-transformers", "deft"]

PUBLISHED, CAREFUL, FP32 = "published loop", "sentence-transformers", "deft fp32"
SHAPES = ("camembert-base",)

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_PUBLISHED_BATCH, _PUBLISHED_TOKENS = 10, 128
_CAREFUL_BATCH = 32


@dataclass(frozen=True)
class System:
    """One way to run an encoder.

    Attributes
    ----------
    name
        What the table calls it.
    kind
        How it is opened.
    folder
        Its model: a sentence-transformers folder, or for ours an encoder bundle.
    precision
        What most of its products are computed in.
    """

    name: str
    kind: Kind
    folder: Path
    precision: Literal["fp32", "int8"]

    @property
    def file_size(self) -> int:
        """Bytes of the weights on disk; half precision is stored as such."""
        from deft.bench.speed import graph_size

        if self.kind == "deft":
            return graph_size(self.folder)
        return sum(path.stat().st_size for pattern in _WEIGHTS for path in self.folder.glob(pattern))


@dataclass(frozen=True)
class Shape:
    """The sizes that the work of a transformer follows from."""

    layers: int
    hidden: int
    intermediate: int

    @classmethod
    def read(cls, folder: Path) -> Shape:
        """Read the sizes from the `config.json` of a transformers model.

        Raises
        ------
        InputError
            It is missing, or says no such sizes.
        """
        from deft.files import read_json

        config = read_json(folder / "config.json")
        names = ("num_hidden_layers", "hidden_size", "intermediate_size")
        try:
            return cls(*(int(config[name]) for name in names))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"does not say {', '.join(names)}.",
                path=folder / "config.json",
                remedy="Give the folder of a BERT-like model.",
            ) from error


def make_systems(model: Path, work: Path, engines: Sequence[str]) -> list[System]:
    """Export and quantize a sentence-transformers folder, and return all systems that run it.

    Raises
    ------
    InputError
        The folder is no sentence-transformers model with weights.
    GateError
        What was exported or quantized is not the same model.
    """
    from deft.compress.registry import make_variant
    from deft.config import ExportParams
    from deft.training.export import export

    fp32 = work / "fp32"
    export(model, fp32, ExportParams())
    systems = [
        System(PUBLISHED, "published", model, "fp32"),
        System(CAREFUL, "sentence-transformers", model, "fp32"),
        System(FP32, "deft", fp32, "fp32"),
    ]
    for engine in engines:
        info = make_variant(fp32, work / engine, engine, model=model)
        systems.append(System(f"deft {VARIANTS[engine].title}", "deft", work / engine, info.precision))
    return systems


def random_model(shape: str, tokenizer: Path, out: Path, *, seed: int = 13) -> Path:
    """Write a sentence-transformers folder with random weights; its speed is that of trained ones.

    Parameters
    ----------
    shape
        One of `SHAPES`.
    tokenizer
        Folder with the `tokenizer.json` to use.
    out
        Where to write.
    seed
        Of the weights.

    Raises
    ------
    InputError
        The shape is not known.
    """
    if shape not in SHAPES:
        raise InputError(f"{shape!r} is no shape known here.", remedy=f"Choose among {', '.join(SHAPES)}.")
    import torch
    from transformers import CamembertConfig, CamembertModel, PreTrainedTokenizerFast

    from deft.training.base import load_base, quiet

    torch.manual_seed(seed)
    plain = out / "plain"
    # The sizes of camembert-base, of which CamembertConfig has all but these as defaults. The padding token
    # is that of the tokenizer: positions are counted from it.
    config = CamembertConfig(
        vocab_size=32005,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    )
    with quiet():
        roles = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
        words = PreTrainedTokenizerFast(
            tokenizer_file=str(tokenizer / "tokenizer.json"), model_max_length=512, **roles
        )
        CamembertModel(config, add_pooling_layer=False).save_pretrained(plain)
        words.save_pretrained(plain)
        load_base(str(plain)).save(str(out / "model"))
    return out / "model"


def encode_texts(request: Mapping[str, Any], ready: Callable[[], None]) -> dict[str, Any]:
    """Encode texts in this process: once from nothing, then again and again for some seconds.

    Parameters
    ----------
    request
        ``kind``, ``folder`` and ``threads`` of the system, ``texts``, ``seconds`` that the warm passes take
        at least (0: none), and ``vectors``, a file for the vectors, or None.
    ready
        Called after the first pass.

    Returns
    -------
    ``texts_per_second`` of the warm passes, ``opened``: seconds that opening took, without imports.
    """
    open_encoder = _OPENERS[request["kind"]]
    load = open_encoder()
    start = time.perf_counter()
    encode = load(request["folder"], request["threads"])
    opened = time.perf_counter() - start
    texts = request["texts"]
    vectors = encode(texts)
    ready()
    if request["vectors"] is not None:
        np.save(request["vectors"], vectors)
    return {"opened": opened, "texts_per_second": _warm_rate(encode, texts, request["seconds"])}


def _warm_rate(encode: Encode, texts: list[str], seconds: float) -> float | None:
    if not seconds:
        return None
    start, elapsed, passes = time.perf_counter(), 0.0, 0
    while elapsed < seconds:
        encode(texts)
        passes += 1
        elapsed = time.perf_counter() - start
    return passes * len(texts) / elapsed


def _published() -> Callable[[str, int], Encode]:
    """PyTorch as it comes: batches of ten in the order of the texts, all padded to 128 tokens."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    def load(folder: str, threads: int) -> Encode:
        torch.set_num_threads(threads)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model: Any = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        first_token = _pools_first_token(Path(folder))

        def embed(batch: list[str]) -> torch.Tensor:
            inputs = tokenizer(
                batch,
                padding="max_length",
                max_length=_PUBLISHED_TOKENS,
                truncation=True,
                return_tensors="pt",
            )
            states = model(**inputs)[0]
            weights = inputs["attention_mask"].unsqueeze(-1)
            pooled = states[:, 0] if first_token else (states * weights).sum(1) / weights.sum(1)
            return torch.nn.functional.normalize(pooled)

        def encode(texts: list[str]) -> np.ndarray:
            with torch.no_grad():
                parts = [
                    embed(texts[row : row + _PUBLISHED_BATCH])
                    for row in range(0, len(texts), _PUBLISHED_BATCH)
                ]
            vectors: np.ndarray = torch.cat(parts).numpy()
            return vectors

        return encode

    return load


def _careful() -> Callable[[str, int], Encode]:
    """Run sentence-transformers, which sorts by length and pads to the longest of each batch."""
    import torch
    from sentence_transformers import SentenceTransformer

    def load(folder: str, threads: int) -> Encode:
        torch.set_num_threads(threads)
        model = SentenceTransformer(
            folder, device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32}
        )

        def encode(texts: list[str]) -> np.ndarray:
            vectors: np.ndarray = model.encode(
                texts, batch_size=_CAREFUL_BATCH, normalize_embeddings=True, show_progress_bar=False
            )
            return vectors

        return encode

    return load


def _ours() -> Callable[[str, int], Encode]:
    from deft.encoder.runtime import Encoder

    return lambda folder, threads: Encoder.open(folder, threads=threads).encode


_OPENERS: dict[Kind, Callable[[], Callable[[str, int], Encode]]] = {
    "published": _published,
    "sentence-transformers": _careful,
    "deft": _ours,
}


def _pools_first_token(folder: Path) -> bool:
    from deft.files import read_json

    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return False
    config = read_json(path)
    return config.get("pooling_mode") == "cls" or bool(config.get("pooling_mode_cls_token"))
