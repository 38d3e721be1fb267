"""Mel frames -> waveform at 24 kHz: Vocos, with an exact streaming state.

`configuration.py` names the sizes, `vocos.py` holds the network and its `step`, `state.py` what a caller keeps
between two steps.
"""
