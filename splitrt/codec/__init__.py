"""Bottleneck values to bytes and back, numpy only: quantise, pack, compress, check."""
