"""The speech tokenizer as one object: 16 kHz wav -> codes and continuous features, 12.5 per second.

Padding follows the published pipeline: a clip of up to 30 s is padded with zeros to the next multiple of 1280 samples
and no further. A longer one is cut every 30 s and its pieces go through as one batch, so the last piece is padded to
30 s. Either way a clip has ceil(samples / 1280) tokens per piece.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import WhisperFeatureExtractor

from spikeaudio.audio.whisper_mel import SAMPLES_PER_TOKEN, SEGMENT_SAMPLES
from spikeaudio.tokenizer.whisper_vq import WhisperVQEncoder


@dataclass(frozen=True)
class SpeechTokens:
    """One clip at 12.5 Hz.

    Attributes:
        codes: (S,) long.
        features: (S, D) fp32, hidden states before quantization.

    Raises:
        ValueError: there is not one feature per code.
    """

    codes: Tensor
    features: Tensor

    def __post_init__(self) -> None:
        if len(self.features) != len(self.codes):
            raise ValueError(
                f"a recording has {len(self.codes)} codes, but {len(self.features)} features: "
                f"expected one feature per code"
            )


class SpeechTokenizer:
    """Feature extractor and encoder, loaded and saved as one folder.

    Args:
        feature_extractor: log-mel of 16 kHz clips.
        encoder: log-mel to codes; its device and dtype are used.

    Example:
        >>> import torch
        >>> from spikeaudio import SpeechTokenizer
        >>> tokenizer = SpeechTokenizer.from_pretrained("checkpoints/spikeaudio-tiny/speech_tokenizer")
        >>> [tokens] = tokenizer.encode([torch.zeros(16000)])  # 1 s at 16 kHz
        >>> tokens.codes.shape, tokens.features.shape  # 12.5 per second
        (torch.Size([13]), torch.Size([13, 256]))
    """

    sampling_rate = 16000

    def __init__(self, feature_extractor: WhisperFeatureExtractor, encoder: WhisperVQEncoder) -> None:
        if feature_extractor.feature_size != encoder.config.num_mel_bins:
            raise ValueError(
                f"feature_extractor makes {feature_extractor.feature_size} mel bins, "
                f"encoder expects {encoder.config.num_mel_bins}"
            )
        self.feature_extractor = feature_extractor
        self.encoder = encoder

    @classmethod
    def from_pretrained(cls, folder: str | Path, dtype: torch.dtype = torch.float32) -> "SpeechTokenizer":
        """Read a folder of ours or of the published GLM-4-Voice tokenizer.

        Args:
            folder: folder with ``config.json``, ``model.safetensors`` and ``preprocessor_config.json``.
            dtype: dtype of the weights in memory. Nearest rows are decided in fp32 in any case; the published dtype is
            fp32.
        """
        encoder = WhisperVQEncoder.from_pretrained(folder, dtype=dtype)
        return cls(WhisperFeatureExtractor.from_pretrained(folder), encoder.eval())

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json``, ``model.safetensors`` and ``preprocessor_config.json``."""
        self.encoder.save_pretrained(folder)
        self.feature_extractor.save_pretrained(folder)

    @torch.no_grad()
    def encode(self, wavs: Sequence[Tensor]) -> list[SpeechTokens]:
        """Codes and features of clips of any length; each clip is encoded on its own.

        Args:
            wavs: (N,) fp32 clips at 16 kHz.

        Raises:
            ValueError: if a clip is not one-dimensional or empty.
        """
        return [self._encode(wav) for wav in wavs]

    def _encode(self, wav: Tensor) -> SpeechTokens:
        if wav.ndim != 1 or wav.numel() == 0:
            raise ValueError(f"every wav must be (N,) with N > 0, got {tuple(wav.shape)}")
        weight = self.encoder.conv1.weight
        inputs = self.feature_extractor(
            [piece.float().cpu().numpy() for piece in wav.split(SEGMENT_SAMPLES)],
            sampling_rate=self.sampling_rate,
            padding="longest",
            pad_to_multiple_of=SAMPLES_PER_TOKEN,
            return_attention_mask=True,
            return_tensors="pt",
        )
        output = self.encoder(inputs.input_features.to(weight), inputs.attention_mask.to(weight.device))
        return SpeechTokens(output.codes[output.codes_mask], output.features[output.codes_mask].float())
