"""Sizes of the two vocoders, Vocos and BigVGAN.

The defaults of Vocos are spikeaudio-tiny's: Kimi-Audio's mel (80 bands, 50 frames per second) to 24 kHz.
`VocosConfig.from_vocos_yaml` reads the ``config.yaml`` of the published Vocos checkpoints (gemelo-ai/vocos), whose mel
is another one (100 bands, 93.75 frames per second). The defaults of BigVGAN are Kimi-Audio's, under the names of its
``vocoder/config.json``.
"""

import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from spikeaudio.checkpoint import refuse_unknown_keys

PADDINGS = ("same", "center")


def _architecture_keys(config: type[PreTrainedConfig]) -> list[str]:
    """Fields that a class adds to transformers' own."""
    inherited = {field.name for field in fields(PreTrainedConfig)}
    return [field.name for field in fields(config) if field.name not in inherited]


@strict
class VocosConfig(PreTrainedConfig):
    """Architecture of `VocosVocoder`.

    Args:
        num_mels: bands of the log-mel input.
        hidden_size: channels of the ConvNeXt stack.
        intermediate_size: channels inside a block's two linear layers.
        num_layers: ConvNeXt blocks; one output frame sees 3 * (num_layers + 1) frames to either side.
        n_fft: samples of one synthesis frame (Hann window).
        hop_length: samples from frame to frame.
        padding: "same" cuts (n_fft - hop_length) / 2 samples off both ends, F frames give F * hop_length samples;
            "center" cuts n_fft / 2, they give (F - 1) * hop_length.
        sampling_rate: Hz of the waveform.

    Raises:
        ValueError: for an unknown key or sizes that cannot be inverted.

    Example:
        >>> from spikeaudio import VocosConfig
        >>> VocosConfig(num_layers=6).look_ahead_frames
        21
    """

    model_type = "spikeaudio_vocos"

    num_mels: int = 80
    hidden_size: int = 256
    intermediate_size: int = 768
    num_layers: int = 6
    n_fft: int = 1920
    hop_length: int = 480
    padding: str = "same"
    sampling_rate: int = 24000

    def __post_init__(self, **kwargs: Any) -> None:
        refuse_unknown_keys(self, kwargs)
        super().__post_init__(**kwargs)
        for key in _architecture_keys(VocosConfig):
            if key != "padding" and getattr(self, key) < 1:
                raise ValueError(f"{key} must be at least 1, got {getattr(self, key)}")
        if self.padding not in PADDINGS:
            raise ValueError(f"padding must be one of {list(PADDINGS)}, got {self.padding!r}")
        if self.n_fft < 2 * self.hop_length or self.n_fft % 2 or (self.n_fft - self.hop_length) % 2:
            raise ValueError(
                f"n_fft must be even, at least 2 * hop_length and n_fft - hop_length even, "
                f"got n_fft {self.n_fft} and hop_length {self.hop_length}"
            )

    @property
    def look_ahead_frames(self) -> int:
        """Frames to the right (and left) that one spectral frame depends on."""
        return 3 * (self.num_layers + 1)

    @property
    def trim_samples(self) -> int:
        """Samples that the inverse STFT cuts off at either end."""
        return (self.n_fft - self.hop_length) // 2 if self.padding == "same" else self.n_fft // 2

    @classmethod
    def from_vocos_yaml(cls, path: str | Path) -> "VocosConfig":
        """Read the ``config.yaml`` of a published Vocos checkpoint.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it names another feature extractor, backbone or head than mel, VocosBackbone and ISTFTHead.
        """
        with Path(path).open() as file:
            parts = yaml.safe_load(file)
        classes = {
            "feature_extractor": "vocos.feature_extractors.MelSpectrogramFeatures",
            "backbone": "vocos.models.VocosBackbone",
            "head": "vocos.heads.ISTFTHead",
        }
        for part, name in classes.items():
            found = parts.get(part, {}).get("class_path") if isinstance(parts, dict) else None
            if found != name:
                raise ValueError(f"{path}: {part} must be {name}, got {found}")
        mel, backbone, head = (parts[part]["init_args"] for part in classes)
        if backbone.get("adanorm_num_embeddings"):
            raise ValueError(f"{path}: a backbone conditioned by adanorm_num_embeddings is not supported")
        return cls(
            num_mels=backbone["input_channels"],
            hidden_size=backbone["dim"],
            intermediate_size=backbone["intermediate_dim"],
            num_layers=backbone["num_layers"],
            n_fft=head["n_fft"],
            hop_length=head["hop_length"],
            padding=head.get("padding", "same"),
            sampling_rate=mel.get("sample_rate", 24000),
        )


@strict
class BigVGANConfig(PreTrainedConfig):
    """Architecture of `BigVGAN` and the mel that it reads. Names and defaults: Kimi-Audio's ``vocoder/config.json``.

    Args:
        num_mels: bands of the log-mel input.
        upsample_rates: samples per sample of each stage; their product is `hop_size`.
        upsample_kernel_sizes: kernels of the transposed convolutions, one per rate; kernel minus rate is even and not
            negative.
        upsample_initial_channel: channels before the first stage; every stage halves them.
        resblock: "1", the one kind of block with two convolutions per dilation.
        resblock_kernel_sizes: odd kernel of each of a stage's parallel blocks.
        resblock_dilation_sizes: dilations of each of them.
        activation: "snakebeta", or "snake", which has no beta of its own.
        snake_logscale: alpha and beta are stored as logarithms.
        use_tanh_at_final: tanh of the last convolution; False: clamped to [-1, 1].
        use_bias_at_final: the last convolution has a bias.
        n_fft: samples of the mel analysis' transform.
        hop_size: samples per mel frame; also known as `hop_length`.
        win_size: samples of its window.
        sampling_rate: Hz of the waveform.
        fmin: lower edge of the mel, in Hz.
        fmax: upper edge; None: half the sampling rate.

    Raises:
        ValueError: for an unknown key or sizes that do not fit together.

    Example:
        >>> from spikeaudio import BigVGANConfig
        >>> BigVGANConfig().hop_length
        480
    """

    model_type = "spikeaudio_bigvgan"
    attribute_map = {"hop_length": "hop_size"}  # noqa: RUF012  transformers declares it

    num_mels: int = 80
    upsample_rates: Sequence[int] = (5, 2, 2, 2, 2, 3, 2)
    upsample_kernel_sizes: Sequence[int] = (9, 4, 4, 4, 4, 5, 4)
    upsample_initial_channel: int = 2048
    resblock: str = "1"
    resblock_kernel_sizes: Sequence[int] = (3, 5, 7, 11)
    resblock_dilation_sizes: Sequence[Sequence[int]] = ((1, 3, 5),) * 4
    activation: str = "snakebeta"
    snake_logscale: bool = True
    use_tanh_at_final: bool = False
    use_bias_at_final: bool = False
    n_fft: int = 1024
    hop_size: int = 480
    win_size: int = 1024
    sampling_rate: int = 24000
    fmin: float | int = 0
    fmax: float | int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        refuse_unknown_keys(self, kwargs)
        super().__post_init__(**kwargs)
        rates, kernels = self.upsample_rates, self.upsample_kernel_sizes
        blocks, dilations = self.resblock_kernel_sizes, self.resblock_dilation_sizes
        if self.resblock != "1":
            raise ValueError(f"resblock must be '1', got {self.resblock!r}")
        if self.activation not in ("snakebeta", "snake"):
            raise ValueError(f"activation must be 'snakebeta' or 'snake', got {self.activation!r}")
        if min(self.num_mels, self.hop_size, self.sampling_rate, *rates, *(d for row in dilations for d in row)) < 1:
            raise ValueError("num_mels, hop_size, sampling_rate, upsample_rates and dilations must be at least 1")
        if math.prod(rates) != self.hop_size:
            raise ValueError(
                f"upsample_rates {list(rates)} make {math.prod(rates)} samples of a frame, but hop_size is "
                f"{self.hop_size}"
            )
        if len(kernels) != len(rates) or any(k < r or (k - r) % 2 for k, r in zip(kernels, rates, strict=True)):
            raise ValueError(
                f"need one upsample_kernel_size per rate {list(rates)}, larger by an even number, got {list(kernels)}"
            )
        if not blocks or len(blocks) != len(dilations) or any(kernel < 1 or kernel % 2 == 0 for kernel in blocks):
            raise ValueError(
                f"need odd resblock_kernel_sizes and dilations for each, got {list(blocks)} and {len(dilations)} lists"
            )
        if self.upsample_initial_channel < 1 or self.upsample_initial_channel % 2 ** len(rates):
            raise ValueError(
                f"upsample_initial_channel must be a multiple of {2 ** len(rates)}, halved by each of {len(rates)} "
                f"stages, got {self.upsample_initial_channel}"
            )
        if self.win_size > self.n_fft or self.n_fft < self.hop_size:
            raise ValueError(
                f"n_fft must hold win_size and hop_size, got {self.n_fft}, {self.win_size} and {self.hop_size}"
            )
