"""Whisper's log-mel spectrogram for batches, and Whisper's encoder as a source of continuous features.

Log-mel (Radford et al. 2022): Hann windows of 25 ms every 10 ms, power spectrum, slaney mel filters,

    m = log10(max(mel, 1e-10)),    log_mel = (max(m, max(m) - 8) + 4) / 4

where max(m) runs over one clip with its padding. `whisper_log_mel` is transformers' `WhisperFeatureExtractor` on
tensors of one length, on any device, so that training can augment and transform a batch at once.

Continuous features, the way Kimi-Audio does it: every 30 s piece padded to 30 s, stock Whisper encoder (50 Hz), four
neighbouring frames side by side (12.5 Hz); channel block k of token i holds frame 4i + k.
"""

from functools import cache
from typing import ClassVar

import torch
from torch import Tensor
from transformers import WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

SAMPLES_PER_TOKEN = 1280  # 80 ms at 16 kHz
SEGMENT_SAMPLES = 480_000  # 30 s at 16 kHz


@cache
def _filters(num_mels: int) -> Tensor:
    return torch.from_numpy(WhisperFeatureExtractor(feature_size=num_mels).mel_filters.T.copy()).float()


def whisper_log_mel(wav: Tensor, num_mels: int = 80) -> Tensor:
    """Log-mel spectrogram of clips padded to one length.

    Args:
        wav: (B, N) fp32, 16 kHz, N >= 201.
        num_mels: mel bins, 80 or 128 in the published models.

    Returns:
        (B, num_mels, N // 160) fp32, frames of 10 ms.

    Raises:
        ValueError: if `wav` is not a batch of clips long enough for one window.
    """
    if wav.ndim != 2 or wav.shape[1] < 201:
        raise ValueError(f"wav must be (B, N) with N >= 201, got {tuple(wav.shape)}")
    window = torch.hann_window(400, device=wav.device)
    spectrum = torch.stft(wav, 400, 160, window=window, return_complex=True)[..., :-1]
    power = spectrum.real.square() + spectrum.imag.square()
    mel = (_filters(num_mels).to(wav.device) @ power).clamp_min_(1e-10).log10_()
    return (torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0


class WhisperFeatureEncoder(WhisperEncoder):
    """transformers' Whisper encoder with its output stacked to the token rate.

    Reads Whisper folders as published (keys ``model.encoder.*``; the decoder is ignored).
    """

    base_model_prefix = "model.encoder"  # where published folders keep these weights
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"^model\.decoder\.", r"^proj_out\."]

    def features(self, wav: Tensor) -> Tensor:
        """Continuous features of one clip of any length.

        Args:
            wav: (N,) fp32, 16 kHz.

        Returns:
            (S, 4 * d_model) in the weights' dtype, S = sum over 30 s pieces of ceil(samples / 1280).
        """
        if wav.ndim != 1 or wav.numel() == 0:
            raise ValueError(f"wav must be (N,) with N > 0, got {tuple(wav.shape)}")
        pieces = wav.split(SEGMENT_SAMPLES)
        padded = torch.stack([torch.nn.functional.pad(piece, (0, SEGMENT_SAMPLES - len(piece))) for piece in pieces])
        mel = whisper_log_mel(padded, self.config.num_mel_bins).to(self.conv1.weight)
        hidden = self(mel).last_hidden_state  # (pieces, 1500, D)
        tokens = [-(-len(piece) // SAMPLES_PER_TOKEN) for piece in pieces]
        frames = torch.cat([row[: 4 * count] for row, count in zip(hidden, tokens, strict=True)])
        return frames.reshape(sum(tokens), -1)
