"""Checkpoint folders, ours and published ones, and transformers' Auto classes."""
