"""Encoders side by side: speed, memory, size and quality of each way to run the same model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from deft.bench.limit import count_tokens, limit_of, work_of
from deft.bench.machine import MIB, hardware, spread, versions
from deft.bench.process import Measured, measure
from deft.bench.run import run_system
from deft.bench.systems import (
    CAREFUL,
    FP32,
    PUBLISHED,
    Shape,
    System,
    make_systems,
    random_model,
)
from deft.corpora.deft2020 import SentencePair, read_t1
from deft.encoder.settings import usable_cores
from deft.errors import InputError
from deft.evaluation.quality import Retrieval, graded_similarity, retrieval
from deft.progress import Progress
from deft.terminology.lexicon import GoldMapping, read_gold
from deft.terminology.rrf import read_atoms
from deft.variants import COMPARED

_PRODUCTS = "deft.bench.limit:products"

Vectors = dict[str, np.ndarray]


@dataclass(frozen=True)
class BenchParams:
    """How encoders are measured.

    Attributes
    ----------
    count
        Texts of a workload.
    rounds
        Times that every system is measured on every workload, in turn.
    seconds
        Least time that the warm passes of a measurement take.
    threads
        Threads of a system; the number of processors that this process may use if None.
    names
        Strings of other concepts that recall is measured among.
    engines
        Variants of the encoder that are systems too.
    seed
        Of the texts that are drawn and of random weights.
    """

    count: int = 256
    rounds: int = 3
    seconds: float = 1.0
    threads: int | None = None
    names: int = 2000
    engines: tuple[str, ...] = COMPARED
    seed: int = 13


@dataclass(frozen=True)
class BenchData:
    """The texts that are encoded, by workload, and the gold among them.

    Attributes
    ----------
    workloads
        Distinct texts by the name of the workload.
    queries
        Lay terms with their right CUIs.
    names
        CUIs by string: what the concept of a lay term is looked for among.
    pairs
        Sentence pairs with grades.
    """

    workloads: Mapping[str, Sequence[str]]
    queries: Sequence[GoldMapping] = ()
    names: Mapping[str, frozenset[str]] = field(default_factory=dict)
    pairs: Sequence[SentencePair] = ()

    @classmethod
    def read(
        cls,
        lay: Path,
        umls: Path,
        sentences: Path,
        params: BenchParams,
        *,
        lay_column: str = "Terme",
        cui_column: str = "CUI",
        where: Mapping[str, str] | None = None,
    ) -> BenchData:
        """Draw the texts of the three workloads, and take their gold.

        Parameters
        ----------
        lay
            Table of lay terms with their CUIs.
        umls
            Folder of a Metathesaurus.
        sentences
            Task 1 file (XML).
        params
            How many texts, and the seed.
        lay_column, cui_column, where
            Columns of `lay`, and the rows of it that are kept.

        Raises
        ------
        InputError
            A file is missing or malformed.
        """
        rng = np.random.default_rng(params.seed)
        queries = read_gold(lay, lay_column, cui_column, where=where)
        atoms = read_atoms(umls)
        pairs = read_t1(sentences)
        texts = {
            "lay terms": [item.query for item in queries],
            "UMLS strings": atoms["string"].to_list(),
            "DEFT sentences": [text for pair in pairs for text in (pair.source, pair.target)],
        }
        grouped = atoms.groupby("string", sort=True)["cui"].agg(frozenset)
        gold = frozenset().union(*(item.cuis for item in queries))
        own = grouped.map(lambda cuis: not gold.isdisjoint(cuis)).to_numpy(dtype=bool)
        others = grouped[~own]
        drawn = np.sort(rng.permutation(len(others))[: params.names])
        kept = pd.concat([grouped[own], others.iloc[drawn]])
        names = dict(zip(kept.index.astype(str), kept, strict=True))
        return cls(
            {name: _sample(list(dict.fromkeys(found)), params.count, rng) for name, found in texts.items()},
            [item for item in queries if any(not item.cuis.isdisjoint(cuis) for cuis in names.values())],
            names,
            [pair for pair in pairs if pair.grade is not None],
        )

    @property
    def gold_texts(self) -> list[str]:
        """All texts that quality is measured on, each once."""
        sentences = (text for pair in self.pairs for text in (pair.source, pair.target))
        return list(dict.fromkeys([*(item.query for item in self.queries), *self.names, *sentences]))


def bench_encoders(
    model: Path,
    data: BenchData,
    params: BenchParams | None = None,
    *,
    shapes: Sequence[str] = (),
    progress: bool = False,
) -> dict[str, Any]:
    """Measure every system on every workload, with a model and with random ones of given shapes.

    Each measurement is a process of its own. Rounds interleave the systems, so that a slow spell of the
    machine falls on all of them, and the peak of the hardware is measured in every round.

    Parameters
    ----------
    model
        A sentence-transformers folder with weights and `tokenizer.json`.
    data
        The workloads and their gold. Random weights have no quality but their cosine to fp32.
    params
        How it is measured.
    shapes
        Shapes that are measured too, with random weights.
    progress
        Show progress on standard error.

    Returns
    -------
    dict
        ``models`` (by name: ``weights``, ``workloads``, ``quality``), ``peak`` (operations a second in
        billions), ``params``, ``hardware``, ``versions``; each figure with ``value`` (the median), ``low``
        and ``high`` over the rounds.

    Raises
    ------
    InputError
        The model is not what it should be, or a shape is unknown.
    DeftError
        A process failed.
    """
    params = params or BenchParams()
    threads = params.threads or usable_cores()
    measured: dict[str, Any] = {}
    peaks: list[Mapping[str, float]] = []
    steps = (1 + len(shapes)) * params.rounds * len(data.workloads) * (3 + len(params.engines))
    with TemporaryDirectory(prefix="deft-bench-") as folder, _bar(steps, progress=progress) as bar:
        for place, shape in enumerate([None, *shapes]):
            work = Path(folder) / str(place)
            chosen = model if shape is None else random_model(shape, model, work, seed=params.seed)
            runs = _Runs(make_systems(chosen, work, params.engines), data, params, threads, work)
            runs.run(peaks, bar)
            measured[shape or model.name] = runs.results(
                _best(peaks), Shape.read(chosen), random=shape is not None
            )
    return {
        "models": measured,
        "peak": {
            precision: {"billion_per_second": spread([peak[precision] / 1e9 for peak in peaks])}
            for precision in ("fp32", "int8")
        },
        "params": asdict(params) | {"threads": threads},
        "hardware": hardware(),
        "versions": versions(),
    }


@dataclass
class _Runs:
    """All measurements of the systems of one model."""

    systems: Sequence[System]
    data: BenchData
    params: BenchParams
    threads: int
    work: Path
    _measured: dict[tuple[str, str], list[Measured]] = field(default_factory=dict)
    _vectors: dict[str, Vectors] = field(default_factory=dict)

    def run(self, peaks: list[Mapping[str, float]], bar: Progress) -> None:
        """Measure all rounds; each adds a peak of the hardware."""
        for number in range(self.params.rounds):
            request = {"threads": self.threads}
            peaks.append(measure(_PRODUCTS, request, threads=self.threads).answer)
            for workload, texts in self.data.workloads.items():
                for system in self.systems:
                    bar.set_postfix_str(f"{workload}, {system.name}")
                    kept = self._encode(system, texts, keep=number == 0)
                    self._measured.setdefault((workload, system.name), []).append(kept[0])
                    if kept[1] is not None:
                        self._vectors.setdefault(workload, {})[system.name] = kept[1]
                    bar.update()

    def results(self, peak: Mapping[str, float], shape: Shape, *, random: bool) -> dict[str, Any]:
        """Return what was found, and the quality of trained weights."""
        found: dict[str, Any] = {
            "weights": "random" if random else "trained",
            "shape": asdict(shape),
            "workloads": {
                name: self._workload(name, texts, peak, shape) for name, texts in self.data.workloads.items()
            },
        }
        if not random and self.data.gold_texts:
            found["quality"] = self._quality()
        return found

    def _encode(
        self, system: System, texts: Sequence[str], *, keep: bool = True, timed: bool = True
    ) -> tuple[Measured, np.ndarray | None]:
        path = self.work / "vectors.npy" if keep else None
        seconds = self.params.seconds if timed else 0
        measured = run_system(
            system.kind, system.folder, texts, threads=self.threads, seconds=seconds, vectors=path
        )
        return measured, None if path is None else np.load(path)

    def _workload(
        self, name: str, texts: Sequence[str], peak: Mapping[str, float], shape: Shape
    ) -> dict[str, Any]:
        bundle = next(system.folder for system in self.systems if system.name == FP32)
        tokens = count_tokens(texts, bundle)
        work = work_of(shape, tokens)
        return {
            "texts": len(texts),
            "mean_characters": round(float(np.mean([len(text) for text in texts])), 1),
            "mean_tokens": round(float(np.mean(tokens)), 1),
            "million_operations_per_text": round(sum(work.values()) / 1e6, 1),
            "systems": {system.name: self._system(name, system, work, peak) for system in self.systems},
        }

    def _system(
        self, workload: str, system: System, work: Mapping[str, float], peak: Mapping[str, float]
    ) -> dict[str, Any]:
        rounds = self._measured[workload, system.name]
        rates = [_rate(each) for each in rounds]
        limit = limit_of(work, peak, system.precision)
        vectors = self._vectors[workload]
        cosines = (vectors[system.name] * vectors[CAREFUL]).sum(axis=1)
        return {
            "texts_per_second": spread(rates),
            "whole_process_seconds": spread([each.seconds_to_ready for each in rounds]),
            "opening_seconds": spread([each.answer["opened"] for each in rounds]),
            "peak_memory_mib": spread([each.peak_memory / MIB for each in rounds], 1),
            "file_mib": round(system.file_size / MIB, 2),
            "cosine_to_fp32": {
                "mean": round(float(cosines.mean()), 5),
                "least": round(float(cosines.min()), 5),
            },
            "times": {base: self._times(workload, system, base) for base in (PUBLISHED, CAREFUL)},
            "limit": {"texts_per_second": round(limit, 1), "share": spread([x / limit for x in rates], 4)},
        }

    def _times(self, workload: str, system: System, base: str) -> dict[str, Any]:
        """Compare a system with another, round by round: how many times as fast, and how much less memory."""
        pairs = list(zip(self._measured[workload, system.name], self._measured[workload, base], strict=True))
        return {
            "texts_per_second": spread([_rate(ours) / _rate(other) for ours, other in pairs]),
            "whole_process": spread(
                [other.seconds_to_ready / ours.seconds_to_ready for ours, other in pairs]
            ),
            "memory_saved": spread([1 - ours.peak_memory / other.peak_memory for ours, other in pairs], 3),
        }

    def _quality(self) -> dict[str, Any]:
        texts = self.data.gold_texts
        found = {}
        for system in self.systems:
            _, vectors = self._encode(system, texts, timed=False)
            assert vectors is not None
            found[system.name] = quality(self.data, vectors)
        return {
            "queries": len(self.data.queries),
            "names": len(self.data.names),
            "pairs": len(self.data.pairs),
            "systems": found,
        }


@dataclass(frozen=True)
class _Stored:
    """Vectors that were made in another process, as an encoder of their texts."""

    place: Mapping[str, int]
    vectors: np.ndarray

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors of texts."""
        return self.vectors[[self.place[text] for text in texts]]


def quality(data: BenchData, vectors: np.ndarray) -> dict[str, float]:
    """Return recall@1 of lay terms among the names, and Spearman of graded pairs, where there is gold.

    Parameters
    ----------
    data
        The gold.
    vectors
        Unit vectors of its texts (`BenchData.gold_texts`), one a row.
    """
    encoder = _Stored({text: row for row, text in enumerate(data.gold_texts)}, vectors)
    found: dict[str, float] = {}
    if data.queries:
        names = list(data.names)
        right = [
            {row for row, name in enumerate(names) if not item.cuis.isdisjoint(data.names[name])}
            for item in data.queries
        ]
        queries, clusters = [item.query for item in data.queries], [min(item.cuis) for item in data.queries]
        found["recall_at_1"] = retrieval(
            Retrieval.of(queries, names, right, [()] * len(queries), clusters), encoder
        ).value
    if data.pairs:
        found["spearman"] = graded_similarity(data.pairs, encoder).value
    return {name: round(value, 4) for name, value in found.items()}


def _sample(texts: list[str], count: int, rng: np.random.Generator) -> list[str]:
    if not texts:
        raise InputError("there is no text to time.")
    return [texts[row] for row in rng.permutation(len(texts))[:count]]


def _rate(measured: Measured) -> float:
    return float(measured.answer["texts_per_second"])


def _best(peaks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {precision: max(peak[precision] for peak in peaks) for precision in peaks[0]}


def _bar(steps: int, *, progress: bool) -> Progress:
    return Progress(total=steps, disable=not progress, unit="run", desc="bench")
