"""What the speech tokenizer is trained for: its codes must still spell the sentence.

Connectionist temporal classification (Graves et al. 2006) reads characters (and note symbols of music) at two places,

    loss = 0.5 CTC(frames at 50 Hz) + CTC(head(quantized)) + commitment / mean square of the features

Each is the mean over the clips of the loss per symbol: three notes of a melody weigh as much as a sentence's thirty
letters. The first term shapes the layers before pooling; the second passes through the codes: two Whisper layers at
12.5 Hz and one linear layer that reads 4 CTC frames out of every token. The commitment term is divided by the
(detached) power of the features, because the published quantizer does not normalise them and their scale is free to
drift.

During the codebook's warm-up the head reads the features themselves (see `spikeaudio.tokenizer.codebook`).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.models.whisper.modeling_whisper import WhisperEncoderLayer, sinusoids

from spikeaudio.tokenizer.codebook import CodebookTrainer
from spikeaudio.tokenizer.configuration import WhisperVQConfig
from spikeaudio.tokenizer.whisper_vq import WhisperVQEncoder, block_causal_mask

NUM_NOTES = 8
LETTERS = " 'abcdefghijklmnopqrstuvwxyz"
VOCABULARY = 1 + len(LETTERS) + NUM_NOTES  # 0 is CTC's blank


def spell(text: str, symbols: Sequence[int] | None = None) -> list[int]:
    """CTC targets of a clip: letters of `text` (lower case, other characters dropped), or its note symbols.

    Raises:
        ValueError: if a symbol is outside 0..7.
    """
    if symbols is None:
        return [1 + LETTERS.index(letter) for letter in " ".join(text.split()) if letter in LETTERS]
    if not all(0 <= symbol < NUM_NOTES for symbol in symbols):
        raise ValueError(f"symbols must be in 0..{NUM_NOTES - 1}, got {list(symbols)}")
    return [1 + len(LETTERS) + symbol for symbol in symbols]


def read(targets: Sequence[int]) -> str:
    """Inverse of `spell`; note symbols become the digits 0..7."""
    first_note = 1 + len(LETTERS)
    return "".join(LETTERS[t - 1] if t < first_note else str(t - first_note) for t in targets)


def greedy_decode(log_probs: Tensor, lengths: Tensor) -> list[str]:
    """Best path: (B, T, V) and (B,) -> text of every row; repeats merged, blanks dropped."""
    texts = []
    for best, length in zip(log_probs.argmax(-1).tolist(), lengths.tolist(), strict=True):
        path = best[:length]
        texts.append(read([t for i, t in enumerate(path) if t and (i == 0 or t != path[i - 1])]))
    return texts


class CTCHeadConfig(WhisperVQConfig):
    """Sizes of the encoder whose tokens are read, and the head's own depth."""

    model_type = "spikeaudio_ctc_head"

    head_layers: int = 2


class CTCHead(PreTrainedModel):
    """Recognizer on top of tokens: (B, S, D) quantized vectors -> (B, 4 S, V) log-probabilities."""

    config: CTCHeadConfig
    config_class = CTCHeadConfig
    main_input_name = "quantized"
    _supports_sdpa = True

    def __init__(self, config: CTCHeadConfig) -> None:
        super().__init__(config)
        self.context = nn.Conv1d(config.d_model, config.d_model, kernel_size=3, padding=1)
        self.layers = nn.ModuleList(WhisperEncoderLayer(config) for _ in range(config.head_layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.output = nn.Linear(config.d_model, config.pooling_kernel_size * VOCABULARY)
        self.post_init()

    def forward(self, quantized: Tensor, mask: Tensor) -> Tensor:
        """(B, S, D) and (B, S) bool -> (B, 4 S, V), fp32."""
        config = self.config
        hidden = self.context((quantized * mask.unsqueeze(-1)).transpose(1, 2)).transpose(1, 2)
        hidden = hidden + sinusoids(hidden.shape[1], config.d_model).to(hidden)  # rows of a codebook know no position
        attention = block_causal_mask(
            mask, config.quantize_causal_block_size // config.pooling_kernel_size, hidden.dtype
        )
        for layer in self.layers:
            hidden = layer(hidden, attention)
        logits = self.output(self.norm(hidden)).unflatten(-1, (config.pooling_kernel_size, VOCABULARY))
        return logits.flatten(1, 2).float().log_softmax(-1)


class TokenizerTrainer(nn.Module):
    """Encoder, heads and codebook training as one module: its state dict is all that training has to keep.

    Args:
        config: the encoder's sizes.
        warmup_steps: training steps without quantization.
        head_layers: transformer layers that read the codes.
    """

    def __init__(self, config: WhisperVQConfig, warmup_steps: int, head_layers: int = 2) -> None:
        super().__init__()
        self.encoder = WhisperVQEncoder(config)
        fields = {
            name: value for name, value in config.to_dict().items() if name not in ("model_type", "architectures")
        }
        head_config = CTCHeadConfig(**fields, head_layers=head_layers)
        head_config._attn_implementation = config._attn_implementation
        self.head = CTCHead(head_config)
        self.frame_head = nn.Sequential(nn.LayerNorm(config.d_model), nn.Linear(config.d_model, VOCABULARY))
        self.codebook_trainer = CodebookTrainer(
            config.quantize_vocab_size,
            config.d_model,
            decay=config.quantize_ema_decay,
            restart_interval=config.quantize_restart_interval,
            warmup_steps=warmup_steps,
        )

    def log_probs(self, mel: Tensor, mel_mask: Tensor) -> dict[str, Any]:
        """Both readings of a batch.

        Args:
            mel: (B, num_mel_bins, F) log-mel.
            mel_mask: (B, F), non-zero on real frames.

        Returns:
            ``frames`` (B, T, V) with ``frames_length`` (B,), ``tokens`` (B, 4 S, V) with ``tokens_length`` (B,), and
            the encoder's output as ``encoded``.
        """
        encoded = self.encoder(mel, mel_mask, quantize=self.codebook_trainer.ready)
        read_from = encoded.features if encoded.quantized is None else encoded.quantized
        return {
            "frames": self.frame_head(encoded.frames).float().log_softmax(-1),
            "frames_length": encoded.frames_mask.sum(1),
            "tokens": self.head(read_from, encoded.codes_mask),
            "tokens_length": encoded.codes_mask.sum(1) * self.encoder.config.pooling_kernel_size,
            "encoded": encoded,
        }

    def forward(self, mel: Tensor, mel_mask: Tensor, targets: Tensor, target_lengths: Tensor) -> dict[str, Tensor]:
        """Training figures of a batch; in training mode the codebook learns from it, too.

        Args:
            mel: (B, num_mel_bins, F) log-mel.
            mel_mask: (B, F), non-zero on real frames.
            targets: (sum of target_lengths,) long, concatenated `spell` results.
            target_lengths: (B,) long.

        Returns:
            Scalars: ``loss``, ``ctc_frames``, ``ctc_tokens``, ``commitment``, ``relative_error`` (share of the
            features' power lost in quantization), ``perplexity``.
        """
        out = self.log_probs(mel, mel_mask)
        encoded = out["encoded"]
        terms = {
            f"ctc_{name}": functional.ctc_loss(
                out[name].transpose(0, 1),
                targets,
                out[f"{name}_length"],
                target_lengths,
                zero_infinity=True,
            )
            for name in ("frames", "tokens")
        }
        features = encoded.features[encoded.codes_mask]
        zero = features.new_zeros(())
        commitment, error, spread = zero, zero, zero
        if encoded.codes is not None:
            power = features.detach().square().mean()
            commitment = encoded.commitment_loss / power
            config = self.encoder.config
            error = commitment.detach() / (config.quantize_loss_scale * config.quantize_commit_coefficient)
            spread = encoded.perplexity
        if self.training:
            codes = (
                features.new_zeros(len(features), dtype=torch.long)
                if encoded.codes is None
                else encoded.codes[encoded.codes_mask]
            )
            self.codebook_trainer.update(self.encoder.codebook, features, codes)
        loss = 0.5 * terms["ctc_frames"] + terms["ctc_tokens"] + commitment
        return {
            "loss": loss,
            **{k: v.detach() for k, v in terms.items()},
            "commitment": commitment.detach(),
            "relative_error": error,
            "perplexity": spread,
        }
