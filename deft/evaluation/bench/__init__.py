"""Benchmarks: encoders against the published loop, and what an index costs as it grows."""
