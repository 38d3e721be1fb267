"""What spiking costs: operations, bytes, modelled energy."""
