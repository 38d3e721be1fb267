"""How speech that came in pieces would have been heard (`eval.dialogue.playback`); nothing of speech that came
whole."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from eval.dialogue.playback import Playback, Seams, flux_at_joins, joins, play, seams
from eval.metrics.case import Case
from eval.metrics.count import Count


def stalls(case: Case) -> Count | None:
    """How often a player would have waited for the next piece."""
    played = _played(case)
    return None if played is None else Count(float(played.stalls), 1.0)


def stalled_seconds(case: Case) -> Count | None:
    """How long a player would have waited in all, after it had begun."""
    played = _played(case)
    return None if played is None else Count(played.stalled_seconds, 1.0)


def longest_gap(case: Case) -> Count | None:
    """The longest time from one piece to the next; None: there is but one."""
    played = _played(case)
    return None if played is None or not _joins(case) else Count(played.longest_gap_seconds, 1.0)


def seam_distance(case: Case) -> Count | None:
    """Log-mel distance of streamed and offline speech near joins, in dB."""
    found = _seams(case)
    return None if found is None else Count(found.distance, 1.0)


def seam_distance_elsewhere(case: Case) -> Count | None:
    """Log-mel distance of streamed and offline speech away from joins, in dB."""
    found = _seams(case)
    return None if found is None else Count(found.distance_elsewhere, 1.0)


def seam_peak(case: Case) -> Count | None:
    """Largest difference of streamed and offline samples near joins."""
    found = _seams(case)
    return None if found is None else Count(found.peak, 1.0)


def seam_peak_elsewhere(case: Case) -> Count | None:
    """Largest difference of streamed and offline samples away from joins."""
    found = _seams(case)
    return None if found is None else Count(found.peak_elsewhere, 1.0)


def join_flux(case: Case) -> Count | None:
    """Spectral flux over joins, in dB over the mean elsewhere; every join counts once."""
    if case.speech is None or not _joins(case):
        return None
    wav, rate = _read(case.speech)
    found = flux_at_joins(wav, _joins(case), rate)
    return Count(float(sum(found)), float(len(found))) if found else None


def _joins(case: Case) -> list[int]:
    return [] if case.failure is not None or case.prediction is None else joins(case.prediction.pieces)


def _played(case: Case) -> Playback | None:
    if case.failure is not None or case.prediction is None or case.speech is None or not case.prediction.pieces:
        return None
    return play(case.prediction.pieces, soundfile.info(case.speech).samplerate)


def _seams(case: Case) -> Seams | None:
    if case.speech is None or case.offline is None or not _joins(case):
        return None
    return _compared(case.speech, case.offline, tuple(_joins(case)))


@lru_cache(maxsize=512)  # four figures of every sample are made of one comparison
def _compared(streamed: Path, offline: Path, at: tuple[int, ...]) -> Seams:
    (x, rate), (y, _) = _read(streamed), _read(offline)
    return seams(x, y, at, rate)


def _read(path: Path) -> tuple[NDArray[np.float32], int]:
    wav, rate = soundfile.read(path, dtype="float32")
    return wav, rate
