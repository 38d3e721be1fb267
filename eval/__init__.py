"""Evaluation: measuring a checkpoint. Uses the package's public names only."""
