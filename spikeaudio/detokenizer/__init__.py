"""Codes at 12.5 Hz to log-mel at 50 Hz: a chunk-causal flow-matching DiT."""

from spikeaudio.detokenizer.configuration import DetokenizerConfig
from spikeaudio.detokenizer.modeling import DetokenizerOutput, FlowMatchingDetokenizer
from spikeaudio.detokenizer.state import DetokenizerState

__all__ = ["DetokenizerConfig", "DetokenizerOutput", "DetokenizerState", "FlowMatchingDetokenizer"]
