"""transformers' Auto classes on a download of Kimi-Audio: registered under its ``model_type``, they return our classes.

A published config.json without a ``model_type`` tells `AutoConfig` nothing; there the configuration is passed:

    AutoModelForMultimodalLM.from_pretrained(folder, config=KimiAudioConfig.from_pretrained(folder))
"""

from pathlib import Path
from typing import Any, ClassVar

from transformers import PreTrainedModel

from spikeaudio.lm.modeling import SpikeAudioForConditionalGeneration, SpikeAudioModel
from spikeaudio.loading.auto import (
    SpikeAudioForSpeechGeneration,
    SpikeAudioForSpeechSeq2Seq,
    SpikeAudioForTextToWaveform,
)
from spikeaudio.loading.kimi.configuration import KimiAudioConfig
from spikeaudio.loading.kimi.folder import PublishedFolder
from spikeaudio.loading.kimi.reader import read_language_model, read_processor
from spikeaudio.prompt.processor import SpikeAudioProcessor

# What the Auto classes pass along that concerns the hub and remote code.
_HUB_KEYWORDS = (
    "adapter_kwargs cache_dir code_revision force_download local_files_only proxies revision subfolder token "
    "trust_remote_code user_agent"
).split()


class _Published:
    """Stands for one of our classes in a registry; `from_pretrained` returns that class."""

    config_class = KimiAudioConfig
    ours: ClassVar[type[PreTrainedModel]]

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        config: KimiAudioConfig | None = None,
        speech_tokenizer: str | Path | None = None,
        **kwargs: Any,
    ) -> PreTrainedModel:
        """Read a download.

        Args:
            folder: the download.
            config: as the Auto classes read it; read again here, together with the encoder's.
            speech_tokenizer: folder of the GLM-4-Voice tokenizer, if it lies elsewhere.
            kwargs: keywords of transformers' ``from_pretrained``: dtype, device_map, quantization_config, ...

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged, or weights are missing or left over.
        """
        for name in _HUB_KEYWORDS:
            kwargs.pop(name, None)
        given = None if speech_tokenizer is None else Path(speech_tokenizer)
        return read_language_model(cls.ours, PublishedFolder(Path(folder), given), **kwargs)


class KimiAudioModel(_Published):
    """Reads a `SpikeAudioModel`."""

    ours = SpikeAudioModel


class KimiAudioForConditionalGeneration(_Published):
    """Reads a `SpikeAudioForConditionalGeneration`."""

    ours = SpikeAudioForConditionalGeneration


class KimiAudioForSpeechGeneration(_Published):
    """Reads a `SpikeAudioForSpeechGeneration`."""

    ours = SpikeAudioForSpeechGeneration


class KimiAudioForSpeechSeq2Seq(_Published):
    """Reads a `SpikeAudioForSpeechSeq2Seq`."""

    ours = SpikeAudioForSpeechSeq2Seq


class KimiAudioForTextToWaveform(_Published):
    """Reads a `SpikeAudioForTextToWaveform`."""

    ours = SpikeAudioForTextToWaveform


class KimiAudioProcessor:
    """Reads a `SpikeAudioProcessor`."""

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, speech_tokenizer: str | Path | None = None, **kwargs: Any
    ) -> SpikeAudioProcessor:
        """Read a download.

        Args:
            folder: the download.
            speech_tokenizer: folder of the GLM-4-Voice tokenizer, if it lies elsewhere.
            kwargs: keywords that `AutoProcessor` passes along; the hub is not asked.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged, or does not fit the model.
        """
        given = None if speech_tokenizer is None else Path(speech_tokenizer)
        return read_processor(PublishedFolder(Path(folder), given))
