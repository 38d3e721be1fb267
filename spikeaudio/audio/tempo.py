"""The tempo of a recording: faster or slower at the same pitch, by librosa's phase vocoder."""

import torch
from torch import Tensor

SLOWEST, FASTEST = 0.25, 4.0  # beyond them, a phase vocoder leaves nothing that can be understood
_WINDOW = 1024  # samples: 43 ms at 24 kHz, a few periods of a low voice


def change_tempo(wav: Tensor, speed: float) -> Tensor:
    """A recording played at another speed, with its pitch as it was.

    Args:
        wav: (N,) float32, at any rate.
        speed: Factor from 0.25 to 4; 2 takes half the time. 1 changes nothing.

    Returns:
        (round(N / speed),) float32.

    Raises:
        ValueError: a speed out of range.

    >>> import torch
    >>> change_tempo(torch.sin(torch.arange(24000) * 0.1), 1.5).shape
    torch.Size([16000])
    """
    check_speed(speed)
    if speed == 1 or wav.numel() == 0:
        return wav
    from librosa.effects import time_stretch  # here, for its import takes longer than reading a sentence aloud

    padded = torch.nn.functional.pad(wav, (0, max(0, _WINDOW - wav.numel())))
    stretched = time_stretch(padded.cpu().numpy(), rate=speed, n_fft=_WINDOW)
    return torch.from_numpy(stretched)[: round(wav.numel() / speed)].to(wav)


def check_speed(speed: float) -> None:
    """Refuse a speed out of range.

    Raises:
        ValueError: if it is below 0.25, above 4, or NaN.
    """
    if not SLOWEST <= speed <= FASTEST:
        raise ValueError(f"speed must be between {SLOWEST:g} and {FASTEST:g}, got {speed:g}")
