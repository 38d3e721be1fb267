"""Whisper-VQ encoder: log-mel frames (100 Hz) -> codes and features (12.5 Hz).

    conv1 (stride 1), conv2 (stride 2), both causal, exact GELU      100 Hz -> 50 Hz
    + positions, `pooling_position` Whisper layers, block-causal      50 Hz
    average of 4 frames                                               50 Hz -> 12.5 Hz
    further Whisper layers up to `quantize_position`, block-causal    12.5 Hz
    nearest row of the codebook                                       codes

Block-causal: frame i sees frame j iff j <= i or both lie in one block of `quantize_causal_block_size` frames (4 s). So
the codes of an unfinished block change while audio arrives, and those of a complete block are final.

Source: THUDM/GLM-4-Voice speech_tokenizer/modeling_whisper.py; state-dict keys are the published ones. The layers are
transformers' `WhisperEncoderLayer`. Differences: layers may run after pooling (none do in the published model);
``embed_positions2``, added after quantization to a state nobody reads, and the training buffers are not kept.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.models.whisper.modeling_whisper import WhisperEncoderLayer, sinusoids
from transformers.utils import ModelOutput

from spikeaudio.tokenizer.codebook import Codebook, perplexity
from spikeaudio.tokenizer.configuration import WhisperVQConfig


@dataclass
class WhisperVQOutput(ModelOutput):
    """What the encoder returns; S = ceil(frames / 8) tokens of 80 ms.

    Attributes:
        codes: (B, S) long, -1 where padded.
        features: (B, S, D), hidden states before quantization.
        quantized: (B, S, D), codebook rows; their gradient goes straight through to `features`.
        codes_mask: (B, S) bool, True on real tokens.
        commitment_loss: (), loss_scale * coefficient * mean squared distance of features to their rows.
        perplexity: (), codes in even use within this batch.
        frames: (B, T, D), hidden states at 50 Hz, before pooling.
        frames_mask: (B, T) bool.
        hidden_states: input of every layer and the output of the last one, when asked for.
    """

    codes: Tensor | None = None
    features: Tensor | None = None
    quantized: Tensor | None = None
    codes_mask: Tensor | None = None
    commitment_loss: Tensor | None = None
    perplexity: Tensor | None = None
    frames: Tensor | None = None
    frames_mask: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


def block_causal_mask(mask: Tensor, block_size: int, dtype: torch.dtype) -> Tensor:
    """Additive attention mask: 0 where query i may see key j, else the dtype's minimum.

    Args:
        mask: (B, T) bool, True on real positions.
        block_size: positions per block.
        dtype: dtype of the hidden states.

    Returns:
        (B, 1, T, T).
    """
    position = torch.arange(mask.shape[1], device=mask.device)
    block = position // block_size
    visible = (position[None, :] <= position[:, None]) | (block[None, :] == block[:, None])
    visible = visible & mask[:, None, None, :]
    return torch.zeros(visible.shape, dtype=dtype, device=mask.device).masked_fill_(~visible, torch.finfo(dtype).min)


class SinusoidalPositions(nn.Embedding):
    """Whisper's position table: sinusoids, stored with the weights, never trained.

    A class of its own because transformers initialises a module of code outside its tree only if it owns a parameter.
    """

    def __init__(self, num_positions: int, dim: int) -> None:
        super().__init__(num_positions, dim)
        self.weight.requires_grad_(False)


class WhisperVQEncoder(PreTrainedModel):
    """See the module docstring.

    Args:
        config: sizes and positions.

    Example:
        >>> import torch
        >>> from spikeaudio import WhisperVQEncoder
        >>> folder = "checkpoints/spikeaudio-tiny/speech_tokenizer"
        >>> encoder = WhisperVQEncoder.from_pretrained(folder, dtype=torch.float32)
        >>> output = encoder(torch.zeros(1, 80, 80), torch.ones(1, 80))  # log-mel of 0.8 s
        >>> output.codes.shape
        torch.Size([1, 10])
    """

    config: WhisperVQConfig
    config_class = WhisperVQConfig
    base_model_prefix = "encoder"
    main_input_name = "input_features"
    input_modalities = ("audio",)
    supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["WhisperEncoderLayer"]
    _supports_sdpa = True
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"^embed_positions2\.", r"^ema_count$", r"^ema_weight$"]

    def __init__(self, config: WhisperVQConfig) -> None:
        super().__init__(config)
        self.conv1 = nn.Conv1d(config.num_mel_bins, config.d_model, kernel_size=3)
        self.conv2 = nn.Conv1d(config.d_model, config.d_model, kernel_size=3, stride=2)
        self.embed_positions = SinusoidalPositions(config.max_source_positions, config.d_model)
        self.layers = nn.ModuleList(WhisperEncoderLayer(config) for _ in range(config.quantize_position))
        self.codebook = Codebook(config.quantize_vocab_size, config.d_model)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, SinusoidalPositions):
            init.copy_(module.weight, sinusoids(*module.weight.shape))
        elif isinstance(module, nn.Conv1d):  # as loud as the positions; init_std would leave the sound 20 dB below them
            init.normal_(module.weight, std=(2 / (module.in_channels * module.kernel_size[0])) ** 0.5)
        elif isinstance(module, Codebook):
            init.normal_(module.weight, std=self.config.init_std)

    def forward(
        self,
        input_features: Tensor,
        attention_mask: Tensor | None = None,
        output_hidden_states: bool = False,
        quantize: bool = True,
    ) -> WhisperVQOutput:
        """Encode a batch of log-mel spectrograms.

        Args:
            input_features: (B, num_mel_bins, F), at most ``2 * max_source_positions`` frames of 10 ms.
            attention_mask: (B, F), non-zero on real frames; all by default.
            output_hidden_states: return the hidden states as well.
            quantize: False stops after `features`: the first phase of training has no codes yet.

        Raises:
            ValueError: if the shapes do not fit the configuration or each other.
        """
        config = self.config
        batch, bins, mel_frames = input_features.shape
        if bins != config.num_mel_bins or not 0 < mel_frames <= 2 * config.max_source_positions:
            raise ValueError(
                f"input_features must be (B, {config.num_mel_bins}, 1..{2 * config.max_source_positions}), "
                f"got {tuple(input_features.shape)}"
            )
        if attention_mask is None:
            attention_mask = torch.ones(batch, mel_frames, dtype=torch.bool, device=input_features.device)
        if attention_mask.shape != (batch, mel_frames):
            raise ValueError(f"attention_mask must be {(batch, mel_frames)}, got {tuple(attention_mask.shape)}")
        frames_mask = attention_mask[:, ::2].bool()  # (B, T)
        codes_mask = frames_mask[:, :: config.pooling_kernel_size]  # (B, S)

        hidden = functional.gelu(self.conv1(functional.pad(input_features.to(self.conv1.weight.dtype), (2, 0))))
        hidden = functional.gelu(self.conv2(functional.pad(hidden, (2, 0)))).transpose(1, 2)  # (B, T, D)
        hidden = hidden + self.embed_positions.weight[: hidden.shape[1]]
        states: list[Tensor] = []
        block_size = config.quantize_causal_block_size
        mask = block_causal_mask(frames_mask, block_size, hidden.dtype)
        for layer in self.layers[: config.pooling_position]:
            states.append(hidden)
            hidden = layer(hidden, mask)
        frames = hidden

        kernel = config.pooling_kernel_size
        hidden = functional.pad(hidden, (0, 0, 0, -hidden.shape[1] % kernel))  # zeros count in the mean, as published
        hidden = hidden.unflatten(1, (-1, kernel)).mean(2)  # (B, S, D)
        if config.quantize_position > config.pooling_position:
            mask = block_causal_mask(codes_mask, block_size // kernel, hidden.dtype)
        for layer in self.layers[config.pooling_position :]:
            states.append(hidden)
            hidden = layer(hidden, mask)
        states.append(hidden)

        output = WhisperVQOutput(
            features=hidden,
            codes_mask=codes_mask,
            frames=frames,
            frames_mask=frames_mask,
            hidden_states=tuple(states) if output_hidden_states else None,
        )
        return self._quantize(output, hidden, codes_mask) if quantize else output

    def _quantize(self, output: WhisperVQOutput, features: Tensor, mask: Tensor) -> WhisperVQOutput:
        with torch.no_grad():
            codes = self.codebook.nearest(features)  # (B, S)
        rows = self.codebook(codes).to(features.dtype)
        distance = (features - rows.detach()).square().mean(-1)[mask].mean()
        output.codes = codes.masked_fill(~mask, -1)
        output.quantized = features + (rows - features).detach()
        output.commitment_loss = self.config.quantize_loss_scale * self.config.quantize_commit_coefficient * distance
        output.perplexity = perplexity(codes[mask], self.config.quantize_vocab_size)
        return output
