"""From a dense model to a spiking one: calibration, GPTQ, block by block."""
