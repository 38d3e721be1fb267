"""Waveform and spectrogram augmentation for 16 kHz speech, drawn from a numpy generator.

What a recording differs in that its words do not: speed, level, background, channel, room, and how long nobody speaks
before, between and after the words. Every function is a pure
function of its arguments and of the generator's state, so a training batch can be drawn again after a restart.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor

RATE = 16000
QUIET_SECONDS = 3.0  # longest stretch without speech


def change_speed(wav: np.ndarray, factor: float) -> np.ndarray:
    """Play `factor` times faster, pitch included. (N,) -> (round(N / factor),)."""
    length = max(1, round(len(wav) / factor))
    return np.interp(np.linspace(0, len(wav) - 1, length), np.arange(len(wav)), wav).astype(np.float32)


@cache
def noise_bank(seconds: float = 30.0) -> np.ndarray:
    """White, pink and brown noise of unit power, (3, N); fixed."""
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal((3, int(seconds * RATE))).astype(np.float32))
    frequency = np.maximum(np.arange(spectrum.shape[1], dtype=np.float32), 60 * seconds)  # flat below 60 Hz
    shaped = spectrum * frequency[None] ** np.array([[0.0], [-0.5], [-1.0]], dtype=np.float32)
    noise = np.fft.irfft(shaped).astype(np.float32)
    return noise / np.sqrt((noise**2).mean(1, keepdims=True))


def quiet_seconds(rng: np.random.Generator, usual: float = 0.25, often: float = 0.5) -> float:
    """Length of a stretch without speech: up to `usual` seconds, and in a share `often` of draws up to 3 s."""
    return float(rng.uniform(0.0, QUIET_SECONDS if rng.random() < often else usual))


def quiet(samples: int, rms: float, rng: np.random.Generator) -> np.ndarray:
    """What is heard when nobody speaks: one in three times digital silence, else white, pink or brown noise.

    Args:
        samples: N.
        rms: rms of the speech around it; noise lies 15 to 40 dB below.
        rng: source of the choice.

    Returns:
        (N,) float32.
    """
    if rng.random() < 1 / 3:
        return np.zeros(samples, np.float32)
    noises = noise_bank()
    noise, start = noises[int(rng.integers(len(noises)))], int(rng.integers(noises.shape[1]))
    stretch = np.take(noise, np.arange(start, start + samples), mode="wrap")
    return stretch * np.float32(rms * 10 ** (-rng.uniform(15, 40) / 20))


def with_quiet(wavs: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Clips one after the other, with quiet before, between and after them.

    Args:
        wavs: (N,) float32 each, at least one.
        rng: source of the lengths and of what is heard in them.

    Returns:
        (N,) float32: the clips themselves are unchanged.
    """
    rms = float(np.sqrt(np.mean(np.concatenate(wavs) ** 2)))
    gaps = [quiet(round(quiet_seconds(rng) * RATE), rms, rng) for _ in range(len(wavs) + 1)]
    return np.concatenate([gaps[0], *(part for pair in zip(wavs, gaps[1:], strict=True) for part in pair)])


def add_noise(wav: np.ndarray, noise: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Add a random stretch of `noise`, repeated if it is short, at the given signal-to-noise ratio."""
    start = int(rng.integers(0, max(1, len(noise) - len(wav))))
    stretch = np.resize(noise[start : start + len(wav)], len(wav))
    power = float((wav**2).mean()) / max(float((stretch**2).mean()), 1e-10)
    return wav + stretch * np.float32(np.sqrt(power * 10 ** (-snr_db / 10)))


def filter_channel(wav: np.ndarray, rng: np.random.Generator, telephone: bool, room: bool) -> np.ndarray:
    """Telephone band (what survives 8 kHz sampling, sometimes without bass) and a room's decaying echo."""
    size = 1 << (len(wav) + (RATE // 2 if room else 0) - 1).bit_length()
    spectrum = np.fft.rfft(wav, size)
    if room:
        decay = np.exp(-np.arange(RATE // 2) / (RATE * rng.uniform(0.02, 0.08))).astype(np.float32)
        echo = rng.standard_normal(RATE // 2, dtype=np.float32) * decay
        echo *= rng.uniform(0.2, 0.7) / np.sqrt((echo**2).sum())
        echo[0] += 1.0
        spectrum = spectrum * np.fft.rfft(echo, size)
    if telephone:
        hertz = np.fft.rfftfreq(size, 1 / RATE)
        top, bottom = rng.uniform(3400, 4000), rng.choice([0.0, rng.uniform(100, 300)])
        spectrum = (
            spectrum
            * (1 / (1 + np.exp((hertz - top) / 40.0)))
            * (1 / (1 + np.exp(np.clip((bottom - hertz) / 20.0, -50, 50))))
        )
    return np.fft.irfft(spectrum, size)[: len(wav)].astype(np.float32)


def augment(wav: np.ndarray, noises: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Channel (telephone 20 %, room 5 %), noise on 30 % of the clips at 10..40 dB, gain -12..+6 dB. (N,) -> (N,)."""
    telephone, room = rng.random() < 0.2, rng.random() < 0.05
    if telephone or room:
        wav = filter_channel(wav, rng, telephone, room)
    if rng.random() < 0.3:
        wav = add_noise(wav, noises[int(rng.integers(len(noises)))], rng.uniform(10, 40), rng)
    return np.clip(wav * np.float32(10 ** (rng.uniform(-12, 6) / 20)), -1, 1)


def mask_spectrogram(mel: Tensor, frames: list[int], strengths: list[float], rng: np.random.Generator) -> Tensor:
    """SpecAugment (Park et al. 2019), in place: bands and stretches set to the clip's mean.

    Args:
        mel: (B, M, F) log-mel.
        frames: real frames of each row.
        strengths: strengths of each row, from 0 (nothing) to 1 (two bands of up to 20 bins, one stretch of up to 0.4 s
            per 1.5 s).
        rng: source of the masks.
    """
    for row, length, strength in zip(mel, frames, strengths, strict=True):
        fill = row[:, :length].mean()
        for _ in range(2):
            width = int(rng.integers(0, round(20 * strength) + 1))
            first = int(rng.integers(0, mel.shape[1] - width))
            row[first : first + width] = fill
        for _ in range(round(length / 150)):
            width = min(int(rng.integers(0, round(40 * strength) + 1)), length // 4)
            first = int(rng.integers(0, length - width))
            row[:, first : first + width] = fill
    return torch.clamp_(mel, -4.0, 4.0)
