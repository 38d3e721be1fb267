"""Figures with intervals, from stored answers."""
