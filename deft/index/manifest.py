"""What a release of an index was built from, and whether it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

import deft
from deft.encoder.bundle import INFO
from deft.errors import InputError
from deft.files import read_json, sha256, write_json
from deft.index.dense import CODES
from deft.index.releases import REBUILD

FORMAT = 4
NAME = "manifest.json"
ENCODER = "encoder"

_READ_WHOLE = (CODES, f"{ENCODER}/{INFO}")
"""Files that are read whole when an index is opened, so that their checksums cost little; a damaged file of
codes would crash FAISS. The encoder checks its other files itself."""


class FileRecord(BaseModel):
    """Size in bytes and SHA-256 of a file."""

    model_config = ConfigDict(frozen=True)

    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        """Measure a file."""
        return cls(size=path.stat().st_size, sha256=sha256(path))


class Manifest(BaseModel):
    """The manifest of a release of an index.

    Attributes
    ----------
    format
        Version of the layout of the folder.
    deft_version
        Version of the package that built it.
    inputs
        The RRF files that were read.
    filters
        The filter they were read with.
    rows
        Numbers of strings, atoms and concepts.
    encoder
        Fingerprint of the encoder, its dimension and precision.
    kind
        Kind of vector index: searched exactly (flat), or by cells of codes (ivf).
    search
        Of an approximate index: how many cells it has, how many are looked in, and how many rows are
        proposed for each that is wanted.
    files
        Every other file of the folder, but for what is being written (its name begins with a dot) and the
        settings of the encoder, which `deft tune` may change.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    deft_version: str = deft.__version__
    inputs: dict[str, FileRecord]
    filters: dict[str, Any]
    rows: dict[str, int]
    encoder: dict[str, Any]
    kind: str
    search: dict[str, int] = {}
    files: dict[str, FileRecord]

    def write(self, folder: Path) -> None:
        """Write the manifest; it comes last, so that a folder without one is known to be incomplete."""
        write_json(folder / NAME, self.model_dump())

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest of a release and check that each file is there in its full size.

        Raises
        ------
        InputError
            The folder is no release, is of another version, or is not whole.
        """
        path = folder / NAME
        if not path.is_file():
            raise InputError("is missing from the index.", path=path, remedy=REBUILD)
        values = read_json(path)
        version = values.get("format") if isinstance(values, dict) else None
        if version != FORMAT:
            problem = f"is an index of format {version}; this version of deft reads format {FORMAT}."
            raise InputError(problem, path=folder, remedy=REBUILD)
        try:
            manifest = cls.model_validate(values)
        except ValidationError as error:
            field = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise InputError("is damaged.", path=path, field=field, remedy=REBUILD) from error
        manifest._check(folder)
        return manifest

    def verify(self, folder: Path) -> None:
        """Check the SHA-256 of every file.

        Raises
        ------
        InputError
            A file is not what was built.
        """
        for name, record in self.files.items():
            _check_sum(folder / name, record)

    def _check(self, folder: Path) -> None:
        for name, record in self.files.items():
            path = folder / name
            if not path.is_file():
                raise InputError("is missing from the index.", path=path, remedy=REBUILD)
            size = path.stat().st_size
            if size != record.size:
                problem = f"has {size} bytes, not {record.size}: it was cut short or changed."
                raise InputError(problem, path=path, remedy=REBUILD)
            if name in _READ_WHOLE:
                _check_sum(path, record)


def _check_sum(path: Path, record: FileRecord) -> None:
    if sha256(path) != record.sha256:
        raise InputError("does not have the checksum it was built with.", path=path, remedy=REBUILD)
