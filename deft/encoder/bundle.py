"""What an encoder folder holds: the graph, the tokenizer, and the facts that identify them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from deft.errors import InputError
from deft.files import atomic_folder, read_json, sha256, write_json

MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
INFO = "encoder.json"
FILES = (MODEL, TOKENIZER, INFO)
SETTINGS = "runtime.json"  # how it is best run; may be missing
CARD = "README.md"  # what it is, its origin and licence, for a reader; may be missing
SHIPPED = "shipped"
"""The name of the encoder that comes with deft."""

REBUILD = "Export or quantize the encoder again, or copy the whole folder anew."

# Strings whose vectors are stored with every encoder. Short and long, upper and lower case, accents, figures
# and an English one: a tokenizer or a graph that went wrong shows on one of them.
PROBES = (
    "fièvre",
    "Crise cardiaque",
    "douleur thoracique à l'effort",
    "MALADIE DE CROHN",
    "high blood pressure",
    "diabète de type 2, non insulino-dépendant (DNID)",
    "Avalez les comprimés à 500 mg entiers, deux fois par jour ; après un oubli, ne doublez pas la dose.",
)
PROBE_VALUES = 8


@dataclass(frozen=True)
class EncoderInfo:
    """The facts about an encoder, as `encoder.json` keeps them.

    `batch_invariant` is false for a graph with one activation scale a tensor: there, a text's vector depends
    on the other texts of its batch, and the runtime encodes one text at a time.
    """

    dimension: Annotated[int, Field(ge=1, le=65_536)]
    max_length: Annotated[int, Field(ge=4, le=1_048_576)]
    pooling: Literal["mean", "cls"]
    precision: Literal["fp32", "int8"]
    engine: str | None  # the variant (`deft.variants`), of another version of deft perhaps; None for fp32
    batch_invariant: bool
    base: str
    training: tuple[str, ...]
    licence: str
    deft_version: str
    sha256: str = ""
    tokenizer_sha256: str = ""
    probes: Mapping[str, tuple[float, ...]] | None = None

    @property
    def fingerprint(self) -> str:
        """Return one SHA-256 over graph and tokenizer: equal fingerprints give equal vectors."""
        return hashlib.sha256(f"{self.sha256} {self.tokenizer_sha256}".encode()).hexdigest()


def find_encoder(name: str | Path = SHIPPED) -> Path:
    """Return the folder of an encoder, given by its path or as `shipped`, the one that comes with deft.

    Raises
    ------
    InputError
        This installation has no encoder of its own.
    """
    if str(name) != SHIPPED or Path(name).is_dir():
        return Path(name)
    inside = Path(__file__).with_name(SHIPPED)
    checkout = Path(__file__).parents[2] / "data" / "encoder"
    for folder in (inside, checkout):
        if (folder / INFO).is_file():
            return folder
    raise InputError("this installation of deft has no encoder.", remedy="Give one with --encoder FOLDER.")


def read_info(folder: Path) -> EncoderInfo:
    """Read `encoder.json` and check that graph and tokenizer are the files it describes.

    Raises
    ------
    InputError
        The folder or a file is missing, `encoder.json` is malformed, or a checksum differs.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            "there is no such encoder folder.", path=folder, remedy="Give the folder of an exported encoder."
        )
    for name in FILES:
        if not (folder / name).is_file():
            raise InputError(f"the encoder folder has no {name}.", path=folder, remedy=REBUILD)
    info = parse_info(folder / INFO)
    for name, expected in ((MODEL, info.sha256), (TOKENIZER, info.tokenizer_sha256)):
        if sha256(folder / name) != expected:
            raise InputError(
                f"is not the file that {INFO} describes (SHA-256 differs).",
                path=folder / name,
                remedy=REBUILD,
            )
    return info


def write_info(folder: Path, info: EncoderInfo) -> None:
    """Write `encoder.json`."""
    write_json(Path(folder) / INFO, asdict(info))


@contextmanager
def bundle_folder(out: Path) -> Iterator[Path]:
    """Give a folder to write a bundle in, and put it in the place of `out` at the end.

    What else `out` holds stays: the same folder may also hold the PyTorch model. Settings go with the former
    encoder that they were found for.

    Raises
    ------
    InputError
        The folder cannot be written, or the disk is full.
    """
    out = Path(out)
    with atomic_folder(out) as folder:
        if out.is_dir():
            shutil.copytree(out, folder, dirs_exist_ok=True, ignore=_skip_bundle(out))
        yield folder


def _skip_bundle(root: Path) -> Callable[[str, list[str]], Sequence[str]]:
    return lambda folder, _names: (*FILES, SETTINGS) if Path(folder) == root else ()


def parse_info(path: Path) -> EncoderInfo:
    """Read an `encoder.json` alone.

    Raises
    ------
    InputError
        It is malformed.
    """
    try:
        return TypeAdapter(EncoderInfo).validate_python(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or None
        raise InputError(f"{first['msg']}.", path=path, field=field, remedy=REBUILD) from error
