"""Vectors to neighbours: the index on disk."""
