"""From the name of a variant to its bundle: what each method of `deft.variants` does.

A new way to make encoders smaller is a function here (`Start` and its settings in, `Made` out); a new setting
of it is a line in `deft.variants`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from deft import __version__
from deft.compress.quantize import Made, Start, with_inc, with_onnxruntime
from deft.encoder.bundle import MODEL, PROBES, TOKENIZER, EncoderInfo, bundle_folder
from deft.encoder.runtime import Encoder, seal
from deft.errors import GateError, InputError
from deft.training.base import quiet
from deft.training.export import save_graph
from deft.training.origin import write_card
from deft.variants import VARIANTS, Variant, known_variant

METHODS: Mapping[str, Callable[..., Made]] = {"onnxruntime": with_onnxruntime, "inc": with_inc}

# Under this cosine to the fp32 vector of a probe, a variant has not lost precision: something went wrong.
_SANE_COSINE = 0.9


def make_variant(fp32: Path, out: Path, name: str, *, model: Path | None = None) -> EncoderInfo:
    """Make a variant of an encoder.

    Parameters
    ----------
    fp32
        The fp32 encoder bundle.
    out
        Where the bundle of the variant goes.
    name
        Name of the variant, one of `deft.variants.VARIANTS`.
    model
        The sentence-transformers folder that `fp32` was exported from, for variants that start from weights.

    Returns
    -------
    What `encoder.json` of the new bundle says.

    Raises
    ------
    InputError
        There is no such variant, a package that it needs is missing, `fp32` is not an fp32 bundle, or `model`
        is missing.
    GateError
        The variant's vector of a probe has nothing to do with the fp32 one.
    """
    variant = _usable(name, model)
    fp32 = Path(fp32)
    original = Encoder.open(fp32)
    if original.info.precision != "fp32":
        raise InputError("is already quantized.", path=fp32, remedy="Give the fp32 encoder.")
    with quiet(), bundle_folder(out) as folder:
        made = METHODS[variant.method](Start(fp32, model, folder), **variant.settings)
        save_graph(made.graph, folder / MODEL)
        (folder / TOKENIZER).write_bytes((fp32 / TOKENIZER).read_bytes())
        draft = replace(
            original.info,
            precision=made.precision,
            engine=name,
            batch_invariant=made.batch_invariant,
            deft_version=__version__,
            probes=None,
        )
        info = seal(folder, draft)
        write_card(folder, info)
        _check_sane(original, Encoder(folder, info), name)
    return info


def _usable(name: str, model: Path | None) -> Variant:
    """Return the variant if it can be made here."""
    try:
        variant = VARIANTS[known_variant(name)]
    except ValueError as error:
        raise InputError(f"{error}.") from error
    for package in variant.needs:
        if find_spec(package) is None:
            raise InputError(
                f"the variant {name} needs {package}, which is not installed.",
                remedy="Install it with: pip install 'deft[train]', or leave the variant out.",
            )
    if variant.start == "weights" and model is None:
        raise InputError(f"the variant {name} starts from the PyTorch model.", field="model")
    return variant


def _check_sane(original: Encoder, made: Encoder, name: str) -> None:
    cosines = (original.encode(PROBES) * made.encode(PROBES)).sum(1)
    worst = int(cosines.argmin())
    if not cosines[worst] >= _SANE_COSINE:
        raise GateError(
            f"The vector of {PROBES[worst][:40]!r} has cosine {cosines[worst]:.3f} to the fp32 one: "
            f"the variant {name} does not work for this model. Try another."
        )
