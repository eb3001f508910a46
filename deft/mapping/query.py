"""Other ways to write a French query, so that what is typed meets what a terminology calls it.

Case, accents, ligatures, apostrophes and elision are no rules here: `deft.text.normalize` and the encoder's
tokenizer see to them. Nor is anything taken off that makes another concept: an absence ("absence de"), left
and right. A history or a doubt is ("antécédent de", "suspicion de"), so that what it is about is proposed;
that nobody has it now is for the confidence to say (`deft.mapping.pool.hedges`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ftfy import fix_encoding

from deft.corpora.delimited import read_rows
from deft.text import clean, fold

ABBREVIATIONS = Path(__file__).with_name("abbreviations.tsv")
ADJECTIVES = Path(__file__).with_name("adjectives.tsv")

_I = re.IGNORECASE

# Repetitions are bounded: text of any length is read in linear time.

# what UTF-8 looks like in Windows-1252
_DAMAGED = re.compile("[ÂÃÅÎÏ][\u0080-\u00bf\u0152-\u2122 ]|â€")

# `normalize` drops some of these; the encoder reads the text as it is typed. In capitals, as "Candida sp" is
# a species.
_UNSPECIFIED = re.compile(
    r"(?:[\s,;:(\[-]{1,3}(?:S\.?A\.?I|N\.?C\.?A|N\.?O\.?S|S\.?P"
    r"|(?i:sans (?:autre )?(?:précision|indication)s?|non (?:précisée?|spécifiée?|classée? ailleurs)s?))"
    r"\b[.)\]]{0,3}){1,3}$"
)

_LIST = re.compile(r"^(?:(?:\d{1,3}(?: ?[.)/-]|°)|[-–—•*·]) )+(?=\w)(?!degr)", _I)

_SHELL = re.compile(
    r"^(?:(?:j['’] ?ai|(?:il|elle|on) a|je (?:fais|ressens|souffre|suis atteinte?)"
    r"|(?:patiente?|malade|personne) (?:atteinte?|souffrant|porteu(?:r|se))(?= d)) "
    r"(?:(?:souvent|toujours|parfois) )?(?:du |de |d['’] ?)?)?"
    r"(?:(?:des|les?|la|une?) |l['’] ?)?",
    _I,
)

_HISTORY = re.compile(
    r"^(?:(?:ant[ée]c[ée]dents?|atcds?)(?: (?:personnels?|familia(?:l|ux)|m[ée]dica(?:l|ux)|connus?)){0,2}"
    r"|suspicion|susp\.?|suspect[ée]?|d[ée]pistage|pr[ée]vention|prophylaxie|probable|possible"
    r"|(?:surveillance|bilan|suivi|contr[ôo]le|recherche|risque|traitement)(?= d(?:u|es?|['’])))"
    r" (?:(?:d['’]une?|du|des|de l['’]|de la|de|d['’]) ?)?(?=\w{3})",
    _I,
)

_UNIT = (
    r"(?:[kmµu]?g|mcg|[mcdµ]?l|[mµ]?mol|m?eq|m?ui|u|mmhg|°c?|%"
    r"|cps?|comprimés?|gélules?|gouttes|sachets?|ampoules?)"
)
_DOSE = re.compile(
    rf"(?<!\S)(?:(?:à|de) )?\d{{1,9}}(?:[., ]\d{{1,9}}){{0,3}} ?{_UNIT}"
    r"(?: ?/ ?(?:\d{1,4} ?)?(?:jours?|j|h|kg|[mdµ]?l|prises?)){0,3}(?: par jour)?(?!\w| ?degr)",
    _I,
)
_FORM = re.compile(
    r"(?<=\w)[\s,]+(?:cps?|comprimés?|gél|gélules?|sachets?|ampoules?|sirop|suppositoires?|collyre|pommade"
    r"|injectable|buvable|per os)(?!\w)",
    _I,
)
# combining forms in -o, and prefixes, are parts of a word
_COMBINING = re.compile(
    r"\b(\w{2,}o|hyper|hypo|péri|intra|extra|inter|pré|post|supra|infra|poly|multi|semi|endo)-(?=[^\W\d])", _I
)
_DEGREE = re.compile(r"\b([1-4]) ?(?:°|º|er|re|e|[èe]me|nd|d)(?= degrés?\b)", _I)
_ORDINALS = ("premier", "deuxième", "troisième", "quatrième")

_LEAST_SMALL = 3
_WORDS = {"ait", "fav", "led", "nem", "net", "paf", "pal", "pan", "sas", "spa", "tag", "tep", "toc"}
"""Abbreviations that in small letters are words."""

# a bound, such as "poids inférieur à 1 500 g", is part of the concept
_BOUND = re.compile(r"[<>=≤≥]|inférieur|supérieur|égal|moins de|plus de", _I)

# "infarctus, côté gauche": said of the term, no inversion
_SIDE = re.compile(r"(?:côté |à )?(?:droite?|gauche)s?\b|(?:bi|uni)latéra", _I)
_HEAD = re.compile(
    r"^.+?(?=\s(?:d['’]|(?:de|du|des|à|aux?|avec|sans|par|pour|dans|en|et|ou|sur|sous|chez|après)\s)|$)", _I
)
_IRREGULAR = {"maux": "mal", "yeux": "œil", "cheveux": "cheveu", "tissus": "tissu", "aigus": "aigu"}
# of an adjective: masculine singular, and what takes its place in the other forms
_ENDINGS = {
    "al": ("ale", "aux", "ales", "als"),
    "eux": ("euse", "euses"),
    "el": ("elle", "els", "elles"),
    "ien": ("ienne", "iens", "iennes"),
    "f": ("ve", "fs", "ves"),
    "é": ("ée", "és", "ées"),
    "in": ("ine", "ins", "ines"),
    "ain": ("aine", "ains", "aines"),
}
_INVARIABLE = re.compile(
    r"sans|dans|sous|vers|corps|temps|poids|fonds|sens|cours|moins|toujours|divers|plusieurs|dedans"
)


SPELLING = "spelling"
"""The rule of a variant without the slips of the query (`deft.mapping.spelling`)."""


@dataclass(frozen=True, slots=True)
class Variant:
    """Another way to write a query, and the name of the last rule that was needed to get there."""

    text: str
    rule: str


@dataclass(frozen=True, slots=True)
class Query:
    """A query, cleaned, and its variants, the most faithful first."""

    text: str
    variants: tuple[Variant, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """The query, then its variants."""
        return (self.text, *(variant.text for variant in self.variants))

    @property
    def last(self) -> str:
        """The query as the last rule left it."""
        return self.texts[-1]

    @property
    def mended(self) -> str:
        """The query without its slips, "" if there are none."""
        return next((variant.text for variant in self.variants if variant.rule == SPELLING), "")


def understand(term: str) -> Query:
    """Write a French query in other ways.

    Each rule works on the result of those before it, and each result that is a new string is a variant. The
    query is not among them: a rule may be wrong, so a variant should weigh a little less than the query.
    """
    text = current = clean(term)
    variants: list[Variant] = []
    seen = {fold(text)}
    for name, rewrite in RULES.items():
        written = clean(rewrite(current)).strip(" ,;:-")
        if len(written) > 1 and fold(written) not in seen:
            seen.add(fold(written))
            variants.append(Variant(written, name))
            current = written
    return Query(text, tuple(variants))


def _without_number(text: str) -> str:
    """Take off the number or the mark of a list: "3. asthme", "- toux"."""
    return _LIST.sub("", text)


def _without_unspecified(text: str) -> str:
    """Take off "SAI", "sans précision" and their likes."""
    return _UNSPECIFIED.sub("", text)


def _expanded(text: str) -> str:
    """Write abbreviations in full; in small letters only what is no French word, or stands alone."""
    table = _expansions()
    alone = table.get(text.upper()) if text.islower() else None
    if alone is not None:
        return alone
    text = _abbreviation().sub(lambda found: table[found[0].replace(".", "").replace(" ", "-")], text)
    return _small_abbreviation().sub(lambda found: table[found[0].upper()], text)


@cache
def _expansions() -> Mapping[str, str]:
    table = read_rows(ABBREVIATIONS, ("abbreviation", "expansion"))
    return {row["abbreviation"]: row["expansion"] for _, row in table}


@cache
def _abbreviation() -> re.Pattern[str]:
    """Match any abbreviation in capitals, as "HTA", "H.T.A." or "SEP RR" (which the table has as SEP-RR)."""
    longest_first = sorted(_expansions(), key=len, reverse=True)
    forms = (r"\.?".join(letters).replace(r"\.?-\.?", "[ -]") for letters in longest_first)
    return re.compile(rf"(?<![\w.])(?:{'|'.join(forms)})(?!\.?\w)(?:(?<=\.\w)\.)?")


@cache
def _small_abbreviation() -> re.Pattern[str]:
    """Match an abbreviation in small letters inside a term, as "hta sévère"."""
    forms = (form.lower() for form in _expansions() if form.isalpha() and len(form) >= _LEAST_SMALL)
    return re.compile(rf"(?<![\w.-])(?:{'|'.join(form for form in forms if form not in _WORDS)})(?![\w.-])")


def _joined(text: str) -> str:
    """Write a combining form and its word as one: "hépato-splénomégalie"."""
    return _COMBINING.sub(r"\1", text)


def _ordinal(text: str) -> str:
    """Write the number of a degree in full: "brûlure du 3° degré" is "du troisième degré"."""
    return _DEGREE.sub(lambda found: _ORDINALS[int(found[1]) - 1], text)


def _without_shell(text: str) -> str:
    """Take off what patients say first ("j'ai des ...") and leading articles."""
    return _SHELL.sub("", text)


def _without_history(text: str) -> str:
    """Take off what says that a finding is past, suspected or looked for; that it is so, confidence tells."""
    return _HISTORY.sub("", text)


def _without_dose(text: str) -> str:
    """Take off quantities, laboratory values and forms of drugs."""
    return text if _BOUND.search(text) else _FORM.sub("", _DOSE.sub("", text))


def _in_order(text: str) -> str:
    """Turn "rein, insuffisance" into "insuffisance rein"."""
    first, _, last = text.partition(", ")
    if not last or "," in last or _SIDE.match(last) or max(len(first.split()), len(last.split())) > 3:
        return text
    return f"{last} {first}"


def _singular(text: str) -> str:
    """Write the words of the head in the singular: "infections des voies" to "infection des voies"."""
    return _HEAD.sub(lambda head: re.sub(r"\w{4,}", lambda word: _singular_word(word[0]), head[0]), text)


def _singular_word(word: str) -> str:
    low = word.casefold()
    if _INVARIABLE.fullmatch(low):
        return word
    if low in _IRREGULAR:
        return _IRREGULAR[low]
    if low.endswith("aux") and not low.endswith(("eaux", "yaux")):
        return f"{word[:-2]}l"
    return word[:-1] if re.search(r"[ey]aux$|[^aiosuèy]s$", low) else word


def _noun(text: str) -> str:
    """Turn an adjective that stands alone into what it is about: "rénale" into "rein"."""
    return _nouns().get(fold(text), text)


@cache
def _nouns() -> Mapping[str, str]:
    table = read_rows(ADJECTIVES, ("adjective", "noun"))
    return {fold(form): row["noun"] for _, row in table for form in _inflected(row["adjective"])}


def _inflected(adjective: str) -> Iterator[str]:
    """Yield the forms of an adjective: masculine and feminine, singular and plural."""
    yield adjective
    for ending, others in _ENDINGS.items():
        if adjective.endswith(ending):
            stem = adjective.removesuffix(ending)
            yield from (stem + other for other in others)
            return
    yield f"{adjective}s"


def _decoded(text: str) -> str:
    """Mend UTF-8 that was read as another encoding: "Ã©" is "é"."""
    return fix_encoding(text) if _DAMAGED.search(text) else text


RULES: Mapping[str, Callable[[str], str]] = {
    "list": _without_number,
    "encoding": _decoded,
    "unspecified": _without_unspecified,
    "abbreviation": _expanded,
    "ordinal": _ordinal,
    "hyphen": _joined,
    "shell": _without_shell,
    "history": _without_history,
    "dose": _without_dose,
    "inversion": _in_order,
    "singular": _singular,
    "adjective": _noun,
}
