"""Neurons: integer counts as trains of spikes."""
