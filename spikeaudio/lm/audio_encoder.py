"""Whisper's encoder inside the language model: log-mel frames (100 Hz) -> continuous features (12.5 Hz).

    hidden  = encoder(log-mel of one piece, padded to its full 30 s)          50 Hz
    feature[i] = [hidden[4i] | hidden[4i+1] | hidden[4i+2] | hidden[4i+3]]    12.5 Hz, 4 * d_model channels

A recording longer than 30 s comes as several pieces, encoded independently; of each only the features of real samples
are kept. The encoder attends over the whole padded piece, silence included, as the published one does. The layers are
transformers' own, so it trains with the language model and its linear layers can spike like any others.

Source: Kimi-Audio, ``kimia_infer/models/tokenizer/whisper_Lv3/whisper.py``. A model whose features are made outside of
it (spikeaudio-tiny: by the speech tokenizer) has no such encoder.
"""

from typing import ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedConfig, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from spikeaudio.audio.whisper_mel import log_mel_pieces
from spikeaudio.lm.feature_encoder import register_feature_encoder

STACKED_FRAMES = 4  # frames of 20 ms in one feature
MEL_FRAMES_PER_TOKEN = 8  # frames of 10 ms in one feature


@register_feature_encoder("whisper")
class WhisperFeatureEncoder(WhisperEncoder):
    """transformers' Whisper encoder with its output stacked to the token rate; a `FeatureEncoder`.

    Reads Whisper folders as published, too (keys ``model.encoder.*``; the decoder is ignored).

    Example:
        >>> import torch
        >>> from transformers import WhisperConfig
        >>> from spikeaudio import WhisperFeatureEncoder
        >>> sizes = {"d_model": 8, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16}
        >>> encoder = WhisperFeatureEncoder(WhisperConfig(**sizes, num_mel_bins=16))
        >>> encoder.features(torch.randn(1, 1, 16, 3000)).shape  # 30 s: 375 features of 4 frames
        torch.Size([1, 375, 32])
    """

    config_class: ClassVar[type[PreTrainedConfig]] = WhisperConfig
    input_names: ClassVar[tuple[str, ...]] = ("input_features", "input_features_mask")
    input_settings: ClassVar[tuple[str, ...]] = ("num_mel_bins",)
    base_model_prefix = "model.encoder"  # where published folders keep these weights
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"^model\.decoder\.", r"^proj_out\."]

    @staticmethod
    def feature_dim(config: WhisperConfig) -> int:
        """Channels of one feature: four frames side by side."""
        return STACKED_FRAMES * config.d_model

    @staticmethod
    def inputs(wav: Tensor, token_features: Tensor, num_mel_bins: int) -> dict[str, Tensor]:
        """Log-mel pieces of a recording.

        Args:
            wav: (N,) float32 samples at 16 kHz.
            token_features: not needed.
            num_mel_bins: mel bins of the encoder.

        Returns:
            input_features (P, num_mel_bins, 3000) float32 and input_features_mask (P, 3000) bool; P pieces of 30 s.
        """
        pieces = log_mel_pieces(wav, num_mel_bins)
        return {"input_features": pieces.mel, "input_features_mask": pieces.mask}

    def features(self, input_features: Tensor, input_features_mask: Tensor | None = None) -> Tensor:
        """Continuous features of the recordings of each row of a batch.

        Args:
            input_features: (B, P, num_mel_bins, F) log-mel of P pieces per row, F frames of 10 ms (30 s).
            input_features_mask: (B, P, F), non-zero on the frames of real samples, which come first; a piece of zeros
                is padding. None: all frames are real.

        Returns:
            (B, S, 4 * d_model) in the weights' dtype, right-padded per row: ceil(frames / 8) features of each piece.

        Raises:
            ValueError: the shapes do not fit the encoder or each other.
        """
        frames = MEL_FRAMES_PER_TOKEN // STACKED_FRAMES * self.config.max_source_positions
        expected = (self.config.num_mel_bins, frames)
        if input_features.dim() != 4 or tuple(input_features.shape[2:]) != expected:
            raise ValueError(
                f"input_features must have shape (batch, pieces, {expected[0]}, {expected[1]}), "
                f"got {tuple(input_features.shape)}"
            )
        mask = input_features_mask
        if mask is None:
            mask = input_features.new_ones(input_features[:, :, 0].shape, dtype=torch.bool)
        if mask.shape != (*input_features.shape[:2], frames):
            raise ValueError(
                f"input_features_mask must have shape {(*input_features.shape[:2], frames)}, got {tuple(mask.shape)}"
            )
        counts = (mask.bool().sum(dim=-1) + MEL_FRAMES_PER_TOKEN - 1) // MEL_FRAMES_PER_TOKEN  # (B, P) tokens
        heard = counts > 0
        weight = self.conv1.weight
        if not heard.any():
            return weight.new_zeros(len(mask), 0, STACKED_FRAMES * self.config.d_model)
        hidden = self(input_features[heard].to(weight)).last_hidden_state  # (pieces, F / 2, D)
        stacked = hidden.unflatten(1, (-1, STACKED_FRAMES)).flatten(2)  # (pieces, F / 8, 4 D)
        real = torch.arange(stacked.shape[1], device=counts.device) < counts[heard][:, None]
        rows = stacked[real.to(stacked.device)].split(counts.sum(dim=1).tolist())
        features: Tensor = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
        return features
