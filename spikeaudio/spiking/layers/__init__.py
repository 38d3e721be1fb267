"""Layers that compute with spikes."""
