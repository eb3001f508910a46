"""Fit the mapping model: how much each signal weighs, and what a probability is worth.

Every query of the gold is seen in the index as it is, and again in some from which its concept is missing, so
that the model learns when to say "none of these". What is compared and what is calibrated is out of fold:
queries of one concept are in one fold.

Where there is no gold, strings of the index are queries: each is kept from answering, and the other strings
of its concept have to. Phrases of laypeople (`deft.terminology.lay`) can be such queries too; then all
phrases of their concept are kept from answering: most of what patients say is not in the index either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from pydantic import Field, model_validator
from scipy.optimize import minimize, minimize_scalar

from deft.config import Block
from deft.corpora.absent import capitals, held_off
from deft.corpora.delimited import read_rows
from deft.corpora.noise import noisy_texts
from deft.corpora.split import held_out
from deft.errors import InputError
from deft.index.releases import OWN_MODEL
from deft.mapping.filters import ConceptFilter
from deft.mapping.fusion import SIGNALS, MappingModel
from deft.mapping.kinds import Kinds
from deft.mapping.pool import FEATURES, NO_MATCH_FEATURES, Pool
from deft.mapping.trees import Trees
from deft.terminology.concepts import Concepts
from deft.terminology.lay import LANGUAGE, LAY
from deft.terminology.lexicon import GoldMapping, read_cuis, read_gold
from deft.terminology.semantic_groups import GROUP_OF
from deft.text import clean, normalize

if TYPE_CHECKING:
    from deft.mapping.mapper import TermMapper

_LEAST = 1e-9
_LEAST_EXAMPLES = 100  # of a kind that trees are trained on
_LEAST_PULL = 1e-3
_NOWHERE = "no answer to "  # what the group of a query without an answer begins with
_SHARPNESS = (0.1, 10.0)


class GoldParams(Block):
    """A gold file to fit on.

    Attributes
    ----------
    path, query, cui
        Table with a column of queries and one of CUIs.
    where
        Values that a row must have.
    document, share, part
        Column of the document, and the share of documents that are held out from the encoder
        (`deft.corpora.split`); these are taken, or the others. All rows by default.
    weight
        Weight of a query of this file.
    calibrate
        Whether confidence is calibrated on it: not on what the encoder learned from, where it is surer than
        elsewhere.
    """

    path: Path
    query: str
    cui: str
    where: dict[str, str] = Field(default_factory=dict)
    document: str | None = None
    share: float = Field(default=1.0, gt=0, le=1)
    part: Literal["held_out", "others"] = "held_out"
    weight: float = Field(default=1.0, gt=0)
    calibrate: bool = True

    def takes(self, row: GoldMapping) -> bool:
        """Tell whether a row of the file is of the part that is taken."""
        return self.document is None or held_out(row.row[self.document], self.share) == (
            self.part == "held_out"
        )


class AbsentParams(Block):
    """A file of queries whose concept no index of its kind has."""

    path: Path
    query: str
    weight: float = Field(default=1.0, gt=0)


class KindParams(Block):
    """A file of terms whose semantic group is known.

    Attributes
    ----------
    path, query
        Table with a column of terms.
    group
        Column of the semantic group, `OTHER` for what is in none; rows without one are left out.
    always
        The group of all terms, where there is no such column.
    where
        Values that a row must have.
    most
        Number of terms that are drawn; all if None.
    """

    path: Path
    query: str
    group: str | None = None
    always: str | None = None
    where: dict[str, str] = Field(default_factory=dict)
    most: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _says_one(self) -> KindParams:
        if (self.group is None) == (self.always is None):
            raise ValueError("name either the column of the group or the group of all")
        return self


class FitParams(Block):
    """How the mapping model is fitted.

    Attributes
    ----------
    gold
        Files that the evaluation does not use. Queries whose concept the index lacks are queries without
        an answer.
    absent
        More queries without an answer.
    held_off
        Number of gold queries that are once more queries without an answer: "pas de ..." before them, or the
        like (`deft.corpora.absent`).
    capitals
        Number of such queries that are a few capitals.
    drawn_weight
        Weight of one of these.
    kinds
        Files that the kind of a query is learned from (`deft.mapping.kinds`).
    kinds_of_index
        Number of strings of the index, for each of its semantic groups, that the kind is learned from too.
    noise_weight
        Weight of each gold query once more as it is written wrong (`deft.corpora.noise`); 0 for none.
    held_out_synonyms
        Number of concepts of the index of which a string is a query that may not answer for itself.
    held_out_lay
        Number of concepts of the index of which a lay phrase is a query, and no lay phrase may answer.
        Confidence is not calibrated on these: the encoder may have learned from them.
    held_out_lay_weight
        Weight of such a query.
    context_weight
        Weight of queries once more with what laypeople say for their concept beside them, and of every third
        with what they say for another one; 0 for none.
    held_out, held_out_cui_column
        Tables of an evaluation, and their column of CUIs: strings of these concepts are no such queries.
    no_match_share
        Weight of queries whose concept is missing from the index, among all.
    draws
        How many times half of the concepts are missing. Only the first counts for the ranking.
    regularisation
        Of the squared weights of the standardised signals.
    folds, seed
        Of the cross-validation.
    """

    gold: tuple[GoldParams, ...] = ()
    absent: tuple[AbsentParams, ...] = ()
    held_off: int = Field(default=0, ge=0)
    capitals: int = Field(default=0, ge=0)
    drawn_weight: float = Field(default=1.0, gt=0)
    kinds: tuple[KindParams, ...] = ()
    kinds_of_index: int = Field(default=0, ge=0)
    noise_weight: float = Field(default=0.0, ge=0)
    held_out_synonyms: int = Field(default=0, ge=0)
    held_out_lay: int = Field(default=0, ge=0)
    held_out_lay_weight: float = Field(default=0.3, gt=0)
    context_weight: float = Field(default=0.0, ge=0)
    held_out: tuple[Path, ...] = ()
    held_out_cui_column: str = "CUI"
    no_match_share: float = Field(default=0.05, ge=0, lt=1)
    draws: int = Field(default=3, ge=1)
    regularisation: float = Field(default=1.0, gt=0)
    folds: int = Field(default=5, ge=2)
    seed: int = Field(default=13, ge=0)

    @model_validator(mode="after")
    def _has_queries(self) -> FitParams:
        if not (self.gold or self.held_out_synonyms or self.held_out_lay):
            raise ValueError("there is neither gold nor a number of held_out_synonyms or held_out_lay")
        return self


@dataclass(frozen=True)
class FitQuery:
    """A gold query, its weight, whether confidence is calibrated on it, and what stands beside it.

    Without CUIs it has no answer. One that was `drawn` to have none is left out where the index has it as a
    string.
    """

    gold: GoldMapping
    weight: float = 1.0
    calibrate: bool = True
    context: str = ""
    drawn: bool = False


@dataclass(frozen=True)
class Example:
    """A query with its pool.

    Attributes
    ----------
    pool
        Concepts to choose from.
    right
        Which of them are right, bool of shape (concepts,); none if the concept is missing from the index.
    group
        What must stay in one fold: the gold concepts.
    weight
        Weight in the loss.
    present
        Whether the concept is in the index.
    calibrate
        Whether confidence is calibrated on it.
    draw
        Which draw of missing concepts it is of.
    """

    pool: Pool
    right: np.ndarray
    group: str
    weight: float
    present: bool
    calibrate: bool = True
    draw: int = 0


def fit_index(
    index: str | Path,
    params: FitParams,
    out: str | Path | None = None,
    *,
    compare: Callable[[Sequence[Example], FitParams], Any] | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Fit the mapping model of an index and write it.

    Parameters
    ----------
    index
        The index.
    params
        Gold to fit on, and how.
    out
        File to write; by default `mapping.json` in the index, which uses it from then on.
    compare
        What else to tell of the examples, such as `deft.evaluation.rankings.compare_rankings`.
    progress
        Show progress on standard error.

    Returns
    -------
    dict
        `queries` of the gold with their concept in the index, and what `compare` returned as `rankings`.

    Raises
    ------
    InputError
        The index or a gold file cannot be read, or no query has its concept in the index.
    """
    from deft.mapping.mapper import TermMapper

    # a model that the index has may be of another version: this is how it is made anew
    kinds = fit_kinds(TermMapper.open(index, model=MappingModel.blank()), params)
    mapper = TermMapper.open(index, model=MappingModel.blank(kinds))
    found: list[Example] = []
    for queries, strings in _asked(mapper.concepts, params):
        found += examples(mapper, queries, params, strings=strings, progress=progress)
    result: dict[str, Any] = {"queries": sum(example.present for example in found)}
    if compare is not None:
        result["rankings"] = compare(found, params)
    about = {
        "gold": [block.path.name for block in params.gold],
        "held_out_synonyms": params.held_out_synonyms,
        "held_out_lay": params.held_out_lay,
        "encoder": mapper.encoder.fingerprint,
    }
    replace(fit(found, params), kinds=kinds, about=about | result).save(
        Path(index) / OWN_MODEL if out is None else Path(out)
    )
    return result


def _asked(concepts: Concepts, params: FitParams) -> Iterator[tuple[list[FitQuery], np.ndarray]]:
    """Yield queries of each sort, and the strings that may answer them."""
    drawn = []
    if params.gold:
        drawn.append((read_fit_gold(params), np.ones(concepts.rows["strings"], dtype=bool)))
    if params.held_out_synonyms:
        drawn.append(synonym_queries(concepts, params))
    yield from drawn
    if params.context_weight:
        beside = (context_queries(concepts, *part, params) for part in drawn)
        yield from ((queries, strings) for queries, strings in beside if queries)
    if params.held_out_lay:
        yield lay_queries(concepts, params)


def read_fit_gold(params: FitParams) -> list[FitQuery]:
    """Read the gold of every file.

    Raises
    ------
    InputError
        A file is missing or malformed.
    """
    queries: list[FitQuery] = []
    for block in params.gold:
        columns = () if block.document is None else (block.document,)
        rows = read_gold(block.path, block.query, block.cui, where=block.where, columns=columns)
        queries += [FitQuery(row, block.weight, block.calibrate) for row in rows if block.takes(row)]
    for absent in params.absent:
        terms = [row[absent.query] for _, row in read_rows(absent.path, (absent.query,))]
        queries += [FitQuery(GoldMapping(term, frozenset()), absent.weight) for term in terms if term]
    named = [query.gold.query for query in queries if query.gold.cuis]
    queries += [
        FitQuery(GoldMapping(term, frozenset()), params.drawn_weight, drawn=True)
        for term in (
            *held_off(named, params.held_off, params.seed),
            *capitals(params.capitals, params.seed),
        )
    ]
    if params.noise_weight:
        queries += _written_wrong(queries, params)
    return queries


def _written_wrong(queries: Sequence[FitQuery], params: FitParams) -> list[FitQuery]:
    """Return each query as one kind of noise writes it, where one changes it."""
    noise = noisy_texts([query.gold.query for query in queries], params.seed)
    return [
        replace(query, gold=replace(query.gold, query=text), weight=params.noise_weight * query.weight)
        for query, (kind, text) in zip(queries, noise, strict=True)
        if kind
    ]


def fit_kinds(mapper: TermMapper, params: FitParams) -> Kinds | None:
    """Learn the kinds of queries from files and from names in the index; None if there are no files."""
    if not params.kinds:
        return None
    known: dict[str, str] = {}
    for block in params.kinds:
        for term, group in _terms_of_kind(block, params.seed):
            known.setdefault(term, group)
    for group, names in _names_by_group(mapper.concepts, params).items():
        known |= dict.fromkeys(names, group)
    return Kinds.fit(mapper.encoder.encode(list(known)), list(known.values()))


def _terms_of_kind(block: KindParams, seed: int) -> list[tuple[str, str]]:
    """Return the terms of a file, each with its group."""
    columns = (block.query, *block.where, *([] if block.group is None else [block.group]))
    terms = [
        (clean(row[block.query]), block.always or row[str(block.group)])
        for _, row in read_rows(block.path, columns)
        if all(row[column] == value for column, value in block.where.items())
    ]
    terms = sorted({(term, group) for term, group in terms if term and group})
    order = np.random.default_rng(seed).permutation(len(terms))[: block.most]
    return [terms[place] for place in order]


def _names_by_group(concepts: Concepts, params: FitParams) -> dict[str, list[str]]:
    """Draw French strings of concepts of each semantic group, if they are of one group only."""
    types = concepts.labels("concepts", "semantic_types")
    groups = [{GROUP_OF.get(tui, "") for tui in listed.split(";")} for listed in types.values]
    single = np.array([next(iter(own)) if len(own) == 1 else "" for own in groups])
    of_atom = single[types.codes[concepts.numbers("atoms", "concept")]]
    french = concepts.labels("atoms", "language").isin([LANGUAGE])
    draw, texts = np.random.default_rng(params.seed), concepts.texts("strings", "string")
    found = {}
    for group in sorted(set(single.tolist()) - {""}):
        rows = np.unique(concepts.numbers("atoms", "string")[(of_atom == group) & french])
        found[group] = [texts.at(row) for row in draw.permutation(rows)[: params.kinds_of_index]]
    return found


def synonym_queries(concepts: Concepts, params: FitParams) -> tuple[list[FitQuery], np.ndarray]:
    """Draw a string of each of `held_out_synonyms` concepts, which is a query, and keep it from answering.

    Preferred names are no queries. What reads the same is one string (`deft.text.normalize`). Concepts of
    `held_out` take no part: neither as queries nor as answers, for they would be wrong each time.

    Returns
    -------
    queries : list of FitQuery
        With every concept that has the string and another one.
    strings
        The strings that may answer, bool of shape (strings,).

    Raises
    ------
    InputError
        A table of `held_out` cannot be read.
    """
    cuis, names = np.asarray(concepts.concepts["cui"]), set(concepts.concepts["name"])
    string, owner = np.asarray(concepts.atoms["string"]), np.asarray(concepts.atoms["concept"])
    texts = list(concepts.strings["string"])
    keys = [normalize(text) for text in texts]
    closed = _closed(concepts, params)
    refused = {keys[row] for row in string[closed[owner]]}
    drawn: dict[int, int] = {}
    for atom in np.random.default_rng(params.seed).permutation(len(string)).tolist():
        if len(drawn) == params.held_out_synonyms:
            break
        row = int(string[atom])
        if texts[row] not in names and keys[row] not in refused:
            drawn.setdefault(int(owner[atom]), row)
    asked = {keys[row]: texts[row] for row in drawn.values()}
    answers = np.array([key not in asked and key not in refused for key in keys])
    left = np.bincount(owner[answers[string]], minlength=len(cuis)) > 0
    right: dict[str, set[str]] = {key: set() for key in asked}
    for atom in np.flatnonzero(~answers[string] & left[owner] & ~closed[owner]):
        right.get(keys[string[atom]], set()).add(cuis[owner[atom]])
    return [FitQuery(GoldMapping(asked[key], frozenset(own))) for key, own in right.items() if own], answers


def lay_queries(concepts: Concepts, params: FitParams) -> tuple[list[FitQuery], np.ndarray]:
    """Draw a lay phrase of each of `held_out_lay` concepts, and keep all lay phrases of these from answering.

    Broader phrases are no queries: they name other things as well. Concepts of `held_out` are neither queries
    nor answers.

    Returns
    -------
    queries : list of FitQuery
        With every concept that has the phrase.
    strings
        The strings that may answer, bool of shape (strings,).

    Raises
    ------
    InputError
        A table of `held_out` cannot be read, or the index has no lay phrases.
    """
    string, owner = concepts.numbers("atoms", "string"), concepts.numbers("atoms", "concept")
    closed, cuis = _closed(concepts, params), concepts.concepts["cui"].tolist()
    lay = concepts.labels("atoms", "term_type").isin([LAY])
    relation, candidates = concepts.texts("atoms", "code"), np.flatnonzero(lay & ~closed[owner])
    asked = [atom for atom in candidates.tolist() if relation.at(atom) != "broader"]
    if not asked:
        raise InputError("the index has no lay phrases.", field="held_out_lay", remedy="Build it with them.")
    drawn: dict[int, int] = {}
    for atom in np.random.default_rng(params.seed).permutation(asked).tolist():
        if len(drawn) == params.held_out_lay:
            break
        drawn.setdefault(int(owner[atom]), int(string[atom]))
    kept_out = (lay & np.isin(owner, list(drawn))) | closed[owner]
    answers = np.ones(len(concepts.tables["strings"]), dtype=bool)
    answers[string[kept_out]] = False
    right: dict[int, set[str]] = {row: set() for row in drawn.values()}
    for atom in np.flatnonzero(np.isin(string, list(right)) & ~closed[owner]):
        right[int(string[atom])].add(cuis[owner[atom]])
    texts = concepts.texts("strings", "string")
    queries = [GoldMapping(texts.at(row), frozenset(own)) for row, own in right.items()]
    return [FitQuery(query, params.held_out_lay_weight, calibrate=False) for query in queries], answers


def context_queries(
    concepts: Concepts, asked: Sequence[FitQuery], strings: np.ndarray, params: FitParams
) -> tuple[list[FitQuery], np.ndarray]:
    """Put beside queries what laypeople say for their concept, and beside some what names another.

    No lay phrase of these concepts may answer: an explanation is not in the index.

    Parameters
    ----------
    asked, strings
        The queries, and the strings that may answer them without a context.

    Returns
    -------
    queries : list of FitQuery
        Those whose concept has a lay phrase that is not broader, each once with such a phrase; every third
        once more with one of another concept.
    strings
        The strings that may answer, bool of shape (strings,).
    """
    said: dict[str, list[int]] = {}
    string, owner = concepts.numbers("atoms", "string"), concepts.numbers("atoms", "concept")
    relation, lay = concepts.texts("atoms", "code"), concepts.labels("atoms", "term_type").isin([LAY])
    for atom in np.flatnonzero(lay).tolist():
        if relation.at(atom) != "broader":
            said.setdefault(concepts.cui(owner[atom]), []).append(int(string[atom]))
    draw, texts = np.random.default_rng(params.seed), concepts.texts("strings", "string")
    known = [query for query in asked if not said.keys().isdisjoint(query.gold.cuis)]
    phrases = [draw.choice(said[min(said.keys() & query.gold.cuis)]) for query in known]
    weight = params.context_weight
    queries = [
        replace(query, weight=weight * query.weight, calibrate=False, context=texts.at(phrase))
        for query, phrase in zip(known, phrases, strict=True)
    ]
    misled = queries[::3]
    others = [misled[place].context for place in draw.permutation(len(misled))]
    queries += [replace(query, context=other) for query, other in zip(misled, others, strict=True)]
    answers = strings.copy()
    rows = [row for cui in {cui for query in known for cui in query.gold.cuis} for row in said.get(cui, ())]
    answers[rows] = False
    return queries, answers


def _closed(concepts: Concepts, params: FitParams) -> np.ndarray:
    """Return which concepts are of a table of `held_out`, bool of shape (concepts,)."""
    gold = [read_cuis(path, params.held_out_cui_column) for path in params.held_out]
    taken = concepts.follow(chain.from_iterable(chain.from_iterable(gold)))
    return np.isin(concepts.concepts["cui"].to_numpy(), list(taken))


def examples(
    mapper: TermMapper,
    queries: Sequence[FitQuery],
    params: FitParams,
    *,
    strings: np.ndarray | None = None,
    progress: bool = False,
) -> list[Example]:
    """Make the examples of every query: those whose concept is in the index, and those without an answer.

    Only `strings` may answer, bool of shape (strings,); all if None.

    Raises
    ------
    InputError
        No query has its concept in the index.
    """
    concepts = mapper.concepts
    current = [
        replace(query, gold=replace(query.gold, cuis=concepts.follow(query.gold.cuis) & concepts.cuis))
        for query in queries
    ]
    kept = [query for query in current if query.gold.cuis]
    without = [query for query in current if not query.gold.cuis]
    if not kept:
        raise InputError("no query has its concept in the index.", field="gold")
    make = partial(_examples, mapper, strings=strings, progress=progress)
    found = make(kept, ConceptFilter(), 1 - params.no_match_share)
    if params.no_match_share:
        found += make(without, ConceptFilter(), params.no_match_share)
    for draw in range(params.draws if params.no_match_share else 0):
        for half in _halves(kept, params.seed + draw):
            missing = ConceptFilter(exclude=frozenset(cui for query in half for cui in query.gold.cuis))
            found += make(half, missing, params.no_match_share, draw=draw)
    return found


def fit(found: Sequence[Example], params: FitParams) -> MappingModel:
    """Fit weights on the first draw, and on what is out of fold whether any concept is right."""
    folds = folds_of(found, params)
    model = fit_weights(first_draw(found), params.regularisation)
    unseen: list[MappingModel] = [model] * len(found)
    for fold in np.unique(folds):
        train = [example for example, own in zip(found, folds, strict=True) if own != fold]
        other = fit_weights(first_draw(train), params.regularisation)
        for place in np.flatnonzero(folds == fold).tolist():
            unseen[place] = other
    signals = np.stack([own.signals(example.pool) for own, example in zip(unseen, found, strict=True)])
    trees, log_odds = _fit_trees(found, signals, folds, params.seed)
    return replace(
        model,
        trees=trees,
        curve=_fit_curve(found, log_odds, signals[:, SIGNALS.index("odds_any")]),
        sharpness=_fit_sharpness(found, unseen),
    )


def _examples(
    mapper: TermMapper,
    queries: Sequence[FitQuery],
    keep: ConceptFilter,
    weight: float,
    *,
    draw: int = 0,
    strings: np.ndarray | None,
    progress: bool,
) -> list[Example]:
    cuis = mapper.concepts.concepts["cui"].to_numpy()
    texts = [query.gold.query for query in queries]
    contexts = [query.context for query in queries]
    pools = mapper.pools(texts, keep=keep, strings=strings, contexts=contexts, progress=progress)
    return [
        Example(
            pool,
            np.isin(cuis[pool.concept], list(query.gold.cuis)),
            min(query.gold.cuis, default=f"{_NOWHERE}{normalize(query.gold.query)}"),
            weight * query.weight,
            present=keep == ConceptFilter() and bool(query.gold.cuis),
            calibrate=query.calibrate,
            draw=draw,
        )
        for query, pool in zip(queries, pools, strict=True)
        if len(pool) and not (query.drawn and (pool.column("same") == 1).any())
    ]


def _halves(queries: Sequence[FitQuery], seed: int) -> tuple[list[FitQuery], list[FitQuery]]:
    """Split queries so that those of one concept are in one half."""
    groups = sorted({min(query.gold.cuis) for query in queries})
    chosen = set(np.random.default_rng(seed).permutation(groups)[: len(groups) // 2].tolist())
    first = [query for query in queries if min(query.gold.cuis) in chosen]
    return first, [query for query in queries if min(query.gold.cuis) not in chosen]


def folds_of(found: Sequence[Example], params: FitParams) -> np.ndarray:
    """Return the fold of each example."""
    groups = sorted({example.group for example in found})
    shuffled = np.random.default_rng(params.seed).permutation(len(groups))
    fold = {group: int(place) % params.folds for group, place in zip(groups, shuffled, strict=True)}
    return np.array([fold[example.group] for example in found])


def first_draw(found: Sequence[Example]) -> list[Example]:
    """Return the examples that the ranking is fitted on."""
    return [example for example in found if example.draw == 0]


def fit_weights(found: Sequence[Example], regularisation: float) -> MappingModel:
    """Maximise the regularised likelihood of the right concepts, or else of "none of these"."""
    stack = _Stack.of(found)
    centre, scale, none_scale = stack.features.mean(axis=0), _scale(stack.features), _scale(stack.none)
    # centred, for a signal may be far from 0 beside its spread, and the search would get nowhere
    stack = replace(stack, features=(stack.features - centre) / scale, none=stack.none / none_scale)
    start = np.zeros(len(FEATURES) + len(NO_MATCH_FEATURES))
    options = {"maxiter": 1000}
    # the stubs of scipy know no gradient of this type
    found_at = cast("Any", minimize)(
        stack.loss, start, (regularisation,), jac=True, method="L-BFGS-B", options=options
    )
    theta = found_at.x
    weights, no_match = theta[: len(FEATURES)] / scale, theta[len(FEATURES) :] / none_scale
    no_match[NO_MATCH_FEATURES.index("constant")] += weights @ centre  # what centring took off the others
    return MappingModel(weights, no_match)


@dataclass(frozen=True)
class _Stack:
    """Examples one below the other.

    Attributes
    ----------
    features, right, owner
        Of each concept: its signals, whether it is right, and the number of its example.
    none, weight, answered, starts
        Of each example: the signals of "none of these", its weight, whether a concept of it is right, and the
        row of its first concept.
    """

    features: np.ndarray
    right: np.ndarray
    owner: np.ndarray
    none: np.ndarray
    weight: np.ndarray
    answered: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, found: Sequence[Example]) -> _Stack:
        """Stack examples with a concept each, at least."""
        sizes = np.array([len(example.pool) for example in found])
        return cls(
            features=np.concatenate([example.pool.features for example in found]),
            right=np.concatenate([example.right for example in found]),
            owner=np.repeat(np.arange(len(found)), sizes),
            none=np.stack([example.pool.no_match for example in found]),
            weight=np.array([example.weight for example in found]),
            answered=np.array([bool(example.right.any()) for example in found]),
            starts=np.cumsum(sizes) - sizes,
        )

    def loss(self, theta: np.ndarray, regularisation: float) -> tuple[np.float64, np.ndarray]:
        """Return the regularised negative logarithm of the likelihood, and its gradient.

        `theta` holds the weights of the signals, then those of "none of these".
        """
        width = self.features.shape[1]
        score, outside = self.features @ theta[:width], self.none @ theta[width:]
        answer = _grouped(np.where(self.right, score, -np.inf), self.starts, self.owner)
        chosen = np.where(self.answered, answer, outside)
        total = np.logaddexp(_grouped(score, self.starts, self.owner), outside)
        share = np.exp(score - total[self.owner])
        among = np.where(self.answered, chosen, np.inf)[self.owner]
        own = np.where(self.right, np.exp(score - among), 0.0)
        slope = (self.weight[self.owner] * (share - own)) @ self.features
        missing = np.exp(outside - total) - ~self.answered
        gradient = np.concatenate([slope, (self.weight * missing) @ self.none]) + regularisation * theta
        value = (self.weight * (total - chosen)).sum() + regularisation / 2 * theta @ theta
        return np.float64(value), gradient


def _grouped(values: np.ndarray, starts: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Return the logarithm of the sum of exponentials of each example's values."""
    highest = np.maximum.reduceat(values, starts)
    highest = np.where(np.isfinite(highest), highest, 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.add.reduceat(np.exp(values - highest[owner]), starts)) + highest)


def _scale(features: np.ndarray) -> np.ndarray:
    spread = features.std(axis=0)
    return np.asarray(np.where(spread > 0, spread, 1.0))


def _fit_trees(
    found: Sequence[Example], signals: np.ndarray, folds: np.ndarray, seed: int
) -> tuple[Trees | None, np.ndarray]:
    """Train trees to tell whether any concept is right, and return what they say out of fold, log-odds.

    Missing concepts weigh as much as the others. There are no trees, and 0 instead of log-odds, where one
    kind has too few examples in a fold.
    """
    right, weight = _answered(found), _balanced(found)
    log_odds = np.zeros(len(found))
    parts = [folds != fold for fold in np.unique(folds)]
    if min(min(right[part].sum(), (~right[part]).sum()) for part in parts) < _LEAST_EXAMPLES:
        return None, log_odds
    for part in parts:
        log_odds[~part] = Trees.fit(signals[part], right[part], weight[part], seed)(signals[~part])
    return Trees.fit(signals, right, weight, seed), log_odds


def _balanced(found: Sequence[Example], kept: np.ndarray | None = None) -> np.ndarray:
    """Return the weights of examples so that those with their concept weigh as much as the others.

    Of the others, queries that have no answer anywhere weigh twice as much as those whose concept was taken
    out of the index, where there are both. Only those `kept` are balanced, all if None.
    """
    weight = np.array([example.weight for example in found])
    kept = np.ones(len(found), dtype=bool) if kept is None else kept
    present = np.array([example.present for example in found])
    nowhere = np.array([example.group.startswith(_NOWHERE) for example in found])
    parts = ((present, 3), (nowhere, 2), (~present & ~nowhere, 1))
    shares = [share if weight[part & kept].sum() > 0 else 0 for part, share in parts]
    absent = max(sum(shares[1:]), 1)
    for (part, _), share, of in zip(parts, shares, (3, absent, absent), strict=True):
        weight[part] *= share / of / max(weight[part & kept].sum(), _LEAST)
    return np.asarray(weight * kept.sum() / 2)


def _fit_curve(
    found: Sequence[Example], trees: np.ndarray, odds_any: np.ndarray
) -> tuple[float, float, float]:
    """Fit the logistic curve from what trees and conditional logit say to whether any concept is right."""
    kept = _calibrated(found)
    weight = _balanced(found, kept)[kept]
    design = np.stack([trees, odds_any, np.ones(len(found))], axis=1)[kept]
    right = _answered(found)[kept].astype(float)

    def loss(theta: np.ndarray) -> np.float64:
        odds = design @ theta
        fixed = np.square(theta - (0, 1, 0)).sum()  # where all or nothing is right there is no best curve
        return np.float64((weight * (np.logaddexp(0, odds) - right * odds)).sum() + _LEAST_PULL * fixed)

    tree, any_match, constant = minimize(loss, np.array([0.0, 1.0, 0.0])).x.tolist()
    return tree, any_match, constant


def _fit_sharpness(found: Sequence[Example], models: Sequence[MappingModel]) -> float:
    """Fit what scores are multiplied by so that the first concept's share is how often it is right."""
    kept = _calibrated(found) & _answered(found)
    chosen = [
        (example, models[place].scores(example.pool)) for place, example in enumerate(found) if kept[place]
    ]
    first = [int(np.argmax(scores)) for _, scores in chosen]  # rows are in order of CUIs
    hit = np.array([example.right[place] for (example, _), place in zip(chosen, first, strict=True)])
    weight = np.array([example.weight for example, _ in chosen])

    def loss(sharpness: float) -> np.float64:
        behind = [sharpness * (scores - scores.max()) for _, scores in chosen]
        share = np.clip([1 / np.exp(values).sum() for values in behind], _LEAST, 1 - _LEAST)
        return np.float64(-(weight * np.log(np.where(hit, share, 1 - share))).sum())

    return float(minimize_scalar(loss, bounds=_SHARPNESS, method="bounded").x) if chosen else 1.0


def _answered(found: Sequence[Example]) -> np.ndarray:
    return np.array([bool(example.right.any()) for example in found])


def _calibrated(found: Sequence[Example]) -> np.ndarray:
    """Return which examples confidence is calibrated on: all if none was meant to be."""
    meant = np.array([example.calibrate for example in found])
    return meant if meant.any() else ~meant
