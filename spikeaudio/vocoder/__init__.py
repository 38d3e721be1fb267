"""Mel frames -> waveform at 24 kHz: Vocos, and BigVGAN for Kimi-Audio's weights, with exact streaming states.

`configuration.py` names the sizes, `vocos.py` and `bigvgan.py` hold the networks and their `step`, `state.py` and
`piece.py` what a caller keeps between two steps.
"""
