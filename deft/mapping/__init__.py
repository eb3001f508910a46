"""Neighbours to decisions: the term mapper."""
