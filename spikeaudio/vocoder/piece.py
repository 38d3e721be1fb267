"""Pieces of a stream through a network of convolutions, exactly: every operation keeps what its next output needs.

An operation that reads K samples for each output and moves on by s holds back the samples that later outputs still
read. A whole recording is padded at its edges, with zeros or with the edge's sample again. Here these edges are put in
front of each operation once, when a stream begins, and behind it once, when it ends. Paths of different delay meet in
`add`, which waits for the slowest. Offline is the one piece that is first and last, so a stream and a file cannot
differ.

    convolve     y[n]     = sum_i w[i] x[s n - left + d i]
    upsample     y[u n+j] = sum_i w[j + p + u i] x[n - i],      p = (k - u) / 2: u outputs per input

Notation: B batch, C channels, N samples.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spikeaudio.vocoder.streaming import chosen_rows


@dataclass
class Line:
    """What one operation holds back."""

    held: Tensor | None = None  # (B, C, n), None before the first sample
    first: int = 0  # number of held[..., 0] in the operation's input; padding in front has negative ones
    done: int = 0  # outputs of a transposed convolution so far


@dataclass
class LineState:
    """State of B streams through a network of convolutions; owned by the caller, changed in place by each piece.

    As in `VocoderState` the rows share one clock: a row that is reset in the middle starts a stream of its own at frame
    `frames`; its samples before that moment are silence.

    Args:
        lines: lines of the operations, in the order in which a piece meets them; they come about with the first piece.
        starts: frame at which each row's stream began, (B,) int64.
        sizes: sizes of the network that made the state; another one must not use it.
        dtype: type of the frames.
        frames: pushed so far.
        samples: that came out so far.
    """

    lines: list[Line]
    starts: Tensor
    sizes: tuple[object, ...]
    dtype: torch.dtype
    frames: int = 0
    samples: int = 0
    staggered: bool = False  # whether any row began later than frame 0

    @property
    def batch_size(self) -> int:
        """Number of streams."""
        return self.starts.shape[0]

    def reset(self, rows: Sequence[int] | Tensor | None = None) -> None:
        """Forget the given rows' audio; with None or all rows the whole state is as new.

        Args:
            rows: row numbers; samples that these rows had not yet emitted are lost.

        Raises:
            ValueError: for a row that the state does not have.
        """
        chosen = chosen_rows(rows, self.batch_size)
        if len(chosen) == self.batch_size:
            self.lines.clear()
            self.starts.zero_()
            self.frames = self.samples = 0
            self.staggered = False
        elif chosen and self.frames:
            self.starts[chosen] = self.frames
            self.staggered = True

    def clone(self) -> "LineState":
        """An independent copy: both may be continued, neither sees the other."""
        return copy.deepcopy(self)


class Piece:
    """One piece of B streams on its way through the network.

    Args:
        state: state of the streams; every operation takes its line of it in turn.
        last: the streams end with this piece.
    """

    def __init__(self, state: LineState, last: bool) -> None:
        self.state = state
        self.last = last
        self._next = 0
        self._rate = 1  # samples per frame where the piece is now

    def convolve(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        dilation: int = 1,
        stride: int = 1,
        edges: tuple[int, int] | None = None,
        replicate: bool = False,
    ) -> Tensor:
        """Convolution of (B, C, N); one input channel in `weight` means that each channel is convolved alone.

        Args:
            x: the operation's next samples.
            weight: (D, C, k), or (C, 1, k).
            bias: (D,).
            dilation: samples between two taps.
            stride: samples between two outputs.
            edges: padding in front of and behind the whole stream; None: as much as keeps its length.
            replicate: pad with the edge's sample instead of zeros.

        Returns:
            (B, D, n): the outputs that are complete.
        """
        span = dilation * (weight.shape[-1] - 1) + 1
        window = self._window(x, span, stride, edges or (span // 2, span // 2), replicate)
        self._rate //= stride
        if window is None:
            return x.new_zeros(x.shape[0], weight.shape[0], 0)
        groups = window.shape[1] // weight.shape[1]
        return F.conv1d(window, weight, bias, stride, dilation=dilation, groups=groups)

    def upsample(
        self, x: Tensor, weight: Tensor, bias: Tensor | None = None, *, rate: int, replicate: bool = False
    ) -> Tensor:
        """Transposed convolution of (B, C, N) with `rate` outputs per input, cropped alike at both ends.

        Args:
            x: the operation's next samples.
            weight: (C, D, k), k - rate even; or (C, 1, k) for each channel alone.
            bias: (D,).
            rate: u.
            replicate: pad with the edge's sample instead of zeros.

        Returns:
            (B, D, rate * n).
        """
        kernel = weight.shape[-1]
        crop = (kernel - rate) // 2  # y[n] is number n + crop of the uncropped outputs
        alone = weight.shape[1] == 1 and x.shape[1] > 1 and bias is None
        line, edge = self._line(), (kernel - 1 - crop) // rate  # inputs before its own that an output sees
        window = self._extend(line, x, edge, replicate)
        self._rate *= rate
        if window is None or window.shape[-1] == 0:
            return x.new_zeros(x.shape[0], x.shape[1] if alone else weight.shape[1], 0)
        end = rate * (line.first + window.shape[-1]) - crop * (not self.last)  # outputs before it see all their inputs
        if self.last and replicate:
            window = F.pad(window, (0, edge), "replicate")
        y = F.conv_transpose1d(window, weight, bias, rate, groups=x.shape[1] if alone else 1)
        offset = crop - rate * line.first
        y = y[..., line.done + offset : max(line.done, end) + offset]
        line.done += y.shape[-1]
        self._keep(line, window, -((kernel - 1 - crop - line.done) // rate))
        return y

    def add(self, *parts: Tensor) -> Tensor:
        """Sum of paths (B, C, n) whose delays differ: the samples that all of them have."""
        lines = [self._line() for _ in parts]
        waiting = [
            part if line.held is None else torch.cat((line.held, part), -1)
            for line, part in zip(lines, parts, strict=True)
        ]
        ready = min(part.shape[-1] for part in waiting)
        for line, part in zip(lines, waiting, strict=True):
            line.held = part[..., ready:].clone()
        total = waiting[0][..., :ready]
        for part in waiting[1:]:
            total = total + part[..., :ready]
        return total

    def _line(self) -> Line:
        lines = self.state.lines
        if self._next == len(lines):
            lines.append(Line())
        self._next += 1
        return lines[self._next - 1]

    def _window(self, x: Tensor, span: int, stride: int, edges: tuple[int, int], replicate: bool) -> Tensor | None:
        """What a convolution's next outputs read; None if there are none yet. The line keeps what comes after them."""
        line = self._line()
        window = self._extend(line, x, edges[0], replicate)
        if window is None:
            return None
        if self.last:
            window = F.pad(window, (0, edges[1]), "replicate" if replicate else "constant")
        outputs = max(0, (window.shape[-1] - span) // stride + 1)
        self._keep(line, window, line.first + outputs * stride)
        return window if outputs else None

    def _extend(self, line: Line, x: Tensor, edge: int, replicate: bool) -> Tensor | None:
        """The line's samples and the next ones behind them, with padding in front of the very first."""
        if line.held is None:
            if x.shape[-1] == 0:
                return None
            line.held, line.first = F.pad(x, (edge, 0), "replicate" if replicate else "constant"), -edge
        elif x.shape[-1]:
            line.held = torch.cat((line.held, x), -1)
        return self._begin_again(line.held, line.first, replicate) if self.state.staggered else line.held

    @staticmethod
    def _keep(line: Line, window: Tensor, first: int) -> None:
        """Hold back the samples from number `first` on."""
        line.held = window[..., max(0, first - line.first) :].clone()
        line.first = max(line.first, first)

    def _begin_again(self, window: Tensor, first: int, replicate: bool) -> Tensor:
        """Before the begin of a row that was reset stands padding, whatever it was that came there."""
        begin = self.state.starts * self._rate - first  # place in the window
        past = torch.arange(window.shape[-1], device=window.device) < begin[:, None]
        edge = window.new_zeros(())
        if replicate:
            place = begin.clamp(0, window.shape[-1] - 1)[:, None, None]
            edge = window.gather(-1, place.expand(-1, window.shape[1], -1))
        return torch.where(past[:, None], edge, window)
