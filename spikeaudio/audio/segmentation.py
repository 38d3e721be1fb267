"""Cut a recording into pieces that a model takes at once, without the quiet around and between them.

A long piece is cut in the middle of the quietest 0.2 s between a fifth and all of the longest allowed piece, the first
of them if several are as quiet. Words stay whole, and speech without any pause is still cut somewhere.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spikeaudio.audio.quiet import Span, sounding_span, sounding_spans

_FRAME_SECONDS = 0.02
_PAUSE_FRAMES = 10  # 0.2 s
_MARGIN_SECONDS = 0.05  # of quiet kept on either side of what sounds: a word may begin more softly than a noise
_SHORTEST_QUIET_END = 0.3  # seconds; models are trained on up to 0.25 s around a clip


@dataclass(frozen=True)
class Piece:
    """A part of a recording.

    Attributes:
        wav: (n,) samples, with a margin of quiet on either side where there is some.
        first: index of the first one in the recording.
        span: samples of the recording that sound.
    """

    wav: Tensor
    first: int
    span: Span

    @property
    def last(self) -> int:
        """Index behind the last sample in the recording."""
        return self.first + self.wav.numel()


def pieces(wav: Tensor, sampling_rate: int, max_seconds: float, longest_pause: float | None) -> list[Piece]:
    """What sounds in a recording, cut at its pauses.

    >>> import torch
    >>> tone = torch.sin(torch.arange(16000) * 0.1)
    >>> found = pieces(torch.cat([torch.zeros(32000), tone, torch.zeros(32000), tone]), 16000, 5.0, 0.3)
    >>> [round(piece.span.first / 16000) for piece in found]
    [2, 5]

    Args:
        wav: (N,) float32, N >= 1.
        sampling_rate: Hz.
        max_seconds: longest piece, at least 1 s.
        longest_pause: seconds; longer quiet parts separate pieces and are left out. None: the pieces joined are `wav`.

    Returns:
        Pieces in their order; none if nothing sounds.
    """
    if longest_pause is None:
        found, first = [], 0
        for part in split_at_pauses(wav, sampling_rate, max_seconds):
            found.append(Piece(part, first, Span(first, first + part.numel())))
            first += part.numel()
        return found
    found = []
    margin = round(_MARGIN_SECONDS * sampling_rate)
    for span in sounding_spans(wav, sampling_rate, longest_pause, _SHORTEST_QUIET_END):
        begin, end = max(0, span.first - margin), min(span.last + margin, wav.numel())
        for part in split_at_pauses(wav[begin:end], sampling_rate, max_seconds):
            sounding = Span(max(begin, span.first), min(begin + part.numel(), span.last))
            found.append(Piece(part, begin, sounding))
            begin += part.numel()
    return found


def joined(wav: Tensor, parts: Sequence[Piece], sampling_rate: int) -> Tensor:
    """Neighbouring pieces of `wav` as one, with 0.1 s at most of each pause between them."""
    joint = round(_MARGIN_SECONDS * sampling_rate)
    spans = [part.span for part in parts]
    kept, begin = [], parts[0].first
    for here, after in itertools.pairwise(spans):
        if after.first - here.last > 2 * joint:
            kept.append(wav[begin : here.last + joint])
            begin = after.first - joint
    return torch.cat([*kept, wav[begin : parts[-1].last]])


def without_quiet(wav: Tensor, sampling_rate: int, longest_pause: float, inside: bool) -> Tensor:
    """A recording without the quiet before and after what sounds.

    Args:
        wav: (N,) float32, N >= 1.
        sampling_rate: Hz.
        longest_pause: seconds; a longer quiet part is shortened to 0.1 s.
        inside: shorten pauses inside, too. They belong to the content of music and of most sounds.

    Returns:
        (n,) samples; none if nothing sounds.
    """
    if inside:
        parts = pieces(wav, sampling_rate, max(1.0, wav.numel() / sampling_rate), longest_pause)
        return joined(wav, parts, sampling_rate) if parts else wav[:0]
    span = sounding_span(wav, sampling_rate)
    if span is None:
        return wav[:0]
    margin = round(_MARGIN_SECONDS * sampling_rate)
    return wav[max(0, span.first - margin) : span.last + margin]


def split_at_pauses(wav: Tensor, sampling_rate: int, max_seconds: float) -> list[Tensor]:
    """Pieces of `wav`, each at most `max_seconds` long, which joined are `wav`.

    Args:
        wav: (N,) float, N >= 1.
        sampling_rate: Hz.
        max_seconds: longest piece, at least 1 s.

    Raises:
        ValueError: `max_seconds` is below 1 s.
    """
    if max_seconds < 1:
        raise ValueError(f"max_seconds must be at least 1, got {max_seconds}")
    frame = round(_FRAME_SECONDS * sampling_rate)
    longest = int(max_seconds / _FRAME_SECONDS)  # frames
    if wav.numel() <= longest * frame:
        return [wav]
    frames = wav[: wav.numel() // frame * frame].view(-1, frame)
    energy = torch.linalg.vector_norm(frames, dim=1).square()  # (F,); no second copy of an hour of samples
    loudness = energy.unfold(0, _PAUSE_FRAMES, 1).mean(dim=1)  # (F - 9,), of the 0.2 s that begin at each frame
    cuts = [0]
    while wav.numel() - cuts[-1] > longest * frame:
        start = cuts[-1] // frame
        window = loudness[start + longest // 5 : start + longest - _PAUSE_FRAMES + 1]
        quietest = start + longest // 5 + int(torch.argmin(window))
        cuts.append((quietest + _PAUSE_FRAMES // 2) * frame)
    return [wav[first:last] for first, last in zip(cuts, [*cuts[1:], wav.numel()], strict=True)]


def loudest(wav: Tensor, sampling_rate: int, seconds: float) -> Span:
    """The part of a recording in which the most is said.

    Its frames of 20 ms have the greatest sum of amplitudes. None counts as more than the loud frames do, which only
    0.2 s of the recording exceed, so that no bang is taken for speech.

    >>> import torch
    >>> tone = torch.sin(torch.arange(16000) * 0.1)
    >>> loudest(torch.cat([torch.zeros(16000), tone, torch.zeros(16000)]), 16000, 1.0)
    Span(first=16000, last=32000)

    Args:
        wav: (N,) float32, N >= 1.
        sampling_rate: Hz.
        seconds: duration of the part, at most that of the recording.
    """
    frame = round(_FRAME_SECONDS * sampling_rate)
    count, length = wav.numel() // frame, round(seconds * sampling_rate)
    amplitude = wav[: count * frame].view(-1, frame).square().mean(dim=1).sqrt()
    loud = amplitude.topk(min(_PAUSE_FRAMES, count)).values[-1]
    said = torch.minimum(amplitude, loud)
    window = said.unfold(0, min(count, round(seconds / _FRAME_SECONDS)), 1).sum(dim=1)
    first = min(int(window.argmax()) * frame, wav.numel() - length)
    return Span(first, first + length)
