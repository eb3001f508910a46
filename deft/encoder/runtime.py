"""Running an encoder: texts in, unit vectors out, with onnxruntime and tokenizers alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Tokenizer

from deft.encoder.bundle import (
    INFO,
    MODEL,
    PROBE_VALUES,
    PROBES,
    REBUILD,
    SHIPPED,
    TOKENIZER,
    EncoderInfo,
    find_encoder,
    read_info,
    write_info,
)
from deft.encoder.settings import Settings, settings_here, usable_cores
from deft.errors import InputError, one_line
from deft.files import read_text, sha256
from deft.progress import Progress
from deft.text import clean, fold

Vectors = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int32]
T = TypeVar("T")
R = TypeVar("R")

logger = logging.getLogger(__name__)

# Texts tokenized at once, and sorted by length: bounds the memory of the tokenizer's own records.
_TOKENIZE_TEXTS = 8192
# How far a probe's values may lie from the stored ones. Processors round the last bits differently, and an
# int8 graph turns such a bit into a step of the quantizer; a wrong tokenizer or graph moves values by their
# whole size.
_PROBE_TOLERANCE = {"fp32": 1e-3, "int8": 2e-2}

_WORD_STARTS = ("\u2581", "\u0120")
"""What begins a word in a vocabulary of SentencePiece, and of byte-level BPE; in WordPiece nothing does."""


class Encoder:
    """Turn texts into unit vectors.

    A text's vector does not depend on the texts encoded with it, nor on their order.
    """

    def __init__(
        self,
        folder: Path,
        info: EncoderInfo,
        *,
        threads: int | None = None,
        settings: Settings | None = None,
    ) -> None:
        self._opened = (Path(folder), threads, settings)
        settings = (settings or Settings()).within(threads or usable_cores())
        self._info = info
        self._workers = settings.workers or 1
        self._block_tokens = settings.block_tokens
        self._tokenizer = _open_tokenizer(Path(folder) / TOKENIZER)
        self._pad_id = int((self._tokenizer.padding or {}).get("pad_id", 0))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(info.max_length)
        self._session = _open_session(Path(folder) / MODEL, settings)

    @classmethod
    def open(
        cls, path: Path | str = SHIPPED, *, threads: int | None = None, settings: Settings | None = None
    ) -> Encoder:
        """Open an encoder folder.

        Parameters
        ----------
        path
            A folder with `model.onnx`, `tokenizer.json` and `encoder.json`; the encoder that comes with deft
            if none is given.
        threads
            Threads in use at once; all cores the process may use if None.
        settings
            How it is run; what the folder's `runtime.json` says for this processor if None.

        Raises
        ------
        InputError
            A file is missing or is not the one that `encoder.json` describes, `runtime.json` is malformed, or
            a probe's vector is not the stored one.
        """
        if threads is not None and threads < 1:
            raise InputError(f"the number of threads is {threads}; it must be 1 or more.")
        folder = find_encoder(path)
        info = read_info(folder)
        encoder = cls(folder, info, threads=threads, settings=settings or settings_here(folder))
        encoder._check_probes(folder / INFO)
        return encoder

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle where it is, and open it again there."""
        folder, threads, settings = self._opened
        return _open_again, (folder.absolute(), threads, settings)

    @property
    def info(self) -> EncoderInfo:
        """The facts about the encoder."""
        return self._info

    @property
    def dimension(self) -> int:
        """The number of values of a vector."""
        return self._info.dimension

    @property
    def fingerprint(self) -> str:
        """One SHA-256 over graph and tokenizer: equal fingerprints give equal vectors."""
        return self._info.fingerprint

    @cached_property
    def words(self) -> frozenset[str]:
        """Words that the tokenizer knows whole, folded (`deft.text.fold`): common ones, written right."""
        tokens = list(self._tokenizer.get_vocab())
        start = next((mark for mark in _WORD_STARTS if any(token.startswith(mark) for token in tokens)), "")
        whole = (token.removeprefix(start) for token in tokens if token.startswith(start))
        return frozenset(fold(word) for word in whole if word.isalpha())

    def encode(self, texts: Sequence[str], *, alone: bool = False, progress: bool = False) -> Vectors:
        """Encode texts.

        Control characters, invisible characters and repeated white space are removed first
        (`deft.text.clean`). A text of more than `info.max_length` tokens is truncated, with one logged
        warning a call.

        Parameters
        ----------
        texts
            Texts, none of them blank.
        alone
            Run each text by itself. A vector is then the same to the last bit in any company; in a batch the
            last bits depend on the padding.
        progress
            Draw a progress bar on standard error.

        Returns
        -------
        Vectors of unit norm, of shape (number of texts, dimension), in the order of `texts`.

        Raises
        ------
        InputError
            A text is blank or is not a string.
        """
        if isinstance(texts, str):
            raise InputError(
                "one string was given where a list of texts is expected.", remedy="Put it in a list."
            )
        cleaned = [_cleaned(text, position) for position, text in enumerate(texts)]
        vectors, truncated = self._embed(cleaned, alone=alone, progress=progress)
        if truncated:
            logger.warning(
                "%d of %d texts have more than %d tokens and were truncated; the first is number %d.",
                len(truncated),
                len(cleaned),
                self._info.max_length,
                truncated[0] + 1,
            )
        return vectors

    def _embed(
        self, texts: Sequence[str], *, alone: bool = False, progress: bool = False
    ) -> tuple[Vectors, list[int]]:
        """Return the vectors, and the positions of the texts that were too long."""
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        truncated: list[int] = []
        starts = range(0, len(texts), _TOKENIZE_TEXTS)
        parts = [texts[start : start + _TOKENIZE_TEXTS] for start in starts]
        with Progress(total=len(texts), disable=not progress, unit="text", desc="encode") as bar:
            for start, (tokens, cut) in zip(starts, _one_ahead(self._tokenize, parts), strict=True):
                truncated += [start + row for row in cut]
                for rows, values in self._run_blocks(tokens, list(self._blocks(tokens)), alone=alone):
                    vectors[[start + row for row in rows]] = values
                    bar.update(len(rows))
        return vectors, truncated

    def _tokenize(self, texts: Sequence[str]) -> tuple[list[Tokens], list[int]]:
        """Return the token ids of each text, and the positions of the texts that were too long."""
        try:
            encodings = self._tokenizer.encode_batch_fast(list(texts))
        except Exception as error:  # as in `_open_tokenizer`
            path = self._opened[0] / TOKENIZER
            problem = f"cannot cut these texts ({one_line(error)})."
            raise InputError(problem, path=path, remedy=REBUILD) from error
        tokens = [np.asarray(encoding.ids, dtype=np.int32) for encoding in encodings]
        return tokens, [row for row, encoding in enumerate(encodings) if encoding.overflowing]

    def _blocks(self, tokens: list[Tokens]) -> Iterator[list[int]]:
        """Yield the positions of all texts in blocks of like length, the longest first.

        Few texts make smaller blocks, so that all workers have one.
        """
        order = sorted(range(len(tokens)), key=lambda position: -len(tokens[position]))
        share = -(-sum(map(len, tokens)) // self._workers)
        most = min(self._block_tokens, share)
        start = 0
        while start < len(order):
            longest = len(tokens[order[start]])
            size = max(1, most // longest)
            yield order[start : start + size]
            start += size

    def _run_blocks(
        self, tokens: list[Tokens], blocks: list[list[int]], *, alone: bool
    ) -> Iterator[tuple[list[int], Vectors]]:
        """Run several blocks at once: runs of a session are independent."""
        run = self._run_together if self._info.batch_invariant and not alone else self._run_alone

        def work(rows: list[int]) -> Vectors:
            return run([tokens[row] for row in rows])

        if len(blocks) < 2 or self._workers == 1:
            yield from zip(blocks, map(work, blocks), strict=True)
            return
        with ThreadPoolExecutor(self._workers) as pool:
            try:
                yield from zip(blocks, pool.map(work, blocks), strict=True)
            finally:  # an interrupt does not wait for all that was planned
                pool.shutdown(wait=False, cancel_futures=True)

    def _run_alone(self, tokens: list[Tokens]) -> Vectors:
        return np.concatenate([self._run_together([row]) for row in tokens])

    def _run_together(self, tokens: list[Tokens]) -> Vectors:
        shape = (len(tokens), max(len(row) for row in tokens))
        ids = np.full(shape, self._pad_id, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for position, row in enumerate(tokens):
            ids[position, : len(row)] = row
            mask[position, : len(row)] = 1
        try:
            outputs: list[Any] = self._session.run(
                ["sentence_embedding"], {"input_ids": ids, "attention_mask": mask}
            )
        except Exception as error:  # as in `_open_session`; memory that runs out looks like this too
            raise InputError(
                f"onnxruntime cannot run the graph ({one_line(error)}).", path=self._opened[0] / MODEL
            ) from error
        vectors: Vectors = outputs[0]
        if vectors.shape != (len(tokens), self.dimension) or vectors.dtype != np.float32:
            problem = (
                f"gives {vectors.dtype} of shape {vectors.shape} where {INFO} says {self.dimension} values."
            )
            raise InputError(problem, path=self._opened[0] / MODEL, remedy=REBUILD)
        return vectors

    def _check_probes(self, path: Path) -> None:
        stored = self._info.probes or {}
        if not all((*stored.values(), bool(stored))):
            raise InputError("it holds no probe vectors.", path=path, field="probes", remedy=REBUILD)
        vectors, _ = self._embed(list(stored))
        tolerance = _PROBE_TOLERANCE[self._info.precision]
        for (text, expected), vector in zip(stored.items(), vectors, strict=True):
            found = vector[: len(expected)]
            if len(found) != len(expected) or not np.allclose(found, expected, rtol=0, atol=tolerance):
                raise InputError(
                    f"the vector of {text[:40]!r} is not the one stored when the encoder was made.",
                    path=path,
                    field="probes",
                    remedy="Upgrade onnxruntime and tokenizers, or make the encoder anew on this computer.",
                )


def seal(folder: Path, draft: EncoderInfo) -> EncoderInfo:
    """Complete a bundle whose graph and tokenizer are in place: checksums, probe vectors, `encoder.json`.

    Parameters
    ----------
    folder
        The folder, with `model.onnx` and `tokenizer.json`.
    draft
        The other facts.

    Returns
    -------
    The completed facts.
    """
    folder = Path(folder)
    encoder = Encoder(folder, draft)
    vectors, _ = encoder._embed(PROBES)
    probes = {
        text: tuple(round(float(value), 6) for value in vector[:PROBE_VALUES])
        for text, vector in zip(PROBES, vectors, strict=True)
    }
    info = replace(
        draft, sha256=sha256(folder / MODEL), tokenizer_sha256=sha256(folder / TOKENIZER), probes=probes
    )
    write_info(folder, info)
    return info


def _open_again(folder: Path, threads: int | None, settings: Settings | None) -> Encoder:
    return Encoder.open(folder, threads=threads, settings=settings)


def _open_session(path: Path, settings: Settings) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(
            str(path),
            settings.session_options(),
            providers=settings.providers,
            enable_fallback=0,  # it would try once more, and print
        )
    except Exception as error:  # onnxruntime's own exceptions share no base class
        raise InputError(
            f"onnxruntime cannot load the graph ({one_line(error)}).", path=path, remedy=REBUILD
        ) from error


def _open_tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_str(read_text(path))
    except InputError:
        raise
    except Exception as error:  # tokenizers raises nothing more precise
        raise InputError(f"is no tokenizer ({one_line(error)}).", path=path, remedy=REBUILD) from error


def _one_ahead(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Yield the results of all items in order; while one is in use, the next is made on another thread."""
    if len(items) < 2:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(work, items[0])
        for item in items[1:]:
            result, coming = coming.result(), pool.submit(work, item)
            yield result
        yield coming.result()


def _cleaned(text: object, position: int) -> str:
    if not isinstance(text, str):
        raise InputError(f"text number {position + 1} is not a string but {type(text).__name__}.")
    cleaned = clean(text)
    if not cleaned:
        raise InputError(f"text number {position + 1} is empty.", remedy="Remove it or fill it in.")
    return cleaned
