"""Exact changes of a model's basis that make its activations easier to quantize."""
