"""The two-stream language model: text and audio ids in, text and audio ids out, 12.5 steps per second."""

from spikeaudio.lm.audio_encoder import WhisperFeatureEncoder
from spikeaudio.lm.configuration import SpikeAudioConfig
from spikeaudio.lm.embedding import FeatureAdaptor
from spikeaudio.lm.generation import SpikeAudioGenerateOutput
from spikeaudio.lm.legal_tokens import LegalTokens
from spikeaudio.lm.modeling import (
    SpikeAudioForConditionalGeneration,
    SpikeAudioModel,
    SpikeAudioModelOutput,
    SpikeAudioOutput,
    SpikeAudioPreTrainedModel,
)
from spikeaudio.lm.session import Session, Step
from spikeaudio.lm.streams import DelayPattern

__all__ = [
    "DelayPattern",
    "FeatureAdaptor",
    "LegalTokens",
    "Session",
    "SpikeAudioConfig",
    "SpikeAudioForConditionalGeneration",
    "SpikeAudioGenerateOutput",
    "SpikeAudioModel",
    "SpikeAudioModelOutput",
    "SpikeAudioOutput",
    "SpikeAudioPreTrainedModel",
    "Step",
    "WhisperFeatureEncoder",
]
