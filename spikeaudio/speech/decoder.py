"""Codes -> wav: the flow-matching detokenizer and the vocoder, joined.

    codes (S,) 12.5 Hz  -> detokenizer -> mel (80, 4 S) 50 Hz -> vocoder -> wav (1920 S,) 24 kHz

`decode` is `step` with everything at once, so a stream and a file hold the same samples. A `VoicePrompt`, shown to the
detokenizer before the first code, stays in its context for the whole stream.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModel

from spikeaudio.audio.samples import check_wav
from spikeaudio.checkpoint import DETOKENIZER, VOCODER, load_part, missing_parts
from spikeaudio.detokenizer.modeling import FlowMatchingDetokenizer
from spikeaudio.detokenizer.state import DetokenizerState
from spikeaudio.vocoder.protocol import Vocoder, VocoderStream

CODES_PER_SECOND = 12.5


@dataclass(frozen=True)
class VoicePrompt:
    """How somebody sounds: a recording as the detokenizer knows speech; made by `SpeechDecoder.voice`."""

    codes: Tensor  # (S,) long
    mel: Tensor  # (M, S * frames_per_code) log-mel


@dataclass
class SpeechState:
    """State of one stream of speech, owned by the caller; made by `SpeechDecoder.init_state`."""

    detokenizer: DetokenizerState
    vocoder: VocoderStream

    def reset(self) -> None:
        """Start again with nothing said, without a voice prompt."""
        self.detokenizer.reset()
        self.vocoder.reset()

    def clone(self) -> "SpeechState":
        """An independent copy: a stream can be continued in two ways."""
        return SpeechState(self.detokenizer.clone(), self.vocoder.clone())


class SpeechDecoder:
    """Detokenizer and vocoder of one voice.

    Args:
        detokenizer: codes to mel.
        vocoder: mel to wav.

    Raises:
        ValueError: the two speak of different mels, or their rates do not make 12.5 codes a second.
    """

    def __init__(self, detokenizer: FlowMatchingDetokenizer, vocoder: Vocoder) -> None:
        mels, bands = detokenizer.config.num_mels, vocoder.config.num_mels
        if mels != bands:
            raise ValueError(f"the detokenizer makes {mels} mel channels, but the vocoder reads {bands}")
        samples_per_code = detokenizer.config.frames_per_code * vocoder.config.hop_length
        if samples_per_code * CODES_PER_SECOND != vocoder.config.sampling_rate:
            raise ValueError(
                f"{CODES_PER_SECOND} codes a second of {samples_per_code} samples (frames_per_code * hop_length) "
                f"do not make the vocoder's {vocoder.config.sampling_rate} Hz"
            )
        self.detokenizer = detokenizer
        self.vocoder = vocoder

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, device: torch.device | str | None = None, dtype: torch.dtype | str | None = None
    ) -> "SpeechDecoder":
        """Load ``detokenizer/`` and ``vocoder/`` of a checkpoint.

        Args:
            folder: the checkpoint.
            device: where to put them; None: the CPU.
            dtype: type of the weights in memory; None: float32; "auto": as they are stored.

        Raises:
            ValueError: one of the two is missing or damaged, or they do not fit together.
        """
        if missing := missing_parts(folder, DETOKENIZER, VOCODER):
            parts = " and no ".join(f"{part}/" for part in missing)
            raise ValueError(f"the checkpoint {folder} cannot speak: it has no {parts}")

        dtype = dtype or torch.float32
        detokenizer = load_part(
            lambda path: FlowMatchingDetokenizer.from_pretrained(path, dtype=dtype), Path(folder) / DETOKENIZER
        )
        vocoder = load_part(lambda path: load_vocoder(path, dtype), Path(folder) / VOCODER)
        return cls(detokenizer.to(device).eval(), vocoder.to(device).eval())

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``detokenizer/`` and ``vocoder/`` into `folder`."""
        self.detokenizer.save_pretrained(Path(folder) / DETOKENIZER)
        self.vocoder.save_pretrained(Path(folder) / VOCODER)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "SpeechDecoder":
        """Move both, in place. None: stay."""
        for part in (self.detokenizer, self.vocoder):
            part.to(device=device, dtype=dtype)
        return self

    @property
    def sampling_rate(self) -> int:
        """Hz of the speech."""
        return self.vocoder.config.sampling_rate

    @property
    def num_codes(self) -> int:
        """Size of the code vocabulary."""
        return self.detokenizer.config.num_codes

    @property
    def max_voice_seconds(self) -> float:
        """Longest recording that can be a voice prompt."""
        return self.detokenizer.max_prompt_frames // self._frames_per_code / CODES_PER_SECOND

    @property
    def _frames_per_code(self) -> int:
        return self.detokenizer.config.frames_per_code

    def voice(self, wav: Tensor, codes: Tensor) -> VoicePrompt:
        """The voice of a recording.

        Args:
            wav: (N,) float at `sampling_rate`.
            codes: (S,) long, the speech tokenizer's of the same recording; a last code that the recording does not
                fill is left out.

        Raises:
            ValueError: shorter than a code (80 ms), longer than `max_voice_seconds`, NaN or infinity.
        """
        wav = check_wav(wav, "the voice")
        mel = self.vocoder.log_mel(wav[None])[0]
        count = min(len(codes), mel.shape[1] // self._frames_per_code)
        seconds = len(wav) / self.sampling_rate
        if not 0 < count / CODES_PER_SECOND <= self.max_voice_seconds:
            raise ValueError(
                f"a voice must be a recording of {1 / CODES_PER_SECOND} to {self.max_voice_seconds:g} seconds, "
                f"got {seconds:g}"
            )
        return VoicePrompt(codes[:count].long(), mel[:, : count * self._frames_per_code])

    def init_state(self, seed: int = 0, voice: VoicePrompt | None = None) -> SpeechState:
        """State of a stream in which nothing was said yet.

        Args:
            seed: seed of the flow's noise.
            voice: to speak with; None: the detokenizer's own.

        Raises:
            ValueError: as `FlowMatchingDetokenizer.prefill`, for a voice of another detokenizer.
        """
        state = SpeechState(self.detokenizer.init_state(1, seed), self.vocoder.init_state(1))
        if voice is not None:
            self.detokenizer.prefill(voice.codes[None], voice.mel[None], state.detokenizer)
        return state

    @torch.no_grad()
    def step(self, codes: Tensor, state: SpeechState, last: bool = False) -> Tensor:
        """Push the next codes of a stream; get the samples that they complete.

        Args:
            codes: (S,) long, S >= 0.
            state: from `init_state`; updated in place.
            last: no codes follow; what is pending comes out.

        Returns:
            (n,) float32 on the CPU, n >= 0; the pieces joined are `decode` of all codes.

        Raises:
            ValueError: a code out of range, or codes after the last ones.
        """
        mel = self.detokenizer.step(codes[None].to(self.detokenizer.device), state.detokenizer, last=last)
        mel = mel.to(self.vocoder.device, self.vocoder.dtype)
        wav = self.vocoder.step(mel, state.vocoder, last=last)
        return wav[0].cpu()

    def decode(self, codes: Tensor, seed: int = 0, voice: VoicePrompt | None = None) -> Tensor:
        """Speech of a whole sequence of codes, (S,) long -> (N,) float32; without codes, no samples."""
        if codes.ndim != 1:
            raise ValueError(f"codes must be (S,), got shape {tuple(codes.shape)}")
        return self.step(codes, self.init_state(seed, voice), last=True)


def load_vocoder(folder: str | Path, dtype: torch.dtype | str) -> Vocoder:
    """The vocoder in `folder`, of the class that is registered for its ``model_type``.

    Args:
        folder: written by the vocoder's `save_pretrained`.
        dtype: dtype of the weights in memory; "auto": as they are stored.

    Raises:
        ValueError: no class is registered for it, or the class lacks a member of `Vocoder`.
    """
    vocoder = AutoModel.from_pretrained(folder, dtype=dtype)
    if not isinstance(vocoder, Vocoder):
        lacking = sorted(name for name in _VOCODER_MEMBERS if not hasattr(vocoder, name))
        raise ValueError(f"{folder} holds no vocoder: {type(vocoder).__name__} has no {', '.join(lacking)}")
    return vocoder


_VOCODER_MEMBERS = ("log_mel", "init_state", "decode", "step")
