"""Encoders made smaller and faster, and the gate on what that may cost. May import torch."""
