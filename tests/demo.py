"""A Metathesaurus of a few concepts in the true format, and encoders small enough to be made in no time."""

from __future__ import annotations

import gzip
import tempfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logsumexp

from deft.corpora.deft2020 import SentencePair, SentenceSet
from deft.encoder.bundle import EncoderInfo
from deft.encoder.runtime import seal
from deft.mapping.fit import Example
from deft.mapping.pool import FEATURES, Pool


@dataclass(frozen=True)
class Atom:
    """A line of MRCONSO."""

    cui: str
    string: str
    language: str = "FRE"
    source: str = "DEMO"
    term_type: str = "PT"
    preferred: bool = True
    suppress: str = "N"
    code: str = ""

    def line(self) -> str:
        ts, ispref = ("P", "Y") if self.preferred else ("S", "N")
        fields = [
            self.cui,
            self.language,
            ts,
            "L0000001",
            "PF",
            "S0000001",
            ispref,
            "A0000001",
            "",
            "",
            "",
            self.source,
        ]
        return "|".join(
            [*fields, self.term_type, self.code or self.cui, self.string, "0", self.suppress, "", ""]
        )


ATOMS = (
    Atom("C0000001", "rhume"),
    Atom("C0000001", "coryza", preferred=False, term_type="SY"),
    Atom("C0000001", "common cold", "ENG", "OTHER"),
    Atom("C0000002", "rhinopharyngite"),
    Atom("C0000002", "rhume", preferred=False, source="OTHER"),
    Atom("C0000003", "infarctus du myocarde"),
    Atom("C0000003", "crise cardiaque", preferred=False, term_type="SY"),
    Atom("C0000003", "heart attack", "ENG", "OTHER"),
    Atom("C0000003", "crise du cœur", preferred=False, suppress="O"),
    Atom("C0000004", "cœur"),
    Atom("C0000004", "heart", "ENG", "OTHER"),
    Atom("C0000005", "appendicectomie"),
    Atom("C0000005", "appendectomy", "ENG", "OTHER"),
    Atom("C0000005", "ablation de l'appendice", preferred=False, source="OTHER"),
    Atom("C0000006", "céphalée"),
    Atom("C0000006", "mal de tête", preferred=False),
    Atom("C0000006", "headache", "ENG", "OTHER"),
)
TYPES = (
    ("C0000001", "T047"),
    ("C0000002", "T047"),
    ("C0000003", "T047"),
    ("C0000004", "T023"),
    ("C0000005", "T061"),
    ("C0000006", "T184"),
    ("C0000006", "T033"),
)
DEFINITIONS = (("C0000003", "Nécrose d'une partie du muscle cardiaque.", "N"), ("C0000001", "Retirée.", "Y"))


def write_umls(
    folder: Path,
    atoms: Sequence[Atom] = ATOMS,
    types: Sequence[tuple[str, str]] = TYPES,
    definitions: Sequence[tuple[str, str, str]] = DEFINITIONS,
    *,
    compressed: bool = False,
) -> Path:
    """Write MRCONSO, MRSTY and MRDEF."""
    files = {
        "MRCONSO.RRF": [atom.line() for atom in atoms],
        "MRSTY.RRF": [f"{cui}|{tui}|A1|name of {tui}|AT1||" for cui, tui in types],
        "MRDEF.RRF": [f"{cui}|A1|AT1||DEMO|{text}|{suppress}||" for cui, text, suppress in definitions],
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in files.items():
        write_lines(folder / (f"{name}.gz" if compressed else name), lines)
    return folder


def write_lines(path: Path, lines: Iterable[str]) -> Path:
    """Write lines as UTF-8, through gzip if the name says so."""
    data = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_bundle(folder: Path, *, seed: int = 0, dimension: int = 16) -> Path:
    """Write an encoder that onnxruntime runs: a text is the sum of the random vectors of its letters."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    letters = "abcdefghijklmnopqrstuvwxyz0123456789 '-"
    vocabulary = {"[PAD]": 0, "[UNK]": 1, **{letter: place for place, letter in enumerate(letters, start=2)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    table = np.random.default_rng(seed).standard_normal((len(vocabulary), dimension)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["letters"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["letters", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["sum"], keepdims=0),
        helper.make_node("LpNormalization", ["sum"], ["sentence_embedding"], axis=-1),
    ]
    constants = {"table": table, "last": np.array([2]), "middle": np.array([1])}
    graph = helper.make_graph(
        nodes,
        "letters",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch", dimension])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    folder.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    tokenizer.save(str(folder / "tokenizer.json"))
    draft = EncoderInfo(
        dimension=dimension,
        max_length=64,
        pooling="mean",
        precision="fp32",
        engine=None,
        batch_invariant=True,
        base="random letters",
        training=("nothing",),
        licence="Apache-2.0",
        deft_version="0",
    )
    seal(folder, draft)
    return folder


class _AnyWord:
    """Every word there may be."""

    def __contains__(self, word: object) -> bool:
        return True


class FakeEncoder:
    """An encoder without files: hashed character trigrams. It knows every word, so that none is mended."""

    fingerprint = "fake"
    dimension = 24
    words = _AnyWord()

    @dataclass(frozen=True)
    class Info:
        precision: str = "fp32"
        engine: str | None = None
        batch_invariant: bool = True

    info = Info()

    def encode(self, texts: Sequence[str], *, alone: bool = False, progress: bool = False) -> np.ndarray:
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            padded = f" {text.casefold()} "
            for start in range(len(padded) - 2):
                number = zlib.crc32(padded[start : start + 3].encode())
                vectors[row, number % self.dimension] += 1 if number & 1024 else -1
            vectors[row, 0] += 0.25  # no text is the zero vector
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make_concepts(atoms: Sequence[Atom], types: Sequence[tuple[str, str]] = ()) -> Any:
    """Make concept tables without files."""
    from deft.terminology.rrf import AtomFilter
    from deft.terminology.table_maker import read_concepts

    with tempfile.TemporaryDirectory() as folder:
        write_umls(Path(folder), list(atoms), types=list(types) or [("C0000000", "T047")], definitions=[])
        return read_concepts(Path(folder), AtomFilter())


def make_model() -> Any:
    """Make a mapping model of plain weights: what is shipped is fitted anew now and then."""
    from deft.mapping.fusion import MappingModel
    from deft.mapping.pool import FEATURES, NO_MATCH_FEATURES

    weights = {"cosine": 10.0, "lexical": 5.0, "same": 2.0, "exact": 1.0, "overlap": 1.0, "sources": 0.2}
    return MappingModel(
        np.array([weights.get(name, 0.0) for name in FEATURES]),
        np.array([{"constant": 6.0, "cosine": 2.0}.get(name, 0.0) for name in NO_MATCH_FEATURES]),
    )


def make_mapper(concepts: Any, encoder: Any = None, **options: Any) -> Any:
    """Make a mapper of concept tables without files."""
    from deft.index.dense import DenseIndex, quantize_vectors
    from deft.index.lexical import LexicalIndex
    from deft.mapping.mapper import TermMapper

    strings = concepts.strings["string"].to_list()
    encoder = encoder or FakeEncoder()
    dense, lexical = DenseIndex.build(quantize_vectors(encoder.encode(strings))), LexicalIndex.build(strings)
    return TermMapper(concepts, dense, lexical, encoder, **{"model": make_model(), **options})


class Meanings:
    """An encoder that is told what each sentence means; sentences of one meaning have one vector."""

    def __init__(self, meanings):
        self.meanings = meanings

    def encode(self, texts):
        rows = np.array([self.meanings[text] for text in texts], dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def example(features, right, group="C0000001", weight=1.0):
    """An example whose pool has the first signals given, the others 0."""
    features = np.asarray(features, dtype=float)
    whole = np.zeros((len(features), len(FEATURES)))
    whole[:, : features.shape[1]] = features
    pool = Pool(np.arange(len(features)), np.arange(len(features)), whole)
    right = np.array(right, dtype=bool)
    return Example(pool, right, group, weight, present=bool(right.any()))


def draw_examples(count, *, seed=0, weights=None, none=1.0):
    """Examples whose right concept is drawn from the model that is to be found."""
    generator = np.random.default_rng(seed)
    weights = np.zeros(len(FEATURES)) if weights is None else weights
    found = []
    for number in range(count):
        size = generator.integers(2, 12)
        features = generator.normal(size=(size, len(FEATURES)))
        scores = np.append(features @ weights, none)
        choice = generator.choice(size + 1, p=np.exp(scores - logsumexp(scores)))
        pool = Pool(np.arange(size), np.arange(size), features)
        right = np.arange(size) == choice
        found.append(Example(pool, right, f"C{number // 2:07d}", 1.0, present=bool(right.any())))
    return found


PAIRS = [
    SentencePair("a", "le patient a de la fièvre", "le patient a de la fièvre", 5),
    SentencePair("b", "le patient a de la fièvre", "la patiente avait de la fièvre", 4),
    SentencePair("c", "prenez un comprimé", "prenez deux comprimés par jour", 2),
    SentencePair("d", "le cœur est un muscle", "un essai de phase trois", 0),
    SentencePair("e", "le cœur est un muscle", "le cœur est un organe", 3),
    SentencePair("f", "douleur du genou", "xyz", 0),
]
SETS = [
    SentenceSet("1", "le cœur est un muscle", ("le cœur est un muscle creux", "xxxxxx", "yyyy zz"), 1),
    SentenceSet("2", "prenez un comprimé", ("qqqq", "www", "prenez un comprimé le soir"), 3),
]
