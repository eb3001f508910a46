"""One way to run an encoder, in a process of its own: opened from nothing, then timed warm."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deft.bench.process import Measured, measure

Encode = Callable[[list[str]], np.ndarray]
Kind = Literal["published", "sentence-transformers", "deft"]

_PUBLISHED_BATCH, _PUBLISHED_TOKENS = 10, 128
_CAREFUL_BATCH = 32


def graph_size(bundle: Path) -> int:
    """Return the size of a bundle's graph in bytes, with weights that stand in a file beside it."""
    return sum(path.stat().st_size for path in Path(bundle).glob("model.onnx*"))


def run_system(
    kind: Kind,
    folder: Path,
    texts: Sequence[str],
    *,
    threads: int,
    seconds: float = 0.0,
    vectors: Path | None = None,
) -> Measured:
    """Run `encode_texts` in a process of its own; parameters as its request."""
    request = {
        "kind": kind,
        "folder": str(folder),
        "threads": threads,
        "texts": list(texts),
        "seconds": seconds,
        "vectors": None if vectors is None else str(vectors),
    }
    return measure(f"{__name__}:encode_texts", request, threads=threads)


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
