"""Tensor code, torch only: blocks, slimmable encoders, bottleneck decoders, the two halves of a model."""
