"""Speech that comes in pieces: would playing it stall, and can the joins be heard?

Playback. A player begins when the first piece is there and plays on. Where a piece is not there when it is needed, the
player waits for it: a stall.

Seams, where the same codes were also made sound at once. With x the streamed speech and y the offline one.

    Peak            the largest |x - y|, of full scale
    distance        mean of |20 log10 (M(x) / M(y))| over the 80 mel bands M of `spikeaudio.audio.files.kimi_log_mel`,
                    in dB; both spectra are floored 60 dB below the loudest value of y

each over what lies within 25 ms of a join, and over all the rest. Exact streaming has 0 in both. Recordings hold 16
bits, so that 3e-5 is the smallest difference there is.

Seams, where there is nothing to compare with. The measure is spectral flux: the rise of the magnitude spectrum from
one 20 ms window to the next, 5 ms later, half-wave rectified and summed. Sources: Bello et al., "A tutorial on onset
detection in music signals", IEEE TSAP 2005; Dixon, "Onset detection revisited", DAFx 2006. A click or a jump at a join
is such a rise. A join has the largest flux within 10 ms. It is compared with the same maximum at all places without a
join, over places with sound (less than 40 dB below the loudest window) only, with F = 20 log10 (flux):

    flux            mean of F over joins - mean of F elsewhere, in dB

Onsets of speech are such rises, too (F of single places spreads by some 10 dB): few joins prove nothing, and 0 dB is
what a stream without seams has on average. Against the median elsewhere it would be -2 dB: quiet places reach further
down.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from spikeaudio.audio.mel import kimi_log_mel
from spikeaudio.audio.samples import resample

Wav = NDArray[np.float32]
MEL_RATE = 24000
_HOP = 480
_NEAR_SECONDS = 0.025
_MEL_RANGE = np.log(10) * 60 / 20
_WINDOW_SECONDS, _STEP_SECONDS, _FLUX_SECONDS = 0.02, 0.005, 0.01
_SOUND_DB = 40.0
_TOLERANCE = 1e-9  # seconds: what adding lengths of pieces costs in floats is no stall


@dataclass(frozen=True)
class Playback:
    """How playing a stream went.

    Attributes:
        stalls: how often the player had to wait, after it had begun.
        stalled_seconds: how long in all.
        longest_gap_seconds: the longest time from one piece to the next.
    """

    stalls: int
    stalled_seconds: float
    longest_gap_seconds: float


@dataclass(frozen=True)
class Seams:
    """Streamed speech against the same codes decoded at once, near joins and elsewhere.

    Attributes:
        peak: largest difference of samples near joins, of full scale.
        peak_elsewhere: the same of all other samples.
        distance: mean log-mel distance near joins, in dB.
        distance_elsewhere: the same of all other frames.
    """

    peak: float
    peak_elsewhere: float
    distance: float
    distance_elsewhere: float


def joins(pieces: Sequence[tuple[float, int]]) -> list[int]:
    """Places, in samples, where one piece ends and the next begins."""
    return np.cumsum([samples for _, samples in pieces])[:-1].tolist()


def play(pieces: Sequence[tuple[float, int]], sampling_rate: int) -> Playback:
    """Play a stream.

    Args:
        pieces: (seconds until the piece was there, its samples), in order.
        sampling_rate: Hz.

    Raises:
        ValueError: there is no piece.
    """
    if not pieces:
        raise ValueError("expected at least one piece of speech, got none")
    stalls, stalled, gap = 0, 0.0, 0.0
    before = ends = pieces[0][0]
    for there, samples in pieces:
        gap, before = max(gap, there - before), there
        if there > ends + _TOLERANCE:
            stalls, stalled, ends = stalls + 1, stalled + there - ends, there
        ends += samples / sampling_rate
    return Playback(stalls, stalled, gap)


def seams(streamed: Wav, offline: Wav, at: Sequence[int], sampling_rate: int) -> Seams:
    """Compare streamed speech with the same codes decoded at once; the shorter one is continued by silence.

    Args:
        streamed: (N,).
        offline: (M,).
        at: joins, in samples of `streamed`; at least one.
        sampling_rate: Hz of both.
    """
    length = max(len(streamed), len(offline))
    x, y = (np.pad(wav, (0, length - len(wav))) for wav in (streamed, offline))
    seconds = np.array(at) / sampling_rate
    near = _near(np.arange(length) / sampling_rate, seconds)
    difference = np.abs(x - y)
    spectra = [_log_mel(wav, sampling_rate) for wav in (x, y)]
    floor = spectra[1].max(initial=-np.inf) - _MEL_RANGE
    distance = np.abs(np.maximum(spectra[0], floor) - np.maximum(spectra[1], floor)).mean(0) * 20 / np.log(10)
    near_frame = _near((np.arange(len(distance)) + 0.5) * _HOP / MEL_RATE, seconds)
    return Seams(
        float(difference[near].max(initial=0.0)),
        float(difference[~near].max(initial=0.0)),
        float(distance[near_frame].mean()) if near_frame.any() else 0.0,
        float(distance[~near_frame].mean()) if not near_frame.all() else 0.0,
    )


def flux_at_joins(wav: Wav, at: Sequence[int], sampling_rate: int) -> list[float]:
    """Spectral flux at each join that lies within sound, in dB over the mean elsewhere.

    Args:
        wav: (N,) the streamed speech.
        at: joins, in samples.
        sampling_rate: Hz.
    """
    window, step = round(_WINDOW_SECONDS * sampling_rate), round(_STEP_SECONDS * sampling_rate)
    reach = round(_FLUX_SECONDS / _STEP_SECONDS)
    if len(wav) < window + (2 * reach + 2) * step:
        return []
    frames = np.lib.stride_tricks.sliding_window_view(wav.astype(np.float64), window)[::step]
    spectra = np.abs(np.fft.rfft(frames * np.hanning(window)))
    flux = np.maximum(spectra[1:] - spectra[:-1], 0).sum(1)  # of the step from window t to window t + 1
    level = np.square(spectra).sum(1)
    loud = np.maximum(level[1:], level[:-1]) > level.max() * 10 ** (-_SOUND_DB / 10)
    largest = np.lib.stride_tricks.sliding_window_view(flux, 2 * reach + 1).max(1)
    sound = np.lib.stride_tricks.sliding_window_view(loud, 2 * reach + 1).any(1)
    # Places are where both windows of the middle step meet, on average.
    places = (np.arange(len(largest)) + reach + 0.5) * step + window / 2
    seconds = np.array(at) / sampling_rate
    free = ~_near(places / sampling_rate, seconds, _NEAR_SECONDS + _WINDOW_SECONDS) & sound & (largest > 0)
    if not free.any():
        return []
    usual = np.log10(largest[free]).mean()
    nearest = [int(np.abs(places - join).argmin()) for join in at]
    return [float(20 * (np.log10(largest[one]) - usual)) for one in nearest if sound[one] and largest[one] > 0]


def _near(times: NDArray[np.float64], joins: NDArray[np.float64], reach: float = _NEAR_SECONDS) -> NDArray[np.bool_]:
    """Which of these times are at most `reach` seconds from a join; both ascend."""
    left = np.searchsorted(joins, times - reach, "left")
    return left < np.searchsorted(joins, times + reach, "right")


def _log_mel(wav: Wav, sampling_rate: int) -> NDArray[np.float32]:
    """(80, F), natural logarithm of magnitudes."""
    resampled = resample(torch.from_numpy(wav), sampling_rate, MEL_RATE)
    spectrum: NDArray[np.float32] = kimi_log_mel(resampled[None])[0].numpy()
    return spectrum
