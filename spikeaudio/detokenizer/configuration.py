"""Sizes and streaming settings of the flow-matching detokenizer."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.utils.type_validators import interval, positive_int_field

from spikeaudio.checkpoint import refuse_unknown_keys


@strict
class DetokenizerConfig(PreTrainedConfig):
    """Configuration of `FlowMatchingDetokenizer`. Defaults: the detokenizer of spikeaudio-tiny.

    Args:
        num_codes: size of the code vocabulary; id `num_codes` is the null code of classifier-free guidance.
        hidden_size: width of the DiT.
        depth: number of blocks.
        num_heads: attention heads; `hidden_size / num_heads` is even (rotary pairs).
        mlp_ratio: width of the MLP over `hidden_size`.
        num_mels: mel channels.
        frames_per_code: mel frames per code, 50 Hz / 12.5 Hz.
        mel_mean: mean of the log-mel over the training data (one scalar).
        mel_std: its standard deviation.
        rope_base: base of the rotary frequencies.
        max_positions: positions 0..max_positions - 1 are used; longer streams re-base their cached keys.
        chunk_tokens: codes per streaming step.
        look_ahead_tokens: codes that must follow a chunk before it is decoded.
        max_kv_frames: clean frames kept as context, a voice prompt's included.
        ode_steps: Euler steps, each one evaluation of the field (two with guidance).
        cfg_scale: guidance; 1 is none and evaluates the network once per step.
        sigma_min: width of the conditional path at t = 1.
        min_train_chunk_tokens: shortest chunk sampled in training.
        max_train_chunk_tokens: longest.
        condition_dropout: probability with which training shows a chunk without its codes (needed for guidance).
        code_corruption: fraction of codes that training replaces by random ones, as a language model's mistakes would.
        initializer_range: standard deviation of the embeddings at the start.

    Example:
        >>> from spikeaudio import DetokenizerConfig, FlowMatchingDetokenizer
        >>> config = DetokenizerConfig(num_codes=64, hidden_size=32, depth=1, num_heads=2)
        >>> FlowMatchingDetokenizer(config).max_prompt_frames
        120
    """

    model_type = "spikeaudio_detokenizer"

    num_codes: int = positive_int_field(default=2048)
    hidden_size: int = positive_int_field(default=224)
    depth: int = positive_int_field(default=6)
    num_heads: int = positive_int_field(default=4)
    mlp_ratio: float = interval(min=0.25)(default=4.0)
    num_mels: int = positive_int_field(default=80)
    frames_per_code: int = positive_int_field(default=4)
    mel_mean: float = 0.0
    mel_std: float = 1.0
    rope_base: float = interval(min=1.0)(default=10000.0)
    max_positions: int = positive_int_field(default=4096)
    chunk_tokens: int = positive_int_field(default=10)
    look_ahead_tokens: int = interval(min=0)(default=4)
    max_kv_frames: int = positive_int_field(default=160)
    ode_steps: int = positive_int_field(default=8)
    cfg_scale: float = interval(min=0.0)(default=2.0)
    sigma_min: float = interval(min=0.0, max=1.0)(default=1e-4)
    min_train_chunk_tokens: int = positive_int_field(default=4)
    max_train_chunk_tokens: int = positive_int_field(default=30)
    condition_dropout: float = interval(min=0.0, max=1.0)(default=0.12)
    code_corruption: float = interval(min=0.0, max=1.0)(default=0.04)
    initializer_range: float = interval(min=0.0)(default=0.02)

    def __post_init__(self, **kwargs: Any) -> None:
        refuse_unknown_keys(self, kwargs)
        super().__post_init__(**kwargs)

    def validate_architecture(self) -> None:
        """Rules that join two fields; called by `@strict` after the fields' own checks."""
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"hidden_size must be a multiple of 2 * num_heads = {2 * self.num_heads}, got {self.hidden_size}"
            )
        if self.mel_std <= 0:
            raise ValueError(f"mel_std must be positive, got {self.mel_std}")
        if self.min_train_chunk_tokens > self.max_train_chunk_tokens:
            raise ValueError(
                "min_train_chunk_tokens must not exceed max_train_chunk_tokens, "
                f"got {self.min_train_chunk_tokens} > {self.max_train_chunk_tokens}"
            )
        needed = self.max_kv_frames + 2 * (self.chunk_tokens + self.look_ahead_tokens) * self.frames_per_code
        if self.max_positions < needed:
            raise ValueError(
                f"max_positions must hold the context and two steps, at least {needed}, got {self.max_positions}"
            )
