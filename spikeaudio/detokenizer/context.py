"""Where the frames of a stream's context stand for the network: positions of its cached keys.

Attention sees differences of positions only, so keys may be turned together, on and on, without a trace; see `dit`.
"""

import torch
from torch import Tensor, nn

from spikeaudio.detokenizer.dit import DiT, KeyValue
from spikeaudio.detokenizer.state import DetokenizerState


def rebase(dit: DiT, state: DetokenizerState, rows: Tensor, num_frames: int, max_positions: int) -> None:
    """Turn the cached keys of those rows back for which the positions of `num_frames` new frames would run out."""
    late = rows[state.positions[rows] + num_frames > max_positions]
    if len(late):
        back = state.positions[late] - state.cached_frames[late]
        turned = torch.where(state.is_prompt(late), 0, back[:, None])  # a prompt keeps the positions from 0 on
        state.keys[:, late] = dit.rotation(-turned).turn(state.keys[:, late])
        state.positions[late] -= back


def turned_context(dit: DiT, state: DetokenizerState, rows: Tensor) -> tuple[list[KeyValue], Tensor | None]:
    """`state.context`, voice prompts turned to stand directly before the oldest other frame.

    Frames that fell out leave a gap behind the prompt, which would grow beyond every distance seen in training. The
    turn is made for one chunk and not kept: keys turned again and again would wear out by rounding.
    """
    cache, real = state.context(rows)
    gap = torch.where(state.prompt_frames[rows] > 0, state.positions[rows] - state.cached_frames[rows], 0)
    if gap.any():
        places = cache[0].keys.shape[2]
        turn = dit.rotation(torch.where(state.is_prompt(rows)[:, -places:], gap[:, None], 0))
        cache = [KeyValue(turn.turn(block.keys), block.values) for block in cache]
    return cache, real


def with_own(real: Tensor | None, num_frames: int) -> Tensor | None:
    """Mask (R, 1, 1, K) of the context, extended by the chunk's own frames, which all see each other."""
    return None if real is None else nn.functional.pad(real, (0, num_frames), value=True)


def check_prompt(
    codes: Tensor, mel: Tensor, state: DetokenizerState, rows: Tensor, shape: tuple[int, int], max_frames: int
) -> None:
    """Raise ValueError unless codes (R, S) and mel (R, M, F) of `shape` (M, F) can be the prompt of these new rows."""
    if codes.shape[1] == 0:
        raise ValueError("the voice prompt is empty: expected at least one code")
    if shape[1] > max_frames:
        raise ValueError(f"the voice prompt has {shape[1]} frames, but the context has room for at most {max_frames}")
    expected = (len(rows), *shape)
    if codes.shape[0] != len(rows) or mel.shape != expected or not mel.is_floating_point():
        raise ValueError(
            f"a voice prompt of {codes.shape[1]} codes for {len(rows)} rows needs floating mel of shape {expected}, "
            f"got {mel.dtype} {tuple(mel.shape)} and codes {tuple(codes.shape)}"
        )
    if not torch.isfinite(mel).all():
        raise ValueError("the voice prompt's mel holds NaN or infinite values")
    if begun := [int(row) for row in rows if state.positions[row] or len(state.pending[row]) or state.ended[row]]:
        raise ValueError(f"rows {begun} of the stream have begun already: a voice prompt comes before the first code")
