"""The schedule by which Kimi-Audio's published code speaks, slips included: a peer for measurements, not for use.

`SpeechDecoder` says the same with the same weights and does not do what this class does on purpose:

- noise is drawn anew in each call, so that look-ahead frames get other noise when their turn comes;
- codes are repeated to frames before the network, which then modulates every frame by itself;
- the last chunk leaves no clean keys; without look-ahead none does;
- the context keeps its newest frames only: the voice prompt falls out;
- where positions run out the context is forgotten, or becomes what it was after the prompt; the snapshot of that is
  shared, not copied, so that from the second time on it is polluted;
- the vocoder decodes half a chunk again, fades seams with a window whose halves add up to 1.08, holds back what makes
  emission uneven, and joins the last piece hard.

Source: MoonshotAI/Kimi-Audio, kimia_infer/models/detokenizer, read as a specification. The golden fixtures of
`detok_dit_tiny` hold its outputs; tests/detokenizer/test_kimi_reference.py compares.

Notation: F frames, M mel bands, N samples.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spikeaudio.detokenizer.dit import DiT, KeyValue
from spikeaudio.detokenizer.flow_matching import CLEAN_TAU, euler, euler_grid, naive_euler_grid

SOLVERS = {"neural_ode_euler": euler_grid, "naive_euler": naive_euler_grid}


@dataclass(frozen=True)
class KimiSchedule:
    """Settings of a stream; the defaults are the release's. It is pushed chunks of 30 codes."""

    look_ahead_tokens: int = 12
    ode_points: int = 30  # 29 evaluations
    ode_solver: str = "neural_ode_euler"
    max_kv_frames: int = 900
    max_prompt_chunks: int = 10
    max_positions: int = 4096
    frames_per_code: int = 4
    rope_interpolation_factor: int = 1  # rotary positions are divided by it


@dataclass
class _Context:
    blocks: list[KeyValue] = field(default_factory=list)


class KimiReferenceStream:
    """One stream of the published schedule; unlike ours it keeps its state.

    Args:
        dit: the velocity network.
        vocode: mel (1, M, F) -> wav (1, N), whole utterances.
        hop_length: samples per frame.
        mel_mean: mean of the log-mel.
        mel_std: standard deviation of the log-mel.
        schedule: settings.
    """

    def __init__(
        self,
        dit: DiT,
        vocode: Callable[[Tensor], Tensor],
        hop_length: int,
        mel_mean: float,
        mel_std: float,
        schedule: KimiSchedule,
    ) -> None:
        self.dit = dit
        self.vocode = vocode
        self.hop_length = hop_length
        self.mel_mean = mel_mean
        self.mel_std = mel_std
        self.schedule = schedule
        self.evaluations = 0  # of the network, since the beginning
        self.position = 0  # of the next frame
        self.context = _Context()
        self._snapshot: tuple[int, _Context] | None = None
        self._left = torch.zeros(0, dtype=torch.long)  # look-ahead, a code per frame
        self._tail_mel: Tensor | None = None
        self._tail_wav = torch.zeros(0)

    @property
    def context_frames(self) -> int:
        """Frames that the next chunk sees."""
        return self.context.blocks[0].keys.shape[2] if self.context.blocks else 0

    @torch.no_grad()
    def prefill(self, mel: Tensor, codes: Tensor, chunk_frames: int) -> None:
        """Show a voice prompt.

        Args:
            mel: (F, M) log-mel; padded with zeros or cut to the codes.
            codes: (F,) one per frame.
            chunk_frames: chunk frames of the pieces; what is left over comes first.
        """
        missing = len(codes) - len(mel)
        mel = torch.nn.functional.pad(mel, (0, 0, 0, max(0, missing)))[: len(codes)]
        pieces = min(len(codes) // chunk_frames, self.schedule.max_prompt_chunks)
        first = len(codes) - pieces * chunk_frames
        sizes = [first] * (first > 0) + [chunk_frames] * pieces
        for clean, piece in zip(((mel - self.mel_mean) / self.mel_std).split(sizes), codes.split(sizes), strict=True):
            self._commit(self._evaluate(clean, torch.tensor(CLEAN_TAU), piece)[1])
        self._snapshot = self.position, copy.deepcopy(self.context)

    @torch.no_grad()
    def push(self, codes: Tensor, last: bool = False, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The next codes (S,), in one chunk.

        Args:
            codes: (S,) at 12.5 Hz.
            last: nothing follows; the state is as new afterwards.
            noise: (F, M) instead of drawn noise, for the look-ahead left over and the new codes.

        Returns:
            tuple: log-mel (F, M) of the finished frames, and the samples (N,) that are let go.
        """
        schedule = self.schedule
        ahead = 0 if last else schedule.look_ahead_tokens * schedule.frames_per_code
        frames = torch.cat((self._left, codes.repeat_interleave(schedule.frames_per_code)))
        x = torch.randn(len(frames), self.dit.mel_out.out_features) if noise is None else noise
        memory: list[KeyValue] = []

        def velocity(x: Tensor, tau: Tensor) -> Tensor:
            nonlocal memory
            out, memory = self._evaluate(x, tau, frames)
            return out

        x = euler(velocity, x, *SOLVERS[schedule.ode_solver](schedule.ode_points))
        if schedule.look_ahead_tokens and not last:
            x, self._left = x[: len(x) - ahead], frames[len(frames) - ahead :]
            memory = self._evaluate(x, torch.tensor(CLEAN_TAU), frames[: len(x)])[1]
        self._commit(memory)
        mel = x * self.mel_std + self.mel_mean
        wav = self._sound(mel, last)
        if last:
            self._forget()
        elif self.position + 2 * len(mel) > schedule.max_positions:
            self.position, self.context = self._snapshot or (0, _Context())
        return mel, wav

    def _evaluate(self, x: Tensor, tau: Tensor, codes: Tensor) -> tuple[Tensor, list[KeyValue]]:
        """Velocity (F, M) over the context, and the frames' own keys and values."""
        self.evaluations += 1
        positions = (self.position + torch.arange(len(x))) * (1 / self.schedule.rope_interpolation_factor)
        velocity, memory = self.dit(x[None], codes[None], tau, positions, self.context.blocks or None)
        return velocity[0], memory

    def _commit(self, memory: list[KeyValue]) -> None:
        """Append to the context, in place, and forget the oldest frames."""
        old = self.context.blocks or [KeyValue(new.keys[:, :, :0], new.values[:, :, :0]) for new in memory]
        self.context.blocks = [
            KeyValue(
                *(torch.cat(pair, 2)[:, :, -self.schedule.max_kv_frames :] for pair in zip(past, new, strict=True))
            )
            for past, new in zip(old, memory, strict=True)
        ]
        self.position += memory[0].keys.shape[2]

    def _sound(self, mel: Tensor, last: bool) -> Tensor:
        """Decode held and new mel; let go what the next piece will not fade into."""
        first = self._tail_mel is None
        joined = mel if self._tail_mel is None else torch.cat((self._tail_mel, mel))
        wav = self.vocode(joined.T[None])[0]
        if last:
            return wav
        if first:
            count = len(mel) * self.hop_length // 2
            held = -(-len(mel) // 2)
        else:
            count = 2 * len(self._tail_wav) if len(wav) > 2 * len(self._tail_wav) else len(wav) // 2
            held = min(len(mel), (len(wav) - count) // self.hop_length)
            window, half = torch.hamming_window(count), count // 2
            faded = self._tail_wav[:half] * window[count - half :] + wav[:half] * window[:half]
            wav = torch.cat((faded, wav[half:]))
        self._tail_mel, self._tail_wav = mel[len(mel) - held :], wav[count:]
        return wav[:count]

    def _forget(self) -> None:
        """As new; the evaluations are counted on."""
        self.position, self.context, self._snapshot = 0, _Context(), None
        self._left, self._tail_mel, self._tail_wav = self._left[:0], None, self._tail_wav[:0]
