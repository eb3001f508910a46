"""What the recipe of the shipped encoder takes: inputs, what is kept out, and the schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from deft.config import Block

Objective = Literal["translation", "synonyms", "glosses", "lay", "grades", "sets"]


class TrainingParams(Block):
    """Schedule of the pretraining.

    Attributes
    ----------
    max_length
        Tokens; longer texts are truncated while training.
    temperature
        Of the in-batch contrastive losses.
    average_decay
        Of the running average of the weights, which is what is kept.
    neighbours_from
        Step from which batches of names, and of what laypeople say, are made of neighbouring concepts; none
        by default.
    neighbours
        Nearest concepts that come into a batch with each concept drawn.
    mixture
        How often each objective is drawn, as weights; one that is not named, or has no pairs, is not used.
    checkpoint_every
        Steps between checkpoints.
    """

    steps: int = Field(ge=1)
    batch_size: int = Field(default=256, ge=2)
    max_length: int = Field(default=48, ge=8)
    learning_rate: float = Field(default=2e-4, gt=0)
    embedding_learning_rate: float = Field(default=1e-3, gt=0)
    warmup_steps: int = Field(default=200, ge=1)
    temperature: float = Field(default=0.05, gt=0)
    average_decay: float = Field(default=0.998, ge=0, lt=1)
    neighbours_from: int | None = Field(default=None, ge=0)
    neighbours: int = Field(default=7, ge=1)
    mixture: dict[Objective, Annotated[float, Field(ge=0)]]
    checkpoint_every: int = Field(default=200, ge=1)
    seed: int = Field(default=13, ge=0)


class RecipeParams(Block):
    """Inputs of the recipe and its schedule.

    Attributes
    ----------
    teacher
        A sentence-transformers folder of a BERT, or an installed package that carries one in its folder
        `model`.
    umls
        Folder with MRCONSO.RRF: names of concepts.
    parallel
        `.tsv.gz` with columns `en`, `fr`.
    text
        `.tsv.gz` with a column `sentence`: French text, for the vocabulary and for glosses.
    mentions
        TSV with columns `doc`, `mention` and `cui`: annotated text, training part only.
    mentions_held_out
        Share of its documents that is left for the mapping model and its confidence (`deft.corpora.split`).
    lay
        A vocabulary of what laypeople say for concepts (`deft.terminology.lay`); those of its phrases that
        name one concept are learned from.
    graded
        CSV with columns `sentence1`, `sentence2`, `score` (0 to 5).
    sets
        DEFT 2020 XML of task 2, training part: sentences, each with its parallel sentence and distractors.
    held_out_terms
        TSV with columns `lay`, `technical`, `cuis`: no mined pair and no mention may contain one of these
        terms or a name of one of these concepts.
    held_out_phrases
        Tables with a column `Terme`: no phrase of `lay` may read as one of theirs, nor as one of
        `held_out_terms`.
    held_out_texts
        CSV with columns `sentence1`, `sentence2`, or DEFT 2020 XML: no translation and no graded pair may
        contain a sentence of theirs.
    training_data, licence
        What the model folder says of its training data, and the licence of the weights.
    vocabulary
        Tokens, at most.
    translated_embeddings
        Start word embeddings from those of their translations; else from the spelling alone.
    names_per_concept
        Names of a concept in one language, mentions among them, at most.
    """

    teacher: str
    umls: Path
    parallel: Path
    text: Path
    mentions: Path
    mentions_held_out: float = Field(default=0.0, ge=0, lt=1)
    lay: Path | None = None
    graded: Path
    sets: Path | None = None
    held_out_terms: tuple[Path, ...]
    held_out_phrases: tuple[Path, ...] = ()
    held_out_texts: tuple[Path, ...]
    training_data: tuple[str, ...] = ()
    licence: str = ""
    vocabulary: int = Field(default=30_000, ge=100)
    translated_embeddings: bool = True
    names_per_concept: int = Field(default=12, ge=1)
    training: TrainingParams
