"""Map French medical terms to UMLS concepts, and score the DEFT 2020 similarity tasks."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deft.corpora.deft2020 import SentencePair, SentenceSet, read_t1, read_t2
    from deft.encoder.runtime import Encoder
    from deft.errors import DeftError, InputError
    from deft.exchange.curated import read_curated
    from deft.exchange.review import apply_review, write_review
    from deft.exchange.sssom import SssomMetadata, write_sssom
    from deft.exchange.writers import write_mappings
    from deft.index.build import build_index
    from deft.mapping.explain import explain
    from deft.mapping.filters import ConceptFilter
    from deft.mapping.fit import FitParams, fit_index
    from deft.mapping.mapper import TermMapper
    from deft.mapping.results import Candidate, Mapping
    from deft.terminology.lexicon import read_gold, read_lexicon
    from deft.terminology.rrf import AtomFilter

__version__ = "0.1.0"

__all__ = [
    "AtomFilter",
    "Candidate",
    "ConceptFilter",
    "DeftError",
    "Encoder",
    "FitParams",
    "InputError",
    "Mapping",
    "SentencePair",
    "SentenceSet",
    "SssomMetadata",
    "TermMapper",
    "__version__",
    "apply_review",
    "build_index",
    "explain",
    "fit_index",
    "read_curated",
    "read_gold",
    "read_lexicon",
    "read_t1",
    "read_t2",
    "write_mappings",
    "write_review",
    "write_sssom",
]

# Where each public name lives: it is imported when it is first asked for, so that `import deft` costs
# nothing.
_MODULES = {
    "deft.corpora.deft2020": ("SentencePair", "SentenceSet", "read_t1", "read_t2"),
    "deft.encoder.runtime": ("Encoder",),
    "deft.errors": ("DeftError", "InputError"),
    "deft.exchange.curated": ("read_curated",),
    "deft.exchange.review": ("apply_review", "write_review"),
    "deft.exchange.sssom": ("SssomMetadata", "write_sssom"),
    "deft.exchange.writers": ("write_mappings",),
    "deft.index.build": ("build_index",),
    "deft.mapping.explain": ("explain",),
    "deft.mapping.filters": ("ConceptFilter",),
    "deft.mapping.fit": ("FitParams", "fit_index"),
    "deft.mapping.mapper": ("TermMapper",),
    "deft.mapping.results": ("Candidate", "Mapping"),
    "deft.terminology.lexicon": ("read_gold", "read_lexicon"),
    "deft.terminology.rrf": ("AtomFilter",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the types are those of the imports above
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
