"""Map French medical terms to UMLS concepts, and score the DEFT 2020 similarity tasks."""

__version__ = "0.1.0"
