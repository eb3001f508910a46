"""A French biomedical subword vocabulary, and word embeddings for it taken from an English model.

A token of the new vocabulary starts from the teacher's embeddings of its likely translations. They are
estimated on parallel text with IBM Model 1 (Brown et al. 1993, "The mathematics of statistical machine
translation"); the idea of carrying a model to another language through the embeddings of translations is that
of WECHSEL (Minixhofer et al. 2022). Tokens without evidence start from the mean of the teacher's own subwords
of their letters, which suits learned words: "diplop" is the same in both languages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

_LEAST_PROBABILITY = 0.02  # rarer translations are mostly chance
_PRIOR = 3.0  # pseudo-counts of the spelling: rare tokens keep it, frequent ones follow their translations


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """Train a WordPiece tokenizer that ignores case, accents, ligatures and the kind of apostrophe.

    Parameters
    ----------
    texts
        What it is trained on.
    size
        The most tokens, special ones included; rare words make no token, so that few texts give fewer.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))  # noqa: S106
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex("[œŒ]"), "oe"),
            normalizers.Replace(Regex("[æÆ]"), "ae"),
            normalizers.Replace(Regex("[’‘ʼ′`´]"), "'"),
            normalizers.BertNormalizer(lowercase=True, strip_accents=True),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL_TOKENS),
        min_frequency=5,
        limit_alphabet=200,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    start, end = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", start), ("[SEP]", end)],
    )
    return tokenizer


@dataclass(frozen=True)
class TranslationTable:
    """Pairs of a source and a target token that co-occur, sorted by source token, then target token.

    Attributes
    ----------
    source, target
        Token ids.
    count
        Expected number of times that the source token translates to the target token.
    probability
        Their share among the counts of the source token: t(target | source).
    """

    source: np.ndarray
    target: np.ndarray
    count: np.ndarray
    probability: np.ndarray


def translation_table(
    source: Sequence[Sequence[int]],
    target: Sequence[Sequence[int]],
    *,
    iterations: int = 5,
    batch: int = 20_000,
) -> TranslationTable:
    """Estimate t(target token | source token) on sentence pairs with IBM Model 1, without its empty word.

    Parameters
    ----------
    source, target
        Token ids of sentences that translate each other.
    iterations
        Rounds of expectation maximisation.
    batch
        Sentences that are counted at once: bounds the memory.
    """
    width = 1 + max((max(ids) for ids in target if len(ids)), default=0)
    batches = [slice(start, start + batch) for start in range(0, len(source), batch)]
    if not batches:
        nothing = np.zeros(0, dtype=np.int64)
        return TranslationTable(nothing, nothing, np.zeros(0), np.zeros(0))
    keys = np.unique(np.concatenate([_cells(source[rows], target[rows], width)[0] for rows in batches]))
    probability = np.ones(len(keys))
    counts = np.zeros(len(keys))
    for _ in range(iterations):
        counts = np.zeros(len(keys))
        for rows in batches:
            cells, words = _cells(source[rows], target[rows], width)
            places = np.searchsorted(keys, cells)
            weight = probability[places]
            # each target word shares one count among the source words of its sentence
            counts += np.bincount(places, weight / np.bincount(words, weight)[words], minlength=len(keys))
        totals = np.bincount(keys // width, counts)
        probability = counts / totals[keys // width]
    return TranslationTable(keys // width, keys % width, counts, probability)


def transfer_embeddings(
    tokenizer: Tokenizer, teacher_tokenizer: Tokenizer, teacher: np.ndarray, pairs: Sequence[tuple[str, str]]
) -> np.ndarray:
    """Build word embeddings for `tokenizer` from those of an English teacher.

    Special tokens, and tokens that the teacher spells alike and that have no translation in `pairs`, get the
    teacher's own vectors.

    Parameters
    ----------
    tokenizer, teacher_tokenizer
        The new and the teacher's tokenizer.
    teacher
        The teacher's word embeddings, of shape (teacher's vocabulary, dimension).
    pairs
        French and English texts that translate each other.

    Returns
    -------
    np.ndarray
        float32 of shape (vocabulary, dimension).
    """
    tokenizer, teacher_tokenizer = _bare(tokenizer), _bare(teacher_tokenizer)
    # an average of vectors is shorter than they are: the usual length is carried along as one more column
    teacher = np.hstack([teacher, np.linalg.norm(teacher, axis=1, keepdims=True)]).astype(np.float32)
    spelling = _spelling(tokenizer, teacher_tokenizer)
    spelled = np.zeros((len(spelling), teacher.shape[1]), dtype=np.float32)
    for row, ids in enumerate(spelling):
        if ids:
            spelled[row] = teacher[ids].mean(axis=0)
    table = translation_table(
        _ids(tokenizer, [french for french, _ in pairs]),
        _ids(teacher_tokenizer, [english for _, english in pairs]),
    )
    kept = np.flatnonzero(table.probability > _LEAST_PROBABILITY)
    source, count = table.source[kept], table.count[kept]
    evidence = np.bincount(source, count, minlength=len(spelled))
    translated = np.zeros_like(spelled)
    np.add.at(translated, source, count[:, None].astype(np.float32) * teacher[table.target[kept]])
    mixed = (translated + _PRIOR * spelled) / (evidence + _PRIOR)[:, None]
    vectors, lengths = mixed[:, :-1], mixed[:, -1:]
    words = vectors * lengths / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    special = {tokenizer.token_to_id(token) for token in SPECIAL_TOKENS}
    for row, ids in enumerate(spelling):
        if len(ids) == 1 and (evidence[row] == 0 or row in special):
            words[row] = teacher[ids[0], :-1]
    return np.asarray(words, dtype=np.float32)


def _bare(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy without padding and truncation: a published tokenizer may pad each text to one length."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_padding()
    copy.no_truncation()
    return copy


def _spelling(tokenizer: Tokenizer, teacher_tokenizer: Tokenizer) -> list[list[int]]:
    """Return, for each token of `tokenizer`, the teacher's tokens that spell it."""
    vocabulary = teacher_tokenizer.get_vocab()
    spelling: list[list[int]] = [[] for _ in range(tokenizer.get_vocab_size())]
    for token, row in tokenizer.get_vocab().items():
        if token in vocabulary:
            spelling[row] = [vocabulary[token]]
        else:
            bare = token.removeprefix("##")
            spelling[row] = teacher_tokenizer.encode(bare, add_special_tokens=False).ids
    return spelling


def _ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return [code.ids for code in tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def _cells(
    source: Sequence[Sequence[int]], target: Sequence[Sequence[int]], width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the (source token, target token) pairs of all sentences and the target word each belongs to.

    A pair is one number: source token x `width` + target token.
    """
    cells, words, offset = [], [], 0
    for left, right in zip(source, target, strict=True):
        rows, columns = np.asarray(left, dtype=np.int64), np.asarray(right, dtype=np.int64)
        cells.append((rows[:, None] * width + columns[None, :]).ravel())
        words.append(np.tile(np.arange(len(right)) + offset, len(left)))
        offset += len(right)
    return np.concatenate(cells), np.concatenate(words)
