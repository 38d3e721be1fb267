"""Whisper's log-mel spectrogram, of batches and of recordings of any length.

Log-mel (Radford et al. 2022): Hann windows of 25 ms every 10 ms, power spectrum, slaney mel filters,

    m = log10(max(mel, 1e-10)),    log_mel = (max(m, max(m) - 8) + 4) / 4

where max(m) runs over one clip with its padding. `whisper_log_mel` is transformers' `WhisperFeatureExtractor` on
tensors of one length, on any device, so that training can augment and transform a batch at once.

An encoder that takes 30 s at a time (the one inside Kimi-Audio's language model) gets a recording in pieces of 30 s,
the last one padded with silence; the maximum above is that of a piece.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from transformers import WhisperFeatureExtractor

SAMPLES_PER_TOKEN = 1280  # 80 ms at 16 kHz
SAMPLES_PER_FRAME = 160  # 10 ms
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


@dataclass(frozen=True)
class LogMelPieces:
    """A recording as an encoder of 30 s pieces takes it.

    Attributes:
        mel: (P, num_mels, 3000) fp32, each piece padded with silence to 30 s.
        mask: (P, 3000) bool, True on frames of real samples.
    """

    mel: Tensor
    mask: Tensor


def log_mel_pieces(wav: Tensor, num_mels: int) -> LogMelPieces:
    """Cut a clip every 30 s and take each piece's log-mel spectrogram.

    Args:
        wav: (N,) fp32, 16 kHz.
        num_mels: mel bins.

    Raises:
        ValueError: if `wav` is empty or not one-dimensional.
    """
    if wav.ndim != 1 or wav.numel() == 0:
        raise ValueError(f"wav must be (N,) with N > 0, got {tuple(wav.shape)}")
    pieces = torch.split(wav, SEGMENT_SAMPLES)
    padded = torch.stack([torch.nn.functional.pad(piece, (0, SEGMENT_SAMPLES - len(piece))) for piece in pieces])
    frames = torch.tensor([-(-len(piece) // SAMPLES_PER_FRAME) for piece in pieces])
    mask = torch.arange(SEGMENT_SAMPLES // SAMPLES_PER_FRAME) < frames[:, None]
    return LogMelPieces(whisper_log_mel(padded, num_mels), mask)
