"""Strings to vectors: training, export, quantization, and a runtime that needs none of their packages."""
