"""Cut a long recording where it is quiet, so that every piece is short enough to be transcribed at once.

The cut falls in the middle of the quietest 0.2 s between a fifth and all of the longest allowed piece, the first
of them if several are as quiet: words stay whole, sentences apart, and speech without any pause is still cut somewhere.
"""

import torch
from torch import Tensor

_FRAME_SECONDS = 0.02
_PAUSE_FRAMES = 10  # 0.2 s


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
