"""Where a recording is quiet: nothing is said or played there, though a steady noise may be heard.

Frames of 40 ms, every 20 ms, have an energy in 13 bands from 100 Hz up, averaged over 0.1 s. A frame is quiet if

- its level is more than 40 dB below the loud frames: that is silence for whoever hears the recording. Or
- its level is more than 15 dB below them, and its spectrum stays what it is for half a second (3 dB on average over
  the bands, 6 dB in its level). That is a steady noise: speech changes its spectrum several times a second.

The level is that of 100 to 2800 Hz, where speech has its energy and white noise has not. The loud frames are those
that only 0.2 s of the recording exceed: one bang does not make the rest of a recording quiet. Where nothing is louder
than a steady noise (a noise, a hum, one long note), nothing is quiet.

librosa.effects.split asks for the level alone. At 15 dB it drops soft speech, at 40 dB it keeps steady noise.
"""

import itertools
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, pad

_FRAME_SECONDS = 0.02
_BAND_EDGES_HZ = (100, 200, 300, 400, 500, 700, 900, 1200, 1600, 2100, 2800, 3800, 5200, 7200)
_LEVEL_BANDS = 10  # up to 2800 Hz
_SILENCE_DB = 40.0  # below the loud frames
_NOISE_DB = 15.0  # below the loud frames, at most so much is a steady noise
_STEADY_DB = 3.0  # mean distance of the bands from their own mean over _STEADY_FRAMES
_STEADY_LEVEL_DB = 6.0  # the same of the level: a tone that decays changes in few bands
_STEADY_FRAMES = 25  # 0.5 s
_SMOOTH_FRAMES = 5  # 0.1 s
_LOUD_FRAMES = 10  # 0.2 s
_OUTERMOST_FRAMES = 10  # 0.2 s
_LEAD_FRAMES = 15  # 0.3 s
_TAIL_FRAMES = 25  # 0.5 s
_FLOOR = 1e-9  # -90 dB of full scale in a band: what is below sounds like digital silence
_INAUDIBLE = 3e-5  # peak below which a recording is digital silence: one step of 16 bits
_BLOCK_FRAMES = 3000  # a minute: the spectra of an hour never stand in memory


class Span(NamedTuple):
    """Samples `first` to `last` of a recording, without `last`."""

    first: int
    last: int


def sounding_spans(wav: Tensor, sampling_rate: int, shortest_quiet: float, shortest_quiet_end: float) -> list[Span]:
    """The parts of a recording that are not quiet, in order.

    >>> import torch
    >>> tone = torch.sin(torch.arange(16000) * 0.1)
    >>> sounding_spans(torch.cat([torch.zeros(16000), tone, torch.zeros(16000)]), 16000, 0.5, 0.5)
    [Span(first=15040, last=32960)]

    Args:
        wav: (N,) float32, N >= 1.
        sampling_rate: Hz, at least 8000.
        shortest_quiet: seconds; a shorter quiet inside belongs to the sound around it.
        shortest_quiet_end: seconds; a shorter quiet at the start or the end belongs to the sound.

    Returns:
        Spans with quiet between them; the whole recording if it is as loud everywhere; none if it is digital silence.
    """
    if wav.abs().max() < _INAUDIBLE:
        return []
    quiet = _quiet_frames(wav, sampling_rate)
    frame = round(_FRAME_SECONDS * sampling_rate)
    count = len(quiet)
    spans, begin = [], 0
    for first, last in _runs(quiet):
        at_end = first == 0 or last == count
        if (last - first) * _FRAME_SECONDS < (shortest_quiet_end if at_end else shortest_quiet):
            continue
        if first > begin:
            spans.append((begin, first))
        begin = last
    if begin < count:
        spans.append((begin, count))
    # A frame is two hops long: a span ends with its last frame.
    return [
        Span(first * frame, wav.numel() if last == count else min((last + 1) * frame, wav.numel()))
        for first, last in spans
    ]


def sounding_span(wav: Tensor, sampling_rate: int) -> Span | None:
    """A recording without the quiet before its first sound and after its last one; None if nothing sounds.

    Quiet at an end is what goes on as it is outermost, for 0.3 s before the first sound and 0.5 s after the last one.
    So the decay of a note remains, soft and slow as it may be.

    Args:
        wav: (N,) float32, N >= 1.
        sampling_rate: Hz, at least 8000.
    """
    if wav.abs().max() < _INAUDIBLE:
        return None
    spectrum, soft, _ = _frames(wav, sampling_rate)
    first, last = 0, len(spectrum)
    while run := _outermost(spectrum[first:], soft[first:], _LEAD_FRAMES):
        first += run
    while run := _outermost(spectrum[first:last].flip(0), soft[first:last].flip(0), _TAIL_FRAMES):
        last -= run
    frame = round(_FRAME_SECONDS * sampling_rate)
    return Span(first * frame, wav.numel() if last == len(spectrum) else min((last + 1) * frame, wav.numel()))


def _outermost(spectrum: Tensor, soft: Tensor, shortest: int) -> int:
    """Number of frames at the start that sound as the first ones; 0 if these are fewer than `shortest`."""
    if len(spectrum) <= shortest:
        return 0
    run = _length(soft & _alike(spectrum, spectrum[:_OUTERMOST_FRAMES].mean(dim=0)))
    return run if run >= shortest else 0


def _quiet_frames(wav: Tensor, sampling_rate: int) -> Tensor:
    """(F,) bool: frames in which nothing is said or played."""
    spectrum, soft, silent = _frames(wav, sampling_rate)
    steady = soft & _alike(spectrum, _smoothed(spectrum, _STEADY_FRAMES))
    # Half a second reaches into the speech beside a noise: each run grows by the frames that sound as it does.
    for first, last in _runs(steady):
        sound = spectrum[first:last].mean(dim=0)
        before, after = (
            soft[part] & _alike(spectrum[part], sound)
            for part in (slice(max(0, first - _STEADY_FRAMES), first), slice(last, last + _STEADY_FRAMES))
        )
        steady[first - _length(before.flip(0)) : last + _length(after)] = True
    return silent | steady


def _alike(spectrum: Tensor, other: Tensor) -> Tensor:
    """(F,) bool: frames that sound like `other`, (F, 14) or (14,), in their bands and in their level."""
    distance = (spectrum - other).abs()
    return (distance[:, :-1].mean(dim=1) < _STEADY_DB) & (distance[:, -1] < _STEADY_LEVEL_DB)


def _frames(wav: Tensor, sampling_rate: int) -> tuple[Tensor, Tensor, Tensor]:
    """Bands and, last, their level in dB (F, 14); frames so soft that they may be noise (F,); silent ones (F,)."""
    bands = _smoothed(_band_energies(wav, sampling_rate), _SMOOTH_FRAMES)
    level = bands[:, :_LEVEL_BANDS].sum(dim=1).clamp(min=_FLOOR).log10() * 10
    loud = level.topk(min(_LOUD_FRAMES, len(level))).values[-1]
    spectrum = torch.cat([bands.clamp(min=_FLOOR).log10() * 10, level[:, None]], dim=1)
    return spectrum, level < loud - _NOISE_DB, level < loud - _SILENCE_DB


def _length(frames: Tensor) -> int:
    """Number of true frames at the start."""
    return int(frames.long().cumprod(dim=0).sum())


def _runs(frames: Tensor) -> list[tuple[int, int]]:
    """First and last + 1 of each run of true frames."""
    edges = pad(frames.int(), (1, 1)).diff()
    return list(zip(edges.eq(1).nonzero()[:, 0].tolist(), edges.eq(-1).nonzero()[:, 0].tolist(), strict=True))


def _band_energies(wav: Tensor, sampling_rate: int) -> Tensor:
    """(F, 13) float32: mean square of each band, F frames of 40 ms every 20 ms."""
    hop = round(_FRAME_SECONDS * sampling_rate)
    wav = pad(wav, (0, max(0, 2 * hop - wav.numel())))
    window = torch.hann_window(2 * hop)
    edges = [round(edge * 2 * hop / sampling_rate) for edge in _BAND_EDGES_HZ]
    rows = []
    for block in torch.split(wav.unfold(0, 2 * hop, hop), _BLOCK_FRAMES):
        power = torch.fft.rfft(block * window).abs().square()
        rows.append(torch.stack([power[:, low:high].sum(dim=1) for low, high in itertools.pairwise(edges)], 1))
    return torch.cat(rows) * (2 / (window.square().sum() * 2 * hop))


def _smoothed(rows: Tensor, frames: int) -> Tensor:
    """Running mean over an odd number of frames, (F, K) -> (F, K); the first and last row go on at the ends."""
    columns = pad(rows.T[None], (frames // 2, frames // 2), mode="replicate")
    return avg_pool1d(columns, frames, stride=1)[0].T
