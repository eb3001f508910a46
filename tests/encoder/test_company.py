"""The shipped int8 encoder on real strings: the same vector, and the same answer, in any company."""

import csv
from itertools import islice

import numpy as np
import pytest

from deft.encoder.runtime import Encoder
from deft.index.build import build_index
from deft.mapping.mapper import TermMapper

LEAST_COSINE = 0.9999
BATCH = 256
PADDED = 80  # texts that are padded to the length of the long one: it takes the longer
MAPPED = 300

LONG = " ".join(["fièvre", "et", "douleur"] * 250)  # more tokens than the encoder reads


@pytest.fixture(scope="module")
def texts(root):
    """Strings alone, of both parts of the lay phrases: no score is computed."""
    data = root.parent / "shared" / "data"
    files = {data / "lay" / "lay_terms_dev.tsv": "lay", data / "quaero" / "dev.tsv": "mention"}
    if not all(path.is_file() for path in files):
        pytest.skip("the lay phrases and QUAERO are not beside the repository (../shared/data)")
    phrases, mentions = (list(dict.fromkeys(column(*file))) for file in files.items())
    assert len(phrases) > 300
    assert len(mentions) >= 1000
    return [*phrases, *mentions[:1000]]


def column(path, name):
    with path.open(encoding="utf-8", newline="") as stream:
        yield from (row[name] for row in csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.fixture(scope="module")
def encoder(root):
    encoder = Encoder.open(root / "data" / "encoder")
    assert encoder.info.precision == "int8"
    return encoder


@pytest.fixture(scope="module")
def alone(encoder, texts):
    return encoder.encode(texts, alone=True)


def batches(texts, size):
    source = iter(texts)
    while batch := list(islice(source, size)):
        yield batch


def check(vectors, alone):
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (vectors * alone).sum(axis=1).min() >= LEAST_COSINE


def test_different_texts_are_further_apart(alone):
    """What is asked of a vector is not what any two vectors have."""
    cosines = (alone[:-1] * alone[1:]).sum(axis=1)
    assert np.mean(cosines < LEAST_COSINE) > 0.99


def test_in_a_batch(encoder, texts, alone):
    check(np.concatenate([encoder.encode(batch) for batch in batches(texts, BATCH)]), alone)


def test_beside_a_very_long_text(encoder, texts, alone):
    beside = [encoder.encode([*batch, LONG])[:-1] for batch in batches(texts, BATCH - 1)]
    check(np.concatenate(beside), alone)


def test_padded_to_the_length_of_a_very_long_text(encoder, texts, alone):
    """The runtime keeps texts of like length together; the graph itself must not mind either."""
    some = slice(None, None, len(texts) // PADDED)
    tokens, _ = encoder._tokenize([*texts[some], LONG])
    assert len(tokens[-1]) >= 500
    together = [encoder._run_together([*batch, tokens[-1]])[:-1] for batch in batches(tokens[:-1], 8)]
    check(np.concatenate(together), alone[some])


def test_the_first_concept_is_the_same(root, texts, tmp_path):
    build_index(root / "data" / "sample" / "umls", root / "data" / "encoder", tmp_path / "umls_index")
    mapper = TermMapper.open(tmp_path / "umls_index")
    terms = texts[:: len(texts) // MAPPED]
    together = mapper.map([LONG, *terms], k=1)[1:]
    assert [mapping.best.cui for mapping in together] == [
        mapper.map([term], k=1)[0].best.cui for term in terms
    ]
    assert len({mapping.best.cui for mapping in together}) > MAPPED // 4
