"""Sizes of a Vocos vocoder.

The defaults are spikeaudio-tiny's: Kimi-Audio's mel (80 bands, 50 frames per second) to 24 kHz. `from_vocos_yaml`
reads the ``config.yaml`` of the published Vocos checkpoints (gemelo-ai/vocos), whose mel is another one
(100 bands, 93.75 frames per second).
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

PADDINGS = ("same", "center")

# Keys that transformers itself passes to every configuration beside its fields.
_TRANSFORMERS_KEYS = frozenset(
    {"model_type", "name_or_path", "torch_dtype", "attn_implementation", "experts_implementation", "output_attentions"}
    | {"num_labels", "per_layer_config", "quantization_config", "auto_map"}
)


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
        sampling_rate: of the waveform, in Hz.

    Raises:
        ValueError: for an unknown key or sizes that cannot be inverted.
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
        unknown = sorted(key for key in kwargs if key not in _TRANSFORMERS_KEYS and not key.startswith("_"))
        if unknown:
            raise ValueError(f"unknown keys {unknown} for VocosConfig; valid keys are {self._architecture_keys()}")
        super().__post_init__(**kwargs)
        for key in self._architecture_keys():
            if key != "padding" and getattr(self, key) < 1:
                raise ValueError(f"{key} must be at least 1, got {getattr(self, key)}")
        if self.padding not in PADDINGS:
            raise ValueError(f"padding must be one of {list(PADDINGS)}, got {self.padding!r}")
        if self.n_fft < 2 * self.hop_length or self.n_fft % 2 or (self.n_fft - self.hop_length) % 2:
            raise ValueError(
                f"n_fft must be even, at least 2 * hop_length and n_fft - hop_length even, "
                f"got n_fft {self.n_fft} and hop_length {self.hop_length}"
            )

    @classmethod
    def _architecture_keys(cls) -> list[str]:
        """Fields that this class adds to transformers' own."""
        inherited = {field.name for field in fields(PreTrainedConfig)}
        return [field.name for field in fields(cls) if field.name not in inherited]

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
