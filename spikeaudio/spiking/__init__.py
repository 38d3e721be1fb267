"""Spiking linear layers: integers carried by spikes, two exact executions, preparation, counting. Knows no audio."""
