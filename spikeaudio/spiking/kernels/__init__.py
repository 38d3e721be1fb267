"""Products of weights and spikes, integer for integer."""
