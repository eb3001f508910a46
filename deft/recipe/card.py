"""The model card of an encoder: what its folder says of itself to a reader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deft.training.origin import card_header, licence_text, training_text

if TYPE_CHECKING:
    from deft.encoder.bundle import EncoderInfo
    from deft.recipe.params import RecipeParams

_TEXT = """\
---
{header}
---

# A French biomedical sentence encoder

It turns French medical terms and sentences, in the words of patients or of physicians, and English names of
medical concepts into unit vectors of {dimension} values; the cosine of two vectors says how near their
meanings are. It is the base encoder of `deft`, which maps French medical terms to UMLS concepts.

| file | what | size |
| --- | --- | --- |
| `model.safetensors` | weights in half precision, to fine-tune | {weights:.1f} MB |
| `model.onnx` | the same as a graph with {precision} weights: tokens in, unit vectors out | {graph:.1f} MB |

- {parameters:.1f} million parameters
- {vocabulary:,} tokens; case and accents make no difference
- {dimension} dimensions, {pooling} pooling, then normalisation
- at most {positions} tokens; longer texts are truncated

## How it was made

The layers of {base} were given a French biomedical vocabulary, whose embeddings started from those of its
translations. {steps:,} steps of {batch} pairs followed; each step had one of these objectives: {objectives}.
What was kept is a running average of the weights. The recipe is `deft pretrain`; `experiments/encoder/` of
the project names every input with its licence, and what was kept out for evaluation.

## Training data

{training_data}

{licence}

## Use

```python
from deft import Encoder

vectors = Encoder.open("data/encoder").encode(["crise cardiaque", "infarctus du myocarde"])
print(vectors[0] @ vectors[1])
```

It is meant for search in terminologies, for mapping terms to concepts and for the similarity of sentences, in
research and with a person who checks the result; and as a base to fine-tune on such tasks:
`SentenceTransformer("data/encoder")` loads the half-precision weights.

Measured figures, and the commands that measure them, are in the README of the project.

## Limits

- Not for clinical decisions: a near vector is a candidate, neither a diagnosis nor a code.
{commercial}- Nothing in the training sets a finding apart from its absence, its doubt, its time or its dose.
- Not tested on notes typed in care (abbreviations, misspellings), on transcribed speech, on the French of
  other countries than France, on other languages or on long documents.
- Concepts that its sources name rarely, or in English only, are placed less well. What is outdated or unfair
  in the wording of the sources is in the vectors.
"""


@dataclass(frozen=True)
class Sizes:
    """How large a model is: parameters, tokens of its vocabulary, and bytes of the weights and the graph."""

    parameters: int
    vocabulary: int
    weights: int
    graph: int


def model_card(params: RecipeParams, info: EncoderInfo, sizes: Sizes) -> str:
    """Write the model card of an encoder that the recipe made.

    Parameters
    ----------
    params
        The recipe, with training data and licence.
    info
        The facts about the int8 graph.
    sizes
        How large the model is.

    Returns
    -------
    str
        Markdown with a YAML header. It holds no measured figure: those are in the project's README, with the
        commands that measure them.
    """
    licence = params.licence
    commercial = "NC" not in licence.upper().replace("-", " ").split()
    return _TEXT.format(
        header=card_header(licence),
        dimension=info.dimension,
        precision=info.precision,
        pooling=info.pooling,
        positions=info.max_length,
        base=info.base,
        weights=sizes.weights / 1e6,
        graph=sizes.graph / 1e6,
        parameters=sizes.parameters / 1e6,
        vocabulary=sizes.vocabulary,
        steps=params.training.steps,
        batch=params.training.batch_size,
        objectives=", ".join(name for name, weight in params.training.mixture.items() if weight > 0),
        training_data=training_text(params.training_data),
        licence=licence_text(licence),
        commercial=""
        if commercial
        else "- Not for commercial use: the licences of the training text forbid it.\n",
    )
