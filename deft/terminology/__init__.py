"""Concepts come in: UMLS Rich Release Format, lay lexicons and gold mappings."""
