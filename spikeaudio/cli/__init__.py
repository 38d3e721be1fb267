"""The command `spikeaudio`."""
