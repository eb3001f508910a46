"""The variants of an encoder: how each is named, from what it starts, and how it is made.

A variant is data: parameters, bundles, benchmarks and reports take their lists from this table and need
neither torch nor a quantizer for it. What its method does is in `deft.compress.registry`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal


@dataclass(frozen=True)
class Variant:
    """A way to make an encoder smaller or faster.

    Attributes
    ----------
    name
        What parameters, folders and `encoder.json` call it.
    title
        What a report calls it.
    start
        What it is made from: the fp32 ``graph``, or the PyTorch ``weights`` that were exported to it.
    method
        Name of the function that makes it, in `deft.compress.registry`.
    settings
        Keyword arguments of that function.
    needs
        Packages that must be there to make it, beside those of every variant.
    """

    name: str
    title: str
    start: Literal["graph", "weights"]
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()


VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        variant.name: variant
        for variant in (
            Variant("onnxruntime", "int8, onnxruntime", "graph", "onnxruntime"),
            Variant("inc", "int8, Neural Compressor", "weights", "inc", needs=("neural_compressor",)),
            Variant(
                "onnxruntime-tensor",
                "int8, onnxruntime, a scale a tensor",
                "graph",
                "onnxruntime",
                {"per_token": False},
            ),
            Variant(
                "inc-tensor",
                "int8, Neural Compressor, a scale a tensor",
                "weights",
                "inc",
                {"per_token": False},
                ("neural_compressor",),
            ),
        )
    }
)
COMPARED = ("onnxruntime", "inc")
"""The variants that are built and compared where nothing else is asked for."""


def known_variant(name: str) -> str:
    """Return `name` if there is such a variant.

    Raises
    ------
    ValueError
        There is none; the message lists what there is.
    """
    if name not in VARIANTS:
        raise ValueError(f"there is no variant {name[:40]!r}; there are {', '.join(VARIANTS)}")
    return name
