"""The UMLS semantic groups: 15 groups of semantic types.

McCray et al. 2001, "Aggregating UMLS semantic types for reducing conceptual complexity"; the lists are those
of the file `SemGroups.txt` of the Semantic Network, with the types that earlier releases had.
"""

from __future__ import annotations

from deft.errors import InputError

GROUPS: dict[str, tuple[str, ...]] = {
    "ACTI": ("T051", "T052", "T053", "T054", "T055", "T056", "T057", "T064", "T066"),
    "ANAT": ("T017", "T018", "T021", "T022", "T023", "T024", "T025", "T026", "T029", "T030", "T031"),
    "CHEM": (
        "T103", "T104", "T109", "T110", "T111", "T114", "T115", "T116", "T118", "T119", "T120", "T121",
        "T122", "T123", "T124", "T125", "T126", "T127", "T129", "T130", "T131", "T192", "T195", "T196",
        "T197", "T200",
    ),
    "CONC": ("T077", "T078", "T079", "T080", "T081", "T082", "T089", "T102", "T169", "T170", "T171", "T185"),
    "DEVI": ("T074", "T075", "T203"),
    "DISO": ("T019", "T020", "T033", "T037", "T046", "T047", "T048", "T049", "T050", "T184", "T190", "T191"),
    "GENE": ("T028", "T085", "T086", "T087", "T088"),
    "GEOG": ("T083",),
    "LIVB": (
        "T001", "T002", "T003", "T004", "T005", "T006", "T007", "T008", "T009", "T010", "T011", "T012",
        "T013", "T014", "T015", "T016", "T096", "T097", "T098", "T099", "T100", "T101", "T194", "T204",
    ),
    "OBJC": ("T071", "T072", "T073", "T167", "T168"),
    "OCCU": ("T090", "T091"),
    "ORGA": ("T092", "T093", "T094", "T095"),
    "PHEN": ("T034", "T038", "T067", "T068", "T069", "T070"),
    "PHYS": ("T032", "T039", "T040", "T041", "T042", "T043", "T044", "T045", "T201"),
    "PROC": ("T058", "T059", "T060", "T061", "T062", "T063", "T065"),
}  # fmt: skip

GROUP_OF: dict[str, str] = {tui: group for group, tuis in GROUPS.items() for tui in tuis}


def types_of(groups: tuple[str, ...]) -> frozenset[str]:
    """Return the semantic types (TUI) of the named groups.

    Raises
    ------
    InputError
        A group does not exist.
    """
    unknown = [group for group in groups if group not in GROUPS]
    if unknown:
        raise InputError(
            f"no semantic group is called {', '.join(unknown)}.",
            remedy=f"The groups are {', '.join(GROUPS)}.",
        )
    return frozenset(tui for group in groups for tui in GROUPS[group])
