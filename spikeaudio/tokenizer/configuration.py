"""Configuration of the speech tokenizer's encoder, in the published GLM-4-Voice field names.

A Whisper encoder with causal convolutions, block-causal attention, average pooling after layer `pooling_position` and
vector quantization after layer `quantize_position`. The published model pools and quantizes after the same layer (16 of
32); a smaller model may pool earlier and run its upper layers at the token rate of 12.5 Hz, which costs a quarter.
"""

from typing import Any

from transformers import WhisperConfig

from spikeaudio.checkpoint import refuse_unknown_keys


class WhisperVQConfig(WhisperConfig):
    """Whisper's own fields (decoder fields are accepted and unused) and those of the quantizer.

    Args:
        pooling_kernel_size: 50 Hz frames averaged into one token.
        pooling_type: only ``"avg"`` is published and supported.
        pooling_position: number of layers at 50 Hz, before pooling.
        quantize_position: number of layers in all; those after `pooling_position` run at the token rate.
        quantize_vocab_size: codebook rows.
        quantize_causal_block_size: attention block in 50 Hz frames; a multiple of `pooling_kernel_size`.
        quantize_commit_coefficient, quantize_loss_scale: their product weighs the commitment loss.
        quantize_ema_decay: decay of the codebook's moving averages in training.
        quantize_restart_interval: training steps between restarts of unused codebook rows.
        encoder_causal_convolution: must be True: the kind of convolution the published weights were trained with.
        encoder_causal_attention, quantize_causal_encoder: must be False: attention is block-causal.

    Raises:
        ValueError: for an unknown key (the message lists our own ones and those with a similar name), or if positions,
            sizes or kinds contradict each other.

    Example:
        >>> from spikeaudio import WhisperVQConfig
        >>> WhisperVQConfig.from_pretrained("checkpoints/spikeaudio-tiny/speech_tokenizer").quantize_vocab_size
        2048
    """

    model_type = "spikeaudio_whisper_vq"

    pooling_kernel_size: int = 4
    pooling_type: str = "avg"
    pooling_position: int = 16
    quantize_position: int = 16
    quantize_vocab_size: int = 16384
    quantize_causal_block_size: int = 200
    quantize_commit_coefficient: float = 0.25
    quantize_loss_scale: float = 10.0
    quantize_ema_decay: float = 0.99
    quantize_restart_interval: int = 100
    quantize_encoder_only: bool = True
    quantize_causal_encoder: bool = False
    skip_language_detection: bool = True
    encoder_causal_attention: bool = False
    encoder_causal_convolution: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        refuse_unknown_keys(self, kwargs)
        super().__post_init__(**kwargs)
        if not 0 < self.pooling_position <= self.quantize_position <= self.encoder_layers:
            raise ValueError(
                "need 0 < pooling_position <= quantize_position <= encoder_layers, "
                f"got {self.pooling_position}, {self.quantize_position}, {self.encoder_layers}"
            )
        if self.pooling_type != "avg":
            raise ValueError(f"pooling_type must be 'avg', got {self.pooling_type!r}")
        if self.quantize_causal_block_size % self.pooling_kernel_size:
            raise ValueError(
                f"quantize_causal_block_size must be a multiple of pooling_kernel_size, "
                f"got {self.quantize_causal_block_size} and {self.pooling_kernel_size}"
            )
        if not self.encoder_causal_convolution or self.encoder_causal_attention or self.quantize_causal_encoder:
            raise ValueError(
                "only causal convolutions with block-causal attention exist (encoder_causal_convolution=True, "
                "encoder_causal_attention=False, quantize_causal_encoder=False), "
                f"got {self.encoder_causal_convolution}, {self.encoder_causal_attention}, "
                f"{self.quantize_causal_encoder}"
            )
