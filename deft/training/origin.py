"""Where the weights of an encoder come from: each step hands it on to the next and adds its own part.

A sentence-transformers folder keeps it in `origin.json`, an encoder bundle in `encoder.json` and, for a
reader, in its card.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pydantic import TypeAdapter, ValidationError

from deft.encoder.bundle import CARD, INFO, parse_info
from deft.errors import InputError
from deft.files import read_json, read_text, write_json

if TYPE_CHECKING:
    from deft.encoder.bundle import EncoderInfo

ORIGIN = "origin.json"
SOURCES = "sources.json"
"""What the pairs of a prepared folder were made of, a line a source."""

_LICENCE = re.compile(r"\A---\n(?:.*\n)*?license: *(\S.*?) *\n(?:.*\n)*?---\n")
_CARD = """\
---
{header}
---

# A sentence encoder of `deft`

It turns French medical terms and sentences into unit vectors of {dimension} values; the cosine of two vectors
says how near their meanings are. The weights are those of {base}, {trained}.

- `model.onnx`: the graph, {precision}: tokens in, unit vectors out
- {pooling} pooling, then normalisation; at most {max_length} tokens, longer texts are truncated

## Training data

{training}

{licence}
"""


@dataclass(frozen=True)
class Origin:
    """What `encoder.json` says of the weights.

    Attributes
    ----------
    base
        The model that they started from, however many trainings ago.
    training
        What they were trained on since, first to last.
    licence
        Of the weights; "" if nobody named one.
    """

    base: str
    training: tuple[str, ...] = ()
    licence: str = ""

    @classmethod
    def read(cls, model: Path | str) -> Origin:
        """Read what a model folder says of itself; of a model that is no folder only the name is known.

        Raises
        ------
        InputError
            `origin.json` or `encoder.json` is malformed.
        """
        folder = Path(model)
        if (folder / ORIGIN).is_file():
            try:
                return TypeAdapter(cls).validate_python(read_json(folder / ORIGIN))
            except ValidationError as error:
                raise InputError("does not name base, training and licence.", path=folder / ORIGIN) from error
        if (folder / INFO).is_file():
            return cls.of(parse_info(folder / INFO))
        named = _LICENCE.match(read_text(folder / CARD)) if (folder / CARD).is_file() else None
        return cls(folder.resolve().name if folder.is_dir() else str(model), (), named[1] if named else "")

    @classmethod
    def of(cls, info: EncoderInfo) -> Origin:
        """Return what a bundle says."""
        return cls(info.base, info.training, info.licence)

    def trained_on(self, data: Iterable[str]) -> Origin:
        """Return the origin of weights that were trained further."""
        return replace(self, training=(*self.training, *data))

    def save(self, folder: Path) -> None:
        """Write `origin.json`."""
        write_json(folder / ORIGIN, asdict(self))


def write_card(folder: Path, info: EncoderInfo) -> None:
    """Write the card of a bundle, unless its folder holds a model with a card of its own."""
    if (folder / "modules.json").is_file() and (folder / CARD).is_file():
        return
    text = _CARD.format(
        header=card_header(info.licence),
        dimension=info.dimension,
        base=info.base,
        trained="trained further" if info.training else "as they are",
        precision=info.precision + (f" ({info.engine})" if info.engine else ""),
        pooling=info.pooling,
        max_length=info.max_length,
        training=training_text(info.training),
        licence=licence_text(info.licence),
    )
    (folder / CARD).write_text(text, encoding="utf-8")


def training_text(training: Iterable[str]) -> str:
    """List the training data for a card."""
    return "\n".join(f"- {line}" for line in training) or "It was not named."


def licence_text(licence: str) -> str:
    """Say the licence for a card."""
    return f"The weights are under {licence}." if licence else "The licence of the weights was not named."


def card_header(licence: str) -> str:
    """Return the YAML header of a card, as the Hugging Face Hub reads it."""
    header = {
        "language": ["fr", "en"],
        "license": licence.lower().replace(" ", "-") or "unknown",
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["biomedical", "medical", "umls", "entity-linking"],
    }
    return yaml.safe_dump(header, sort_keys=False).rstrip()
