"""Concept unique identifiers: C and seven digits, stored as a number."""

from __future__ import annotations

import re

from deft.errors import InputError

PATTERN = "C[0-9]{7}"
"""A CUI as a regular expression."""

_CUI = re.compile(PATTERN)


def is_cui(text: str) -> bool:
    """Tell whether a text is a CUI."""
    return _CUI.fullmatch(text) is not None


def check_cui(text: str) -> str:
    """Return a CUI.

    Raises
    ------
    InputError
        The text is none: it is not guessed which one was meant.
    """
    if not is_cui(text):
        raise InputError(f"expected a CUI such as C0012569, found {text!r}.", field="cui")
    return text


def number_of(cui: str) -> int:
    """Return a CUI as a number.

    Raises
    ------
    InputError
        It is no CUI.
    """
    return int(check_cui(cui)[1:])


def cui_of(number: int) -> str:
    """Return the CUI with a number."""
    return f"C{number:07d}"
