"""What the pipeline trains: pairs, fine-tuning and the export to ONNX. May import torch."""
