"""Speed, memory, scale and tuning of encoders and indexes. May import torch."""
