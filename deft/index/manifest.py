"""What an index was built from, and whether it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

import deft
from deft.errors import InputError
from deft.files import read_json, sha256, write_json

FORMAT = 3
NAME = "manifest.json"
ENCODER = "encoder"
OWN_MODEL = "mapping.json"
"""A mapping model that was fitted to the index, if there is one."""

_REBUILD = "Build it again with `deft index build`."


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
    """The manifest of an index.

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
        Every other file of the folder.
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
        """Read the manifest of an index and check that each file is there in its full size.

        Raises
        ------
        InputError
            The folder is no index, is of another version, or is not whole.
        """
        path = folder / NAME
        if not path.is_file():
            raise InputError("is no index (it has no manifest.json).", path=folder, remedy=_REBUILD)
        values = read_json(path)
        version = values.get("format") if isinstance(values, dict) else None
        if version != FORMAT:
            problem = f"is an index of format {version}; this version of deft reads format {FORMAT}."
            raise InputError(problem, path=folder, remedy=_REBUILD)
        try:
            manifest = cls.model_validate(values)
        except ValidationError as error:
            field = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise InputError("is damaged.", path=path, field=field, remedy=_REBUILD) from error
        manifest._check_sizes(folder)
        return manifest

    def verify(self, folder: Path) -> None:
        """Check the SHA-256 of every file.

        Raises
        ------
        InputError
            A file is not what was built.
        """
        for name, record in self.files.items():
            if sha256(folder / name) != record.sha256:
                problem = "does not have the checksum it was built with."
                raise InputError(problem, path=folder / name, remedy=_REBUILD)

    def _check_sizes(self, folder: Path) -> None:
        for name, record in self.files.items():
            path = folder / name
            if not path.is_file():
                raise InputError("is missing from the index.", path=path, remedy=_REBUILD)
            size = path.stat().st_size
            if size != record.size:
                problem = f"has {size} bytes, not {record.size}: it was cut short or changed."
                raise InputError(problem, path=path, remedy=_REBUILD)
