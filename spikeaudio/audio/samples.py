"""Samples: mono float32 in [-1, 1], made from arrays of any usual type.

What no model can use (nothing, NaN, infinity) is refused with one sentence.

Notation: N samples, C channels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

_LOUDEST = 16.0  # above it, floats are no samples of full scale 1, not even clipped ones


def check_wav(wav: NDArray[Any] | Tensor | Sequence[float], name: str = "audio") -> Tensor:
    """Mono float32 samples on the CPU from an array, tensor or list, or an error that says what is wrong with it.

    Args:
        wav: (N,), or (C, N) or (N, C), whose shorter axis is taken for the channels and averaged. Floats are taken as
            they are; 8, 16 and 32-bit integers are divided by their full scale.
        name: name for it in an error.

    Returns:
        (N,) float32.

    Raises:
        ValueError: if the type or shape is no audio, there are no samples, or some are NaN or infinite.
    """
    if isinstance(wav, Tensor):  # numpy knows no bfloat16
        wav = (wav.detach().float() if wav.is_floating_point() else wav.detach()).cpu().numpy()
    samples = _float32(np.asarray(wav), name)
    if samples.size == 0:
        raise ValueError(f"{name} holds no samples: expected at least one")
    if samples.ndim == 2:
        samples = samples.mean(axis=0 if samples.shape[0] <= samples.shape[1] else 1)
    if samples.ndim != 1:
        raise ValueError(f"expected {name} of shape (N,), (C, N) or (N, C), got shape {samples.shape}")
    if not np.isfinite(samples).all():
        count = int((~np.isfinite(samples)).sum())
        raise ValueError(f"{name} holds {count} NaN or infinite samples of {samples.size}: expected finite values")
    if (peak := float(np.abs(samples).max())) > _LOUDEST:
        raise ValueError(
            f"{name} has samples of up to {peak:g}: expected floats in [-1, 1]; "
            "divide samples of 16-bit scale by 32768, or give them as int16"
        )
    return torch.from_numpy(np.ascontiguousarray(samples))


def _float32(samples: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Samples as float32; integers divided by their full scale (8-bit audio is unsigned around 128)."""
    kind, size = samples.dtype.kind, samples.dtype.itemsize
    if kind == "f":
        return samples.astype(np.float32)
    if kind == "i" and size <= 4:
        return (samples / 2.0 ** (8 * size - 1)).astype(np.float32)
    if kind == "u" and size == 1:
        return ((samples.astype(np.float32) - 128.0) / 128.0).astype(np.float32)
    raise ValueError(f"expected {name} as floats or as 8, 16 or 32-bit integers, got {samples.dtype}")


def resample(wav: Tensor, orig: int, new: int) -> Tensor:
    """Change the sampling rate with a band-limited filter (soxr, high quality).

    Args:
        wav: (N,) float32.
        orig: Hz of ``wav``.
        new: Hz of the result.

    Returns:
        (max(1, round(N * new / orig)),) float32 on the CPU; ``wav`` itself if the rates are equal.

    Raises:
        ValueError: if a rate is not positive.
    """
    if orig <= 0 or new <= 0:
        raise ValueError(f"expected positive sampling rates, got {orig} and {new} Hz")
    if orig == new:
        return wav
    samples = soxr.resample(wav.cpu().numpy(), orig, new, quality="HQ")
    # A clip shorter than one new sample would vanish; it still is audio, so it keeps its mean.
    return torch.from_numpy(samples) if samples.size else wav.cpu().mean().reshape(1)
