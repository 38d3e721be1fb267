"""Asking a model everything, and storing what it says."""
