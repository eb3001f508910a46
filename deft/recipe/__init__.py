"""How the shipped encoder is made; nobody needs it to map. May import torch."""
