"""The parts of a checkpoint, joined: language model, processor and speech decoder.

They are checked once, here, whether they belong together. A checkpoint that cannot hear or cannot speak loads all the
same; whoever needs the missing part is told.
"""

from pathlib import Path
from typing import Any, Self

import torch

from spikeaudio.checkpoint import DETOKENIZER, VOCODER, missing_parts
from spikeaudio.lm.modeling import SpikeAudioForConditionalGeneration
from spikeaudio.loading.contract import check_parts
from spikeaudio.loading.reader import read_checkpoint
from spikeaudio.prompt.processor import SpikeAudioProcessor
from spikeaudio.speech.decoder import SpeechDecoder
from spikeaudio.tokenizer.speech_tokenizer import SpeechTokenizer
from spikeaudio.vocoder.protocol import Vocoder


class JoinedCheckpoint:
    """A loaded checkpoint.

    Args:
        model: the language model.
        processor: texts and recordings to prompts.
        decoder: codes to speech; None for a model that only writes.
        folder: where it came from, for messages.

    Raises:
        ValueError: the parts do not belong together.
    """

    def __init__(
        self,
        model: SpikeAudioForConditionalGeneration,
        processor: SpikeAudioProcessor,
        decoder: SpeechDecoder | None = None,
        folder: str | Path | None = None,
    ) -> None:
        check_parts(model, processor, decoder)
        self.model = model.eval()
        self.processor = processor
        self._decoder = decoder
        self._folder = folder

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        speech_tokenizer: str | Path | None = None,
        **options: Any,
    ) -> Self:
        """Load a checkpoint: one of ours, or an unmodified download of Kimi-Audio.

        Args:
            folder: a folder, the name of a shipped checkpoint ("spikeaudio-tiny"), or an id "org/name" on the hub.
            device: device to run on; None: the CPU.
            dtype: dtype of the weights in memory; None: float32; "auto": as they are stored.
            speech_tokenizer: folder of the GLM-4-Voice tokenizer, if it lies neither in a download nor beside it.
            options: transformers' keywords for the language model (`device_map`, `attn_implementation`,
                `quantization_config`, `torch_dtype`), and the hub's (`revision`, `cache_dir`, `token`,
                `local_files_only`, `force_download`).

        Raises:
            FileNotFoundError: no such folder, or no checkpoint in it, or a file of it is missing.
            ValueError: a file is damaged, a keyword or a key of a configuration is unknown, or the parts do not belong
                together.

        Example:
            >>> from spikeaudio import SpikeAudio
            >>> SpikeAudio.from_pretrained("spikeaudio-tiny")
            SpikeAudio('spikeaudio-tiny': 4.9 M parameters on cpu in float32, hears and speaks)
        """
        found = read_checkpoint(folder, device, dtype, speech_tokenizer, **options)
        return cls(*found, folder=folder)

    def __repr__(self) -> str:
        name = "in memory" if self._folder is None else repr(str(self._folder))
        size = sum(parameter.numel() for parameter in self.model.parameters()) / 1e6
        spikes = "" if self.model.config.to_dict().get("quantization_config") is None else ", spiking"
        can = [
            verb for verb, there in (("hears", self.processor.hears), ("speaks", self._decoder is not None)) if there
        ]
        dtype = str(self.dtype).removeprefix("torch.")
        return (
            f"{type(self).__name__}({name}: {size:.1f} M parameters on {self.device} in {dtype}{spikes}, "
            f"{' and '.join(can) or 'text only'})"
        )

    @property
    def device(self) -> torch.device:
        """Device of the language model."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the language model's weights."""
        return self.model.dtype

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Move the language model and the voice, in place; the speech tokenizer stays on the CPU.

        Args:
            device: device to move to; None: stay.
            dtype: dtype to cast to; None: stay.

        Example:
            >>> import torch
            >>> from spikeaudio import SpikeAudio
            >>> SpikeAudio.from_pretrained("spikeaudio-tiny").to(dtype=torch.bfloat16).dtype
            torch.bfloat16
        """
        self.model.to(device=device, dtype=dtype)  # type: ignore[call-overload]
        if self._decoder is not None:
            self._decoder.to(device, dtype)
        return self

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the whole checkpoint; loading it gives the same weights, bit for bit.

        Example:
            >>> import tempfile
            >>> from spikeaudio import SpikeAudio
            >>> model = SpikeAudio.from_pretrained("spikeaudio-tiny")
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     model.save_pretrained(folder)
            ...     SpikeAudio.from_pretrained(folder).transcribe("spikeaudio/samples/sum.wav")
            'how much is nine times three'
        """
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        if self._decoder is not None:
            self._decoder.save_pretrained(folder)

    @property
    def tokenizer(self) -> SpeechTokenizer:
        """The speech tokenizer: wav -> codes and features. ValueError where the checkpoint has none."""
        return self.processor.speech_tokenizer

    @property
    def decoder(self) -> SpeechDecoder:
        """The speech decoder: codes -> wav. ValueError where the checkpoint has none."""
        if self._decoder is None:
            where = "this model" if self._folder is None else f"the checkpoint {self._folder}"
            missing = (
                [DETOKENIZER, VOCODER] if self._folder is None else missing_parts(self._folder, DETOKENIZER, VOCODER)
            )
            raise ValueError(f"{where} cannot speak: it has no {' and no '.join(f'{part}/' for part in missing)}")
        return self._decoder

    @property
    def detokenizer(self) -> torch.nn.Module:
        """Codes -> mel."""
        return self.decoder.detokenizer

    @property
    def vocoder(self) -> Vocoder:
        """Mel -> wav."""
        return self.decoder.vocoder
