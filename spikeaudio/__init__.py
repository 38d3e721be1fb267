"""spikeaudio: a spiking audio foundation model; wav in, words and speech out.

The names below are imported on first use, so that `import spikeaudio` costs milliseconds; it also sees to it that
transformers' Auto classes find our models (see `registration`).
"""

import importlib
from typing import TYPE_CHECKING, Any

from spikeaudio.loading import registration

if TYPE_CHECKING:  # the same names as _MODULES, for type checkers and editors
    from spikeaudio.detokenizer.configuration import DetokenizerConfig as DetokenizerConfig
    from spikeaudio.detokenizer.dit import DiT as DiT
    from spikeaudio.detokenizer.modeling import FlowMatchingDetokenizer as FlowMatchingDetokenizer
    from spikeaudio.lm.audio_encoder import WhisperFeatureEncoder as WhisperFeatureEncoder
    from spikeaudio.lm.configuration import SpikeAudioConfig as SpikeAudioConfig
    from spikeaudio.lm.modeling import SpikeAudioForConditionalGeneration as SpikeAudioForConditionalGeneration
    from spikeaudio.lm.modeling import SpikeAudioModel as SpikeAudioModel
    from spikeaudio.pipeline import SpikeAudio as SpikeAudio
    from spikeaudio.prompt.processor import SpikeAudioProcessor as SpikeAudioProcessor
    from spikeaudio.spiking.config import GIFConfig as GIFConfig
    from spikeaudio.tokenizer.configuration import WhisperVQConfig as WhisperVQConfig
    from spikeaudio.tokenizer.speech_tokenizer import SpeechTokenizer as SpeechTokenizer
    from spikeaudio.tokenizer.whisper_vq import WhisperVQEncoder as WhisperVQEncoder
    from spikeaudio.vocoder.bigvgan import BigVGAN as BigVGAN
    from spikeaudio.vocoder.configuration import BigVGANConfig as BigVGANConfig
    from spikeaudio.vocoder.configuration import VocosConfig as VocosConfig
    from spikeaudio.vocoder.vocos import VocosVocoder as VocosVocoder

__version__ = "0.1.0"

_MODULES = {
    "BigVGAN": "spikeaudio.vocoder.bigvgan",
    "BigVGANConfig": "spikeaudio.vocoder.configuration",
    "DetokenizerConfig": "spikeaudio.detokenizer.configuration",
    "DiT": "spikeaudio.detokenizer.dit",
    "FlowMatchingDetokenizer": "spikeaudio.detokenizer.modeling",
    "GIFConfig": "spikeaudio.spiking.config",
    "SpeechTokenizer": "spikeaudio.tokenizer.speech_tokenizer",
    "SpikeAudio": "spikeaudio.pipeline",
    "SpikeAudioConfig": "spikeaudio.lm.configuration",
    "SpikeAudioForConditionalGeneration": "spikeaudio.lm.modeling",
    "SpikeAudioModel": "spikeaudio.lm.modeling",
    "SpikeAudioProcessor": "spikeaudio.prompt.processor",
    "VocosConfig": "spikeaudio.vocoder.configuration",
    "VocosVocoder": "spikeaudio.vocoder.vocos",
    "WhisperFeatureEncoder": "spikeaudio.lm.audio_encoder",
    "WhisperVQConfig": "spikeaudio.tokenizer.configuration",
    "WhisperVQEncoder": "spikeaudio.tokenizer.whisper_vq",
}

__all__ = [*_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(sorted(_MODULES))}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})


registration.install()
