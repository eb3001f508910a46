"""The spaCy component `deft_linker`: entities of French text to UMLS concepts.

spaCy imports this module with every pipeline that it makes, as an entry point says so: it stays light, and
what reads an index is imported when one is opened.
"""

import copyreg
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from deft import Candidate, InputError, Mapping
from deft.terminology.semantic_groups import types_of
from deft.text import clean

try:
    from spacy.language import Language
    from spacy.pipeline.pipe import Pipe
    from spacy.tokens import Doc, Span
    from spacy.util import minibatch
except ModuleNotFoundError as error:
    missing = (error.name or "spacy").partition(".")[0]
    raise ModuleNotFoundError(
        f"deft.spacy needs {missing}, which is not installed. Install it with: pip install 'deft[spacy]'",
        name=missing,
    ) from error

EXTENSION = "deft"
NIL = "NIL"
"""The `kb_id_` of a span without a concept, as spaCy's own entity linker has it."""


class DeftLinker(Pipe):
    """Link the entities of a Doc, or the spans of a group, to the concepts of an index.

    The CUI of the first candidate becomes `span.kb_id_`, `NIL` where there is none or where its confidence is
    too small. `span._.deft` is the `Mapping` with all candidates, `None` for a span that was not linked.
    Spans of nothing but white space are left alone.

    The settings are part of the pipeline's configuration and nothing else is: a saved pipeline holds the path
    of the index, not the index. For another place: ``spacy.load(path, config={"components.deft_linker.index":
    other})``.

    Example
    -------
    >>> nlp.add_pipe("deft_linker", config={"index": "umls_index"})  # doctest: +SKIP
    >>> [(ent.text, ent.kb_id_) for ent in nlp("Antécédent de crise cardiaque.").ents]  # doctest: +SKIP
    [('crise cardiaque', 'C0027051')]

    Parameters
    ----------
    nlp, name
        The pipeline and the component's name in it.
    index
        Folder that `deft index build` wrote.
    k
        Number of candidates a span.
    min_confidence
        Smallest confidence, 0 to 1, with which the first candidate becomes `kb_id_`; the candidates stay.
    threshold
        Smallest score of a candidate; others are dropped.
    channel
        What ranks: meaning ("dense"), spelling ("lexical"), or both with all other signals ("fused").
    expected_present
        Share of the spans that are expected to have their concept in the index: confidence depends on it.
    sentences
        Read the sentence that a span stands in as its context; a component before must set the sentences.
    span_group
        Name of the group in `doc.spans`; the entities (`doc.ents`) if None.
    label_groups
        Semantic group ("DISO", "PROC" ...) that the concepts of a label belong to. Spans of another label are
        linked to concepts of any group.
    curated
        File of accepted and rejected pairs that `deft review apply` wrote.
    overwrite
        Link spans that have a `kb_id_` anew; if False, they stay as they are.

    Raises
    ------
    InputError
        The index cannot be opened, or a semantic group does not exist.
    """

    def __init__(  # noqa: PLR0913 - spaCy checks the configuration against the arguments
        self,
        nlp: Language,  # noqa: ARG002 - spaCy gives it to every factory
        name: str = "deft_linker",
        *,
        index: str,
        k: int = 5,
        min_confidence: float | None = None,
        threshold: float | None = None,
        channel: Literal["fused", "dense", "lexical"] = "fused",
        expected_present: float = 0.7,
        sentences: bool = False,
        span_group: str | None = None,
        label_groups: dict[str, str] | None = None,
        curated: str | None = None,
        overwrite: bool = True,
    ) -> None:
        types_of(tuple((label_groups or {}).values()))  # a group that does not exist is told now
        self.name = name
        self.cfg: dict[str, Any] = {
            "index": index,
            "k": k,
            "min_confidence": min_confidence,
            "threshold": threshold,
            "channel": channel,
            "expected_present": expected_present,
            "sentences": sentences,
            "span_group": span_group,
            "label_groups": label_groups,
            "curated": curated,
            "overwrite": overwrite,
        }
        self._open()

    def __call__(self, doc: Doc) -> Doc:
        """Link the spans of one Doc."""
        self._link([doc])
        return doc

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Link the spans of many Docs, the spans of `batch_size` Docs in one search.

        If a batch fails, its Docs are tried one by one: spaCy's error handler is given those that fail alone,
        and the others are yielded.
        """
        for docs in minibatch(stream, batch_size):  # type: ignore[no-untyped-call]
            yield from self._attempt(docs)

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave out the open index: a process that is spawned opens its own."""
        state = {**self.__dict__, "name": self.name}  # which spaCy's class keeps apart
        del state["_mapper"]
        return copyreg.__newobj__, (type(self),), state  # type: ignore[attr-defined]

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the index again."""
        for name, value in state.items():
            setattr(self, name, value)
        self._open()

    def _open(self) -> None:
        from deft import TermMapper, read_curated

        path = self.cfg["curated"]
        curated = None if path is None else read_curated(path)
        self._mapper = TermMapper.open(
            self.cfg["index"], curated=curated, expected_present=self.cfg["expected_present"]
        )
        self._process = os.getpid()
        self._map([])  # settings that the search refuses are told now

    def _attempt(self, docs: Sequence[Doc]) -> Iterator[Doc]:
        try:
            self._link(docs)
        except Exception as error:  # noqa: BLE001 - whether it is raised is for spaCy's error handler to say
            if len(docs) > 1:
                yield from (linked for doc in docs for linked in self._attempt([doc]))
            else:
                self.get_error_handler()(self.name, self, list(docs), error)
        else:
            yield from docs

    def _link(self, docs: Sequence[Doc]) -> None:
        found = [(place, span) for doc in docs for place, span in self._spans(doc)]
        mappings = self._map([span for _, span in found])
        for (place, span), mapping in zip(found, mappings, strict=True):
            self._annotate(place, span, mapping)

    def _spans(self, doc: Doc) -> Iterator[tuple[int, Span]]:
        """Yield the spans to link with their places among the entities or in the group."""
        group = self.cfg["span_group"]
        if group is not None and group not in doc.spans:
            raise InputError(
                f"the Doc has no span group {group!r}; it has {', '.join(map(repr, doc.spans)) or 'none'}.",
                remedy="Name in span_group what a component before deft_linker writes, or null for entities.",
            )
        for place, span in enumerate(doc.ents if group is None else doc.spans[group]):
            if clean(span.text) and (self.cfg["overwrite"] or not span.kb_id):
                yield place, span

    def _map(self, spans: Sequence[Span]) -> list[Mapping]:
        self._mind_fork()
        groups = self.cfg["label_groups"] or {}
        return self._mapper.map(
            [clean(span.text) for span in spans],
            self.cfg["k"],
            self.cfg["threshold"],
            channel=self.cfg["channel"],
            groups=[groups.get(span.label_, "") for span in spans],
            contexts=[self._sentence(span) for span in spans],
        )

    def _sentence(self, span: Span) -> str:
        """Return what stands around a span in its sentence, "" if that was not asked for."""
        text: str = span.sent.text if self.cfg["sentences"] else ""
        return "" if clean(text) == clean(span.text) else text

    def _mind_fork(self) -> None:
        """Keep FAISS to one thread in a forked process: it would wait for threads that are not there."""
        if self._process != os.getpid():
            import faiss

            faiss.omp_set_num_threads(1)
            self._process = os.getpid()

    def _annotate(self, place: int, span: Span, mapping: Mapping) -> None:
        best, least = mapping.best, self.cfg["min_confidence"]
        span.kb_id_ = NIL if best is None or (least is not None and best.confidence < least) else best.cui
        # spaCy hands out copies: entities are made from the tokens, and a group gives each span anew
        if self.cfg["span_group"] is None:
            for token in span:
                token.ent_kb_id_ = span.kb_id_
        else:
            span.doc.spans[self.cfg["span_group"]][place] = span
        _write(span, mapping)


def _key(span: Span) -> Any:  # noqa: ANN401 - spaCy types the keys of user_data as strings, and uses tuples
    """Return the key that spaCy itself gives to extensions, and moves along when Docs are cut or joined."""
    return ("._.", EXTENSION, span.start_char, span.end_char)


def _write(span: Span, mapping: Mapping | dict[str, Any]) -> None:
    """Keep a mapping in the Doc by the label of its span, as plain values: `Doc.to_bytes` knows no others."""
    kept = span.doc.user_data.setdefault(_key(span), {})
    kept.update(mapping if isinstance(mapping, dict) else {span.label_: mapping.as_dict()})


def _read(span: Span) -> Mapping | None:
    plain = span.doc.user_data.get(_key(span), {}).get(span.label_)
    if plain is None:
        return None
    candidates = tuple(Candidate(**_with_tuples(candidate)) for candidate in plain["candidates"])
    return Mapping(**{**plain, "candidates": candidates})


def _with_tuples(plain: dict[str, Any]) -> dict[str, Any]:
    """Undo what msgpack and JSON do to tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}


Span.set_extension(EXTENSION, getter=_read, setter=_write, force=True)
Language.factory("deft_linker", assigns=["token.ent_kb_id", "span._.deft"], func=DeftLinker)
