"""Sentences come in: the DEFT 2020 files and tables of pairs."""
