"""Weights on few bits: grids and packing."""
