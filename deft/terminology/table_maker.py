"""Make the tables of concepts, in a database that spills to disk: memory does not grow with the release.

The tables depend on the set of atoms alone, not on the order in which they came. Whether a release is read
at once, or added to an index piece by piece, the result is the same.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from deft.errors import InputError
from deft.terminology.concepts import Concepts
from deft.terminology.cui import number_of
from deft.terminology.lay import LANGUAGE, LAY, LayPhrase
from deft.terminology.rrf import (
    AtomFilter,
    stream_atoms,
    stream_definitions,
    stream_retired,
    stream_semantic_types,
)
from deft.text import clean

MEMORY_MIB = 1024
"""What the database may hold in memory, by default."""

SPILL = ".deft-tables-"
"""How the name of the folder begins that it writes to."""

_LANGUAGES = ("FRE", "ENG")
_UNCLEAN = r"[^ -~]|^ | $|  "

_SCHEMA = """
create table atoms (
    cui integer, language varchar, source varchar, term_type varchar, code varchar, string varchar,
    preferred boolean
);
create table types (cui integer, tui varchar);
create table definitions (cui integer, source varchar, definition varchar);
create table retired (cui varchar, target varchar);
create table ranks (language varchar, rank integer);
"""

# What is there twice stays once; phrases of laypeople stay where a concept has a name.
_ATOMS_KEPT = """
create or replace table atoms as select distinct * from atoms
where cui in (select cui from atoms where term_type <> 'LAY')
"""

# A concept is shown by its preferred name in the first language that it has a name in. What laypeople say is
# no name, and does not make a concept better known.
_CONCEPTS = """
create table concepts as
with named as (
    select cui, first(string order by coalesce(rank, 99), preferred desc, string) as name,
        count(*)::integer as atoms, count(distinct source)::integer as sources,
        bool_or(starts_with(source, 'MSH'))::utinyint as mesh
    from atoms left join ranks using (language) where term_type <> 'LAY' group by cui
), typed as (
    select cui, string_agg(distinct tui, ';' order by tui) as semantic_types from types group by cui
), defined as (
    select cui, first(definition order by source, definition) as definition,
        first(source order by source, definition) as definition_source
    from definitions group by cui
)
select (row_number() over (order by cui) - 1)::integer as row, cui, name,
    coalesce(semantic_types, '') as semantic_types, coalesce(definition, '') as definition,
    coalesce(definition_source, '') as definition_source, atoms, sources, mesh
from named left join typed using (cui) left join defined using (cui)
"""

_STRINGS = """
create table strings as
select (row_number() over (order by string) - 1)::integer as row, string, count(*) as atoms
from atoms group by string
"""

# The atoms that tell most about a string come first.
_ATOMS = """
select strings.row as string, concepts.row as concept, language, source, term_type,
    preferred::utinyint as preferred, code
from atoms join strings using (string) join concepts using (cui) left join ranks using (language)
order by strings.row, preferred desc, coalesce(rank, 99), concepts.row, source, term_type, code
"""


class TableMaker:
    """Gather atoms and what is said of their concepts, then make tables of them.

    Parameters
    ----------
    languages
        In which order languages show a concept; French, then English, if none is given.
    memory_mib
        What the database may hold in memory; beyond it, it writes to `spill`.
    spill
        Folder for what does not fit, the system's temporary one by default.

    Example
    -------
    >>> with TableMaker() as maker:  # doctest: +SKIP
    ...     maker.add_release(Path("data/umls"), AtomFilter(languages=("FRE",)))
    ...     concepts = maker.make()
    """

    def __init__(
        self, languages: Sequence[str] = (), *, memory_mib: int = MEMORY_MIB, spill: Path | None = None
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix=SPILL, dir=spill)
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{memory_mib}MiB",
            "temp_directory": self._folder.name,
            "preserve_insertion_order": False,
        }
        self._database = duckdb.connect(":memory:", config=settings)
        self._database.execute(_SCHEMA)
        ranks = [(language, rank) for rank, language in enumerate(languages or _LANGUAGES)]
        self._database.executemany("insert into ranks values (?, ?)", ranks)

    def __enter__(self) -> Self:
        """Return the maker."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the database and remove what it wrote."""
        self._database.close()
        self._folder.cleanup()

    def add_release(self, folder: Path, keep: AtomFilter, *, progress: bool = False) -> None:
        """Add the atoms of a release that pass a filter, and what it says of their concepts.

        Raises
        ------
        InputError
            A file is missing or malformed, or nothing passes the filter.
        """
        atoms = (_cleaned(batch) for batch in stream_atoms(folder, keep, progress=progress))
        self._insert(
            "atoms",
            atoms,
            "cui[2:]::integer, language, source, term_type, code, string, preferred",
            where="string <> ''",
        )
        if not self._count("atoms"):
            raise InputError("no atom has a string that can be read.", remedy="Is MRCONSO.RRF whole?")
        known = "cui[2:]::integer in (select cui from atoms)"
        self._insert("types", stream_semantic_types(folder), "cui[2:]::integer, tui", where=known)
        definitions = stream_definitions(folder)
        self._insert("definitions", definitions, "cui[2:]::integer, source, definition", where=known)
        # only synonymy is followed: broader, narrower and related concepts (RB, RN, RO) are other concepts
        same = "relation = 'SY' and target <> ''"
        self._insert("retired", stream_retired(folder), "cui, target", where=same)

    def add_lay(self, phrases: Iterable[LayPhrase], source: str) -> None:
        """Add phrases of laypeople, by `source`, for concepts that have a name when the tables are made."""
        now = _followed(self._database.sql("select cui, target from retired").fetchall())
        rows = [
            {"cui": number_of(cui), "source": source, "relation": said.relation, "string": clean(said.phrase)}
            for said in phrases
            for cui in now.get(said.cui, (said.cui,))
        ]
        columns = f"cui::integer, '{LANGUAGE}', source, '{LAY}', relation, string, false"
        self._insert("atoms", [pa.RecordBatch.from_pylist(rows)] if rows else [], columns, where="true")

    def add_tables(self, concepts: Concepts) -> None:
        """Add what an index holds."""
        tables = concepts.tables
        self._database.register("old_strings", _numbered(tables["strings"]))
        self._database.register("old_concepts", _numbered(tables["concepts"]))
        for name in ("atoms", "retired"):
            self._database.register(f"old_{name}", tables[name])
        self._database.execute("""
            insert into atoms select old_concepts.cui, language, source, term_type, code, old_strings.string,
                preferred::boolean
            from old_atoms join old_strings on old_strings.row = old_atoms.string
                join old_concepts on old_concepts.row = old_atoms.concept;
            insert into types select cui, unnest(string_split(semantic_types, ';'))
                from old_concepts where semantic_types <> '';
            insert into definitions select cui, definition_source, definition
                from old_concepts where definition <> '';
            insert into retired select format('C{:07d}', cui), format('C{:07d}', target) from old_retired;
        """)
        for name in ("strings", "concepts", "atoms", "retired"):
            self._database.unregister(f"old_{name}")

    def remove(self, *, cuis: Iterable[str] = (), sources: Iterable[str] = ()) -> list[str]:
        """Take out the atoms of concepts and of sources, and return those that have none: all, or nothing.

        Raises
        ------
        InputError
            A CUI is none.
        """
        numbers, names = {number_of(cui): cui for cui in cuis}, list(sources)
        absent = self._absent("cui", list(numbers)) + self._absent("source", names)
        if absent:
            return [numbers.get(value, value) for value in absent]
        self._database.execute(
            "delete from atoms where list_contains(?, cui) or list_contains(?, source)",
            [list(numbers), names],
        )
        for table in ("types", "definitions"):
            self._database.execute(f"delete from {table} where cui not in (select cui from atoms)")  # noqa: S608
        return []

    def make(self) -> Concepts:
        """Make the tables; the maker is of no use afterwards.

        Raises
        ------
        InputError
            There is no atom.
        """
        self._database.execute(_ATOMS_KEPT)
        if not self._count("atoms"):
            raise InputError("no atom is left.", remedy="An index needs one at least.")
        self._database.execute(_CONCEPTS)
        self._database.execute(_STRINGS)
        counts = "sum(atoms) over (order by row rows between unbounded preceding and 1 preceding)"
        tables = {
            "strings": self._table(
                f"select string, coalesce({counts}, 0)::integer as first_atom from strings order by row"  # noqa: S608
            ),
            "atoms": self._table(_ATOMS),
            "concepts": self._table("select * exclude (row) from concepts order by row"),
            "retired": _retired(self._database.sql("select cui, target from retired").fetchall()),
        }
        return Concepts(tables)

    def _insert(self, table: str, batches: Iterable[pa.RecordBatch], columns: str, *, where: str) -> None:
        for batch in batches:
            self._database.register("batch", batch)
            self._database.execute(f"insert into {table} select {columns} from batch where {where}")  # noqa: S608
            self._database.unregister("batch")

    def _absent(self, column: str, values: list[Any]) -> list[Any]:
        """Return the values that no atom has."""
        query = f"from (select unnest(?) as value) where value not in (select {column} from atoms)"  # noqa: S608
        return sorted(value for (value,) in self._database.execute(query, [values]).fetchall())

    def _count(self, table: str) -> int:
        rows = self._database.execute(f"select count(*) from {table}").fetchall()  # noqa: S608
        return int(rows[0][0])

    def _table(self, query: str) -> pa.Table:
        return self._database.sql(query).to_arrow_table()


def read_concepts(folder: Path, keep: AtomFilter, *, progress: bool = False) -> Concepts:
    """Read the RRF files of a Metathesaurus.

    Raises
    ------
    InputError
        A file is missing or malformed, or nothing passes the filter.
    """
    with TableMaker(keep.languages) as maker:
        maker.add_release(folder, keep, progress=progress)
        return maker.make()


def _cleaned(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Clean the strings of a batch; few need it, and they are found by pattern."""
    strings = batch["string"]
    unclean = pc.match_substring_regex(strings, _UNCLEAN)
    better = pa.array([clean(text) for text in strings.filter(unclean).to_pylist()], strings.type)
    place = batch.schema.get_field_index("string")
    return batch.set_column(place, "string", pc.replace_with_mask(strings, unclean, better))


def _numbered(table: pa.Table) -> pa.Table:
    return table.append_column("row", pa.array(range(len(table)), pa.int32()))


def _retired(edges: Iterable[tuple[str, str]]) -> pa.Table:
    rows = [(cui, target) for cui, targets in _followed(edges).items() for target in targets]
    numbers = [[number_of(cui) for cui in column] for column in zip(*rows, strict=True)] or [[], []]
    return pa.table({"cui": numbers[0], "target": numbers[1]})


def _followed(edges: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return what retired CUIs became, through any number of releases."""
    following: dict[str, set[str]] = {}
    for cui, target in edges:
        following.setdefault(cui, set()).add(target)
    found = {}
    for cui in sorted(following):
        reached, open_ = set[str](), [cui]
        while open_:
            for target in following.get(open_.pop(), set()) - reached:
                reached.add(target)
                open_.append(target)
        if last := [target for target in sorted(reached - {cui}) if target not in following]:
            found[cui] = last
    return found
