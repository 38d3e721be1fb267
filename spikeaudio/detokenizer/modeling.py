"""FlowMatchingDetokenizer: codes at 12.5 Hz -> log-mel at 50 Hz, chunk by chunk.

A chunk of codes starts as noise, together with the codes that follow it (look-ahead). The flow carries it to a mel.
The frames of the chunk are kept. Those of the look-ahead are made again with the next chunk, from the same noise.
Kept frames are shown to the network once more as clean data (tau = 999). Their keys and values are the context of the
chunks to come. Chunks begin at multiples of `chunk_tokens` since the start of the stream, and the noise is addressed
by frame. So the mel depends on the codes and the seed, not on how the codes were pushed. Offline decoding is streaming
run once.

Training does the same in one pass (`noisy_chunks`). For guidance, the codes of a noisy chunk are sometimes replaced by
the null code. The context always keeps its codes, so that both velocities of a guided step share one cache.

Source: MoonshotAI/Kimi-Audio (kimia_infer/models/detokenizer). Ours differs in five things. Noise is drawn per frame,
not per call. Long streams do not reset the context; keys are turned back instead. There is guidance. There is a commit
pass even without look-ahead. A voice prompt (`prefill`) stays in the context for good, directly before its oldest
other frame.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils.generic import ModelOutput

from spikeaudio.detokenizer.configuration import DetokenizerConfig
from spikeaudio.detokenizer.context import check_prompt, rebase, turned_context, with_own
from spikeaudio.detokenizer.dit import DiT, KeyValue
from spikeaudio.detokenizer.flow_matching import (
    CLEAN_TAU,
    Velocity,
    classifier_free_guidance,
    euler,
    euler_grid,
    flow_matching_loss,
    random_chunks,
)
from spikeaudio.detokenizer.noise import frame_noise
from spikeaudio.detokenizer.noisy_chunks import Draws, NoisyChunks
from spikeaudio.detokenizer.state import DetokenizerState

SILENCE = math.log(1e-5)
"""Floor of the log-mel; fills a batch's mel after the end of its shorter rows."""

NO_CODE = -1
"""Stands in a batch of codes where a row has none."""


@dataclass
class DetokenizerOutput(ModelOutput):
    """Result of a training pass.

    Args:
        loss: flow-matching loss, a scalar.
    """

    loss: Tensor | None = None


class FlowMatchingDetokenizer(PreTrainedModel):
    """Codes to mel by flow matching.

    Args:
        config: sizes and streaming settings.

    Example:
        >>> import torch
        >>> from spikeaudio import FlowMatchingDetokenizer
        >>> detokenizer = FlowMatchingDetokenizer.from_pretrained("checkpoints/spikeaudio-tiny/detokenizer")
        >>> codes = torch.tensor([[17, 803, 44]])  # 0.24 s
        >>> mel = detokenizer.decode(codes, seed=0)
        >>> mel.shape  # 80 mel bins, 50 frames a second
        torch.Size([1, 80, 12])
        >>> state = detokenizer.init_state(seed=0)  # the same, code by code
        >>> pieces = [detokenizer.step(codes[:, :2], state), detokenizer.step(codes[:, 2:], state, last=True)]
        >>> torch.allclose(torch.cat(pieces, dim=2), mel, atol=1e-4)
        True
    """

    config_class = DetokenizerConfig
    config: DetokenizerConfig
    main_input_name = "codes"
    base_model_prefix = ""
    _no_split_modules = ["DiTBlock"]  # noqa: RUF012  transformers declares it

    def __init__(self, config: DetokenizerConfig) -> None:
        super().__init__(config)
        self.dit = DiT(
            config.num_codes,
            config.num_mels,
            config.hidden_size,
            config.depth,
            config.num_heads,
            config.mlp_ratio,
            config.rope_base,
        )
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Published start: the blocks are the identity and the velocity is zero."""
        dit, spread = self.dit, self.config.initializer_range
        zero = (dit.final_modulation, dit.mel_out, *(block.modulation for block in dit.blocks))
        if isinstance(module, nn.Linear):
            init.zeros_(module.bias)
            # by identity: transformers hands modules without parameters of their own (the blocks) to no one
            if any(module is linear for linear in zero):
                init.zeros_(module.weight)
            elif any(module is linear for linear in dit.time_embedding):
                init.normal_(module.weight, std=spread)
            else:
                init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=spread)

    def forward(
        self,
        codes: Tensor,
        mel: Tensor,
        mask: Tensor | None = None,
        chunk_tokens: Sequence[int] | None = None,
        generator: torch.Generator | None = None,
    ) -> DetokenizerOutput:
        """Flow-matching loss of a batch of clips.

        In training mode the clips are cut into random chunks (half of the batches: one chunk), codes are corrupted
        and dropped as the configuration says; in eval mode the chunks are the streaming ones and nothing is dropped.

        Args:
            codes: (B, S) int64; any value where `mask` is False.
            mel: (B, M, F), log-mel, F = S * frames_per_code.
            mask: (B, S) bool, True at real codes, which come first in each row; None: all are real.
            chunk_tokens: lengths of the chunks, summing to S, instead of the above.
            generator: source of noise, times and chunks; None is torch's global one.

        Returns:
            DetokenizerOutput: with the loss, averaged over real frames.

        Raises:
            ValueError: for shapes that do not fit, codes out of range, chunks that do not sum to S.
        """
        config = self.config
        codes = self._check_codes(codes, mask)
        batch, num_codes = codes.shape
        expected = (batch, config.num_mels, num_codes * config.frames_per_code)
        if mel.shape != expected:
            raise ValueError(
                f"mel must have shape {expected} for codes of shape {tuple(codes.shape)}, got {tuple(mel.shape)}"
            )
        lengths = self._chunk_lengths(num_codes, generator) if chunk_tokens is None else chunk_tokens
        chunks = NoisyChunks.draw(
            self._normalized(mel.to(self.device)).unflatten(1, (num_codes, -1)),
            codes,
            lengths,
            config.num_codes,
            Draws(generator, codes.device),
            config.code_corruption if self.training else None,
            config.condition_dropout if self.training else None,
        )
        visible = chunks.visible(mask)
        clean = chunks.clean

        def velocity(x_t: Tensor, _: Tensor) -> Tensor:
            x = torch.cat((chunks.x1[:, :clean], x_t), 1).flatten(1, 2).to(self.dtype)
            out, _memory = self.dit(x, chunks.all_codes, chunks.all_tau, chunks.all_positions, mask=visible)
            return out[:, clean * config.frames_per_code :].to(x_t.dtype).view_as(x_t)

        weight = None if mask is None else mask[:, :, None, None].to(codes.device)
        tau = chunks.tau[:, :, None, None]
        return DetokenizerOutput(loss=flow_matching_loss(velocity, chunks.x0, chunks.x1, tau, weight, config.sigma_min))

    def _normalized(self, mel: Tensor) -> Tensor:
        """Log-mel (B, M, F) as the flow's data, (B, F, M)."""
        return (mel.transpose(1, 2) - self.config.mel_mean) / self.config.mel_std

    def _chunk_lengths(self, num_codes: int, generator: torch.Generator | None) -> list[int]:
        config = self.config
        if self.training:
            shortest, longest = config.min_train_chunk_tokens, config.max_train_chunk_tokens
            return random_chunks(num_codes, shortest, longest, generator)
        whole, rest = divmod(num_codes, config.chunk_tokens)
        return [config.chunk_tokens] * whole + [rest] * (rest > 0)

    def init_state(self, batch_size: int = 1, seed: int | Sequence[int] = 0) -> DetokenizerState:
        """State of `batch_size` streams in which nothing was said yet.

        Args:
            batch_size: B.
            seed: seed of the noise, one for all rows (equal codes then give equal mels) or one per row.

        Raises:
            ValueError: if the number of seeds is not the number of rows.
        """
        config = self.config
        seeds = [seed] * batch_size if isinstance(seed, int) else list(seed)
        if batch_size < 1 or len(seeds) != batch_size:
            raise ValueError(
                f"need batch_size >= 1 and one seed or one per row, got batch_size {batch_size} and {len(seeds)} seeds"
            )
        shape = (config.depth, batch_size, config.num_heads, config.max_kv_frames, self.dit.head_size)
        return DetokenizerState.empty(shape, torch.tensor(seeds), self.device, self.dtype)

    @property
    def max_prompt_frames(self) -> int:
        """Longest voice prompt: one chunk of the context is left for what was said last."""
        return self.config.max_kv_frames - self.config.chunk_tokens * self.config.frames_per_code

    @torch.no_grad()
    def prefill(self, codes: Tensor, mel: Tensor, state: DetokenizerState, rows: Sequence[int] | None = None) -> None:
        """Show a voice to streams in which nothing was said yet: a recording's codes and mel, as clean context.

        Args:
            codes: (R, S) int64, S >= 1.
            mel: (R, M, F) log-mel of the same recordings, F = S * frames_per_code, at most `max_prompt_frames`.
            state: updated in place; the prompt stays in it until `reset`. A state cloned now is a voice to begin with.
            rows: R rows of the state; None: all.

        Raises:
            ValueError: codes or mel of a wrong shape, dtype or range, NaN or infinity in the mel, no codes, a prompt
                that is too long, or a row that has begun already.
        """
        config = self.config
        chosen = torch.tensor(range(state.batch_size) if rows is None else list(rows), device=self.device)
        codes = self._check_codes(codes, None)
        shape = (config.num_mels, codes.shape[1] * config.frames_per_code)
        check_prompt(codes, mel, state, chosen, shape, self.max_prompt_frames)
        x = self._normalized(mel).to(self.device, self.dtype)
        size = config.chunk_tokens
        for piece, clean in zip(codes.split(size, 1), x.split(size * config.frames_per_code, 1), strict=True):
            positions = state.positions[chosen][:, None] + torch.arange(clean.shape[1], device=self.device)
            cache, real = state.context(chosen)
            state.commit(chosen, self._show(clean, piece, positions, cache, with_own(real, clean.shape[1])))
        state.prompt_frames[chosen] = x.shape[1]

    @torch.no_grad()
    def step(self, codes: Tensor, state: DetokenizerState, last: bool | Tensor = False) -> Tensor:
        """Push codes, get the mel frames they complete.

        Args:
            codes: (B, S) int64, S >= 0; -1 is no code (rows that have nothing to say, or fewer codes).
            state: updated in place.
            last: no codes follow, for all rows or per row (B,) bool; what is pending is decoded.

        Returns:
            Tensor: (B, M, F) fp32 log-mel, F >= 0. Row b owns the first ``state.emitted_frames[b]`` frames; rows
            pushed alike own all of them, what is left is silence.

        Raises:
            ValueError: for codes out of range or of a wrong shape, or codes for a row that has ended.
        """
        config = self.config
        codes = self._check_codes(codes, _spoken(codes))
        if codes.shape[0] != state.batch_size:
            raise ValueError(f"codes must have one row per row of the state, {state.batch_size}, got {codes.shape[0]}")
        ends = torch.as_tensor(last).expand(state.batch_size).tolist()
        pushed = [row[row < config.num_codes] for row in codes]  # the check wrote the null code over -1
        if late := [row for row, new in enumerate(pushed) if state.ended[row] and len(new)]:
            raise ValueError(
                f"rows {late} of the stream have ended (last=True) and got more codes; "
                f"state.reset({late}) starts them again"
            )
        state.pending = [torch.cat(pair) for pair in zip(state.pending, pushed, strict=True)]
        made: list[list[Tensor]] = [[] for _ in ends]
        while ready := self._ready(state, ends):
            for (num_tokens, final), rows in ready.items():
                taken = torch.stack([state.pending[row][:num_tokens] for row in rows])
                mel = self._decode_chunk(taken, state, torch.tensor(rows, device=self.device), final)
                for row, frames in zip(rows, mel, strict=True):
                    made[row].append(frames)
                    state.pending[row] = state.pending[row][num_tokens if final else config.chunk_tokens :]
        state.ended |= torch.tensor(ends, device=self.device)
        empty = torch.zeros(0, config.num_mels, device=self.device)
        rows_made = [torch.cat((empty, *frames)) for frames in made]
        state.emitted_frames.copy_(torch.tensor([len(frames) for frames in rows_made]))
        return nn.utils.rnn.pad_sequence(rows_made, batch_first=True, padding_value=SILENCE).transpose(1, 2)

    def decode(self, codes: Tensor, seed: int | Sequence[int] = 0) -> Tensor:
        """Mel of whole sequences: one `step` with everything.

        Args:
            codes: (B, S) int64, S >= 1; -1 after the end of shorter rows.
            seed: as for `init_state`.

        Returns:
            Tensor: (B, M, F) fp32 log-mel, F = S * frames_per_code, silence after the end of shorter rows.

        Raises:
            ValueError: for no codes, codes out of range or of a wrong shape.
        """
        spoken = _spoken(codes)
        self._check_codes(codes, spoken)
        if spoken is None or not len(codes) or not spoken.any(1).all():
            raise ValueError(f"codes must hold at least one code per row, got {codes.tolist()}")
        mel = self.step(codes, self.init_state(len(codes), seed), last=True)
        missing = codes.shape[-1] * self.config.frames_per_code - mel.shape[2]
        return nn.functional.pad(mel, (0, missing), value=SILENCE)

    def _check_codes(self, codes: Tensor, mask: Tensor | None) -> Tensor:
        """Codes on the model's device, the null code where `mask` is False."""
        if not isinstance(codes, Tensor) or codes.ndim != 2 or codes.is_floating_point():
            came = f"{codes.dtype} {tuple(codes.shape)}" if isinstance(codes, Tensor) else type(codes).__name__
            raise ValueError(f"codes must be an integer tensor of shape (batch, codes), got {came}")
        if mask is not None and mask.shape != codes.shape:
            raise ValueError(f"mask must have the shape of codes, {tuple(codes.shape)}, got {tuple(mask.shape)}")
        real = codes if mask is None else codes[mask]
        if real.numel() and (real.min() < 0 or real.max() >= self.config.num_codes):
            raise ValueError(
                f"codes must lie in [0, {self.config.num_codes}), got {int(real.min())}..{int(real.max())}"
            )
        codes = codes.long().to(self.device)
        return codes if mask is None else codes.masked_fill(~mask.to(self.device), self.config.num_codes)

    def _ready(self, state: DetokenizerState, ends: list[bool]) -> dict[tuple[int, bool], list[int]]:
        """Rows that can be decoded now, by (codes to take, is it the row's final chunk).

        Whether a chunk is a regular one must not depend on `last`, or the way of pushing would show: the final chunk
        is what is left when no regular one fits.
        """
        regular = self.config.chunk_tokens + self.config.look_ahead_tokens
        ready = defaultdict(list)
        for row, pending in enumerate(state.pending):
            if len(pending) >= regular:
                ready[regular, False].append(row)
            elif ends[row] and len(pending):
                ready[len(pending), True].append(row)
        return ready

    def _decode_chunk(self, codes: Tensor, state: DetokenizerState, rows: Tensor, final: bool) -> Tensor:
        """Mel (R, F, M) of one chunk of some rows; its look-ahead is not returned. codes (R, S)."""
        config = self.config
        num_frames = codes.shape[1] * config.frames_per_code
        rebase(self.dit, state, rows, num_frames, config.max_positions)
        noise = frame_noise(state.seeds[rows], state.frames[rows], num_frames, config.num_mels).to(self.device)
        positions = state.positions[rows][:, None] + torch.arange(num_frames, device=self.device)
        cache, real = turned_context(self.dit, state, rows)
        field = self._velocity(codes, positions, cache, with_own(real, num_frames))
        x = euler(field, noise, *euler_grid(config.ode_steps + 1))
        if not final:
            kept = config.chunk_tokens * config.frames_per_code
            x = x[:, :kept]
            taken, mask = codes[:, : config.chunk_tokens], with_own(real, kept)
            state.commit(rows, self._show(x.to(self.dtype), taken, positions[:, :kept], cache, mask))
            state.frames[rows] += kept
        return x * config.mel_std + config.mel_mean

    def _show(
        self, clean: Tensor, codes: Tensor, positions: Tensor, cache: list[KeyValue], mask: Tensor | None
    ) -> list[KeyValue]:
        """Keys and values of finished frames (R, F, M)."""
        return self.dit(clean, codes, torch.tensor(CLEAN_TAU, device=self.device), positions, cache, mask)[1]

    def _velocity(self, codes: Tensor, positions: Tensor, cache: list[KeyValue], mask: Tensor | None) -> Velocity:
        """Velocity field of one chunk, guided if the configuration asks for it: both evaluations run as one batch."""
        scale = self.config.cfg_scale
        if scale == 1:
            return lambda x, tau: self.dit(x.to(self.dtype), codes, tau.to(self.device), positions, cache, mask)[
                0
            ].float()
        codes = torch.cat((codes, torch.full_like(codes, self.config.num_codes)))
        positions = positions.repeat(2, 1)
        cache = [KeyValue(block.keys.repeat(2, 1, 1, 1), block.values.repeat(2, 1, 1, 1)) for block in cache]
        mask = None if mask is None else mask.repeat(2, 1, 1, 1)

        def guided(x: Tensor, tau: Tensor) -> Tensor:
            velocity, _ = self.dit(x.to(self.dtype).repeat(2, 1, 1), codes, tau.to(self.device), positions, cache, mask)
            with_codes, without = velocity.float().chunk(2)
            return classifier_free_guidance(with_codes, without, scale)

        return guided


def _spoken(codes: Tensor) -> Tensor | None:
    """Where there is a code at all; -1 is none."""
    return codes != NO_CODE if isinstance(codes, Tensor) else None
