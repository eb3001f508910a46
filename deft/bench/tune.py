"""The search for how an encoder runs fastest on this machine.

Every trial is timed in turns with the default settings, so that a slow spell of the machine falls on both,
and counts only if its vectors are near those of a reference. The fastest trials are timed once more: the best
of many noisy figures is too good.
"""

from __future__ import annotations

import csv
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deft.bench.machine import spread
from deft.encoder.bundle import CARD, FILES, bundle_folder, read_info
from deft.encoder.runtime import Encoder
from deft.encoder.settings import (
    Level,
    Settings,
    local_providers,
    processor_level,
    read_settings,
    usable_cores,
    write_settings,
)
from deft.errors import GateError, InputError
from deft.files import atomic_write
from deft.mapping.grades import TextEncoder
from deft.progress import Progress
from deft.variants import VARIANTS

if TYPE_CHECKING:
    import optuna

logger = logging.getLogger(__name__)

TRACE = "trials.csv"
STUDY = "trials.log"

_BLOCKS = (128, 256, 512, 1024, 2048)
_OPTIMIZATIONS = ("disabled", "basic", "extended", "all")
_CONFIRMED = 3
_STUDY_NAME = "tune"


@dataclass(frozen=True)
class TuneParams:
    """How settings are searched.

    Attributes
    ----------
    trials
        Settings that are tried, those of runs that were stopped included.
    repeats
        Times that a trial and the default settings are timed, in turns.
    mean_cosine, least_cosine
        What the vectors' cosines to the reference must reach, on the mean and each.
    threads
        Threads to use at most; the number of processors that this process may use if None.
    seed
        Of the search.
    """

    trials: int = 40
    repeats: int = 3
    mean_cosine: float = 0.99
    least_cosine: float = 0.9
    threads: int | None = None
    seed: int = 13


@dataclass(frozen=True)
class Trial:
    """A row of the trace.

    Attributes
    ----------
    number
        From 0 on.
    bundle
        Name of the bundle.
    provider, optimization, intra_threads, inter_threads, workers, block_tokens
        Its settings.
    texts_per_second
        Median of the repeats.
    times
        How many times as fast as the first bundle with the default settings.
    cosine_mean, cosine_least
        To the vectors of the reference.
    feasible
        Whether the cosines are high enough.
    """

    number: int
    bundle: str
    provider: str
    optimization: str
    intra_threads: int
    inter_threads: int
    workers: int
    block_tokens: int
    texts_per_second: float
    times: float
    cosine_mean: float
    cosine_least: float
    feasible: bool


@dataclass(frozen=True)
class Tuned:
    """What was found.

    Attributes
    ----------
    level
        What the processor offers.
    bundle, settings
        The fastest of all, and how it is run.
    texts_per_second, times
        Its speed, and how many times that of the first bundle with the default settings, timed once more
        after the search.
    trials
        All trials, in order.
    """

    level: Level
    bundle: str
    settings: Settings
    texts_per_second: float
    times: float
    trials: tuple[Trial, ...]


def tune(
    bundles: Mapping[str, Path],
    texts: Sequence[str],
    work: Path,
    params: TuneParams | None = None,
    *,
    reference: Path | None = None,
    progress: bool = False,
) -> Tuned:
    """Search the fastest bundle and settings.

    A run that was stopped goes on where it was, if `work` is the same.

    Parameters
    ----------
    bundles
        Encoder bundles by name: the same model at several precisions, say. The first, with the default
        settings, is what all others are measured against.
    texts
        What is encoded: texts as the encoder will see them, a few hundred at least.
    work
        Folder for the trials: `trials.csv`, and what a later run needs to go on.
    params
        How it is searched.
    reference
        The bundle whose vectors count as right; the first of `bundles` if None.
    progress
        Show progress on standard error.

    Raises
    ------
    InputError
        There is no text, a bundle cannot be opened, or `work` is of a search with other inputs.
    GateError
        No trial's vectors are near enough to the reference.
    """
    params = params or TuneParams()
    if not texts:
        raise InputError("there is no text to time.")
    if _busy():
        logger.warning("The machine is busy with other work: what is fastest now may not be when it is idle.")
    measure = _Measure.open(bundles, texts, params, reference)
    study = _open_study(Path(work), params, _made_from(bundles, texts, params, reference))
    done = _finished(study)
    with Progress(
        total=params.trials, initial=len(done), disable=not progress, unit="trial", desc="tune"
    ) as bar:
        for number in range(len(done), params.trials):
            _run_trial(study, measure, number)
            _write_trace(_finished(study), Path(work) / TRACE)
            bar.update()
    return _best(_finished(study), measure)


def candidates(fp32: Path, out: Path, *, model: Path | None = None) -> dict[str, Path]:
    """Make every variant of an encoder, and return the bundles by name.

    Bundles that are there from a former run are taken as they are.

    Parameters
    ----------
    fp32
        The fp32 bundle; it is a candidate as well.
    out
        Folder that gets the others.
    model
        The sentence-transformers folder it was exported from; without it, variants that start from
        weights are left out.

    Raises
    ------
    InputError
        `fp32` is no fp32 bundle.
    GateError
        A variant does not work for this model.
    """
    from deft.compress.registry import make_variant

    found = {"fp32": Path(fp32)}
    for name, variant in VARIANTS.items():
        if model is None and variant.start == "weights":
            continue
        found[name] = Path(out) / name
        if not all((found[name] / file).is_file() for file in FILES):
            make_variant(Path(fp32), found[name], name, model=model)
    return found


def store(tuned: Tuned, bundle: Path, out: Path) -> None:
    """Write the settings beside the model, and the model itself where `out` is another folder.

    Settings that the bundle has for other processors stay.

    Raises
    ------
    InputError
        `out` cannot be written.
    """
    known = read_settings(bundle) | {tuned.level: tuned.settings}
    if Path(out).resolve() == Path(bundle).resolve():
        write_settings(bundle, known)
        return
    with bundle_folder(out) as folder:
        for name in (*FILES, CARD):
            if (bundle / name).is_file():
                shutil.copyfile(bundle / name, folder / name)
        write_settings(folder, known)


@dataclass(frozen=True)
class _Measure:
    """Times a bundle with settings in turns with the first bundle's defaults, and compares its vectors."""

    bundles: Mapping[str, Path]
    texts: Sequence[str]
    params: TuneParams
    threads: int
    default: Encoder
    expected: np.ndarray

    @classmethod
    def open(
        cls, bundles: Mapping[str, Path], texts: Sequence[str], params: TuneParams, reference: Path | None
    ) -> _Measure:
        threads = params.threads or usable_cores()
        for folder in bundles.values():
            read_settings(folder)  # what cannot be read now could not be completed in the end
        first = next(iter(bundles.values()))
        default = Encoder.open(first, threads=threads, settings=Settings())
        right = default if reference is None else Encoder.open(reference, threads=threads)
        return cls(bundles, texts, params, threads, default, right.encode(texts))

    @property
    def default_trial(self) -> dict[str, Any]:
        """The parameters of the trial that is the default itself."""
        return {"bundle": next(iter(self.bundles))} | _searched(Settings().within(self.threads))

    def suggest(self, trial: optuna.Trial) -> tuple[str, Settings]:
        """Return the next bundle and settings to try."""
        counts = _powers(self.threads)
        choose = trial.suggest_categorical
        settings = Settings(
            provider=choose("provider", local_providers()),
            optimization=choose("optimization", _OPTIMIZATIONS),  # type: ignore[arg-type]
            intra_threads=choose("intra_threads", counts),
            inter_threads=choose("inter_threads", counts[:2]),
            workers=choose("workers", counts),
            block_tokens=choose("block_tokens", _BLOCKS),
        )
        return choose("bundle", list(self.bundles)), settings.within(self.threads)

    def __call__(self, number: int, name: str, settings: Settings) -> Trial:
        encoder = self._open(name, settings)
        cosines = (encoder.encode(self.texts) * self.expected).sum(axis=1)
        mean, least = float(cosines.mean()), float(cosines.min())
        near = mean >= self.params.mean_cosine and least >= self.params.least_cosine
        rates = throughput({"default": self.default, "trial": encoder}, self.texts, self.params.repeats)
        rate = rates["trial"]["value"]
        return Trial(
            number=number,
            bundle=name,
            **_searched(settings),
            texts_per_second=rate,
            times=round(rate / rates["default"]["value"], 4),
            cosine_mean=round(mean, 6),
            cosine_least=round(least, 6),
            feasible=near,
        )

    def again(self, chosen: Mapping[int, tuple[str, Settings]]) -> dict[int, tuple[float, float]]:
        """Time some trials once more, all in turns; return texts a second and times the default of each."""
        encoders = {str(number): self._open(*trial) for number, trial in chosen.items()}
        rates = throughput({"default": self.default} | encoders, self.texts, 2 * self.params.repeats)
        default = rates["default"]["value"]
        found = {number: rates[str(number)]["value"] for number in chosen}
        return {number: (rate, rate / default) for number, rate in found.items()}

    def _open(self, name: str, settings: Settings) -> Encoder:
        return Encoder.open(self.bundles[name], threads=self.threads, settings=settings)


def _run_trial(study: optuna.Study, measure: _Measure, number: int) -> None:
    if number == 0:
        study.enqueue_trial(measure.default_trial)
    asked = study.ask()
    trial = measure(number, *measure.suggest(asked))
    asked.set_user_attr("trial", asdict(trial))
    asked.set_constraint("mean cosine", measure.params.mean_cosine - trial.cosine_mean)
    asked.set_constraint("least cosine", measure.params.least_cosine - trial.cosine_least)
    study.tell(asked, trial.times)


def _open_study(work: Path, params: TuneParams, made_from: Mapping[str, Any]) -> optuna.Study:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    work.mkdir(parents=True, exist_ok=True)
    path = work / STUDY
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(path))),
        study_name=_STUDY_NAME,
        direction="maximize",
        load_if_exists=True,
    )
    if study.user_attrs.get("made_from", made_from) != made_from:
        raise InputError(
            "is of a search with other bundles, texts or limits, or on another machine.",
            path=path,
            remedy="Name another folder for the trials, or remove this one to start afresh.",
        )
    study.set_user_attr("made_from", made_from)
    # A run that goes on must not draw what the first one drew.
    study.sampler = optuna.samplers.TPESampler(seed=params.seed + len(_finished(study)))
    return study


def _made_from(
    bundles: Mapping[str, Path], texts: Sequence[str], params: TuneParams, reference: Path | None
) -> dict[str, Any]:
    return {
        "bundles": {name: read_info(folder).fingerprint for name, folder in bundles.items()},
        "reference": None if reference is None else read_info(reference).fingerprint,
        "texts": sha256("\n".join(texts).encode()).hexdigest(),
        "params": {name: value for name, value in asdict(params).items() if name != "trials"},
        "machine": [processor_level(), usable_cores(), *local_providers()],
    }


def _finished(study: optuna.Study) -> tuple[Trial, ...]:
    return tuple(
        Trial(**trial.user_attrs["trial"]) for trial in study.get_trials() if trial.state.name == "COMPLETE"
    )


def _best(trials: Sequence[Trial], measure: _Measure) -> Tuned:
    allowed = [trial for trial in trials if trial.feasible]
    if not allowed:
        raise GateError(
            f"None of {len(trials)} trials gave vectors with a cosine of {measure.params.mean_cosine} to the "
            f"reference on the mean, and of {measure.params.least_cosine} each."
        )
    ranked = sorted(allowed, key=lambda trial: -trial.times)
    distinct = {(trial.bundle, _settings_of(trial)): trial.number for trial in reversed(ranked)}
    chosen = {number: what for what, number in reversed(distinct.items())}
    first = dict(list(chosen.items())[:_CONFIRMED])
    if trials[0].feasible:  # the default stays where nothing is faster
        first.setdefault(0, (trials[0].bundle, _settings_of(trials[0])))
    rates = measure.again(first)
    winner = max(rates, key=lambda number: rates[number][1])
    name, settings = first[winner]
    rate, times = rates[winner]
    return Tuned(
        processor_level(), name, replace(settings, cores=usable_cores()), rate, round(times, 4), tuple(trials)
    )


def _searched(settings: Settings) -> dict[str, Any]:
    """Return what is searched of settings."""
    return {name: value for name, value in asdict(settings).items() if name != "cores"}


def _settings_of(trial: Trial) -> Settings:
    return Settings(**{name: getattr(trial, name) for name in _searched(Settings())})


def _busy() -> bool:
    """Whether others keep half of the processors at work, where the system tells."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > usable_cores() / 2


def _powers(most: int) -> list[int]:
    """Return 1, 2, 4 and so on up to `most`, and `most` itself."""
    return sorted({*(1 << power for power in range(most.bit_length()) if 1 << power <= most), most})


def _write_trace(trials: Sequence[Trial], path: Path) -> None:
    with atomic_write(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([field.name for field in fields(Trial)])
        writer.writerows(astuple(trial) for trial in trials)


def throughput(
    encoders: Mapping[str, TextEncoder],
    texts: Sequence[str],
    repeats: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, dict[str, float]]:
    """Return texts per second of each encoder: median, slowest and fastest round after a warm-up.

    Rounds interleave the encoders, so that a slow spell of the machine falls on all of them.
    """
    for encoder in encoders.values():
        encoder.encode(texts)
    rates: dict[str, list[float]] = {name: [] for name in encoders}
    for _ in range(repeats):
        for name, encoder in encoders.items():
            start = clock()
            encoder.encode(texts)
            rates[name].append(len(texts) / (clock() - start))
    return {name: spread(rounds) for name, rounds in rates.items()}
