"""The socket of feature encoders: what makes the continuous features that the language model hears, 12.5 a second.

An encoder has two halves. `inputs` needs no weights and runs in the processor, once per recording: it gives the entries
of a batch. `features` runs in the model and turns these entries into features. Model and processor know no more of it.

    TokenFeatures            "speech_tokenizer"  the speech tokenizer's own features, made outside of the model
    WhisperFeatureEncoder    "whisper"           log-mel in, Whisper's encoder inside the model, trained with it
    any other class          its own name        `register_feature_encoder` adds it from outside of the package

A config names its encoder by the `model_type` of its ``audio_encoder_config``; without one it is "speech_tokenizer".
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

from torch import Tensor, nn
from transformers import PreTrainedConfig

FROM_TOKENIZER = "speech_tokenizer"
_REGISTERED: dict[str, type["FeatureEncoder"]] = {}
_BUILT_IN = {"whisper": "spikeaudio.lm.audio_encoder"}  # registered when first asked for: the import costs a second


class FeatureEncoder(Protocol):
    """What a class must have to be an encoder; it is also an `nn.Module`.

    Attributes:
        config_class: class of its configuration, whose `model_type` is the name it is registered under.
        input_names: names of the entries of a batch that it reads.
        input_settings: fields of its configuration that `inputs` takes as keywords; the processor's file keeps them.
    """

    config_class: ClassVar[type[PreTrainedConfig]]
    input_names: ClassVar[tuple[str, ...]]
    input_settings: ClassVar[tuple[str, ...]]

    def __init__(self, config: Any) -> None: ...

    @staticmethod
    def feature_dim(config: Any) -> int:
        """Channels of one feature; the model's `audio_feature_dim` must be this number."""
        ...

    @staticmethod
    def inputs(wav: Tensor, token_features: Tensor, **settings: Any) -> dict[str, Tensor]:
        """Entries of a batch for one recording.

        Args:
            wav: (N,) float32 samples at 16 kHz.
            token_features: (S, D) float32, what the speech tokenizer makes of them; S is the number of codes.
            settings: values of `input_settings`.

        Returns:
            One tensor (P, ...) for each of `input_names`. A batch joins the P axes of a row's recordings, and pads
            every axis at its end with zeros.
        """
        ...

    def features(self, **inputs: Tensor) -> Tensor:
        """Continuous features (B, S, D) of the batched `inputs`, one per code, padded at the end of each row."""
        ...


Encoder = TypeVar("Encoder", bound=type)


def register_feature_encoder(name: str) -> Callable[[Encoder], Encoder]:
    """Decorator that adds an encoder under the `model_type` of its configuration.

    Raises:
        ValueError: the name is taken, or its `config_class` has another `model_type`.

    >>> from transformers import PreTrainedConfig
    >>> class LoudnessConfig(PreTrainedConfig):
    ...     model_type = "loudness"
    >>> @register_feature_encoder("loudness")
    ... class LoudnessEncoder(nn.Module):
    ...     config_class, input_names, input_settings = LoudnessConfig, ("loudness",), ()
    >>> feature_encoder("loudness") is LoudnessEncoder
    True
    """

    def add(encoder: Encoder) -> Encoder:
        kind: Any = encoder
        if kind.config_class.model_type != name:
            raise ValueError(
                f"a feature encoder is registered under the model_type of its config_class: "
                f"expected {kind.config_class.model_type!r}, got {name!r}"
            )
        if name == FROM_TOKENIZER or _REGISTERED.get(name, kind) is not kind:
            raise ValueError(f"there is a feature encoder {name!r} already: register this one under another name")
        _REGISTERED[name] = kind
        return encoder

    return add


def feature_encoder(name: str) -> type[FeatureEncoder]:
    """The encoder of a name.

    Raises:
        ValueError: no encoder has that name.

    >>> feature_encoder("whisper").input_names
    ('input_features', 'input_features_mask')
    """
    if name == FROM_TOKENIZER:
        return TokenFeatures
    if name in _BUILT_IN:
        importlib.import_module(_BUILT_IN[name])
    if name not in _REGISTERED:
        known = ", ".join(map(repr, sorted({FROM_TOKENIZER, *_BUILT_IN, *_REGISTERED})))
        raise ValueError(f"no feature encoder {name!r}: expected {known}, or a class added by register_feature_encoder")
    return _REGISTERED[name]


def encoder_config(stored: dict[str, Any] | PreTrainedConfig | None) -> PreTrainedConfig | None:
    """The configuration of an encoder, from what a model's ``audio_encoder_config`` holds.

    Args:
        stored: a configuration; or its fields, of a Whisper encoder if they do not name a `model_type`.
    """
    if not isinstance(stored, dict):
        return stored
    return feature_encoder(stored.get("model_type", "whisper")).config_class(**stored)


class TokenFeatures(nn.Module):
    """The speech tokenizer's features: they come with the batch, so there is nothing to compute in the model."""

    config_class: ClassVar[type[PreTrainedConfig]] = PreTrainedConfig
    input_names: ClassVar[tuple[str, ...]] = ("audio_features",)
    input_settings: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: Any) -> None:
        super().__init__()

    @staticmethod
    def feature_dim(config: Any) -> int:
        """Never asked for: the model's `audio_feature_dim` is the tokenizer's width."""
        raise TypeError("the speech tokenizer's features have no configuration in the language model")

    @staticmethod
    def inputs(wav: Tensor, token_features: Tensor, **settings: Any) -> dict[str, Tensor]:
        """The features as they are."""
        return {"audio_features": token_features}

    def features(self, **inputs: Tensor) -> Tensor:
        """The features as they are."""
        return inputs["audio_features"]


@dataclass(frozen=True)
class FeatureInputs:
    """The half of an encoder that the processor runs: it makes a recording's entries of a batch.

    Attributes:
        name: name of the encoder.
        settings: keywords of its `inputs`.
    """

    name: str = FROM_TOKENIZER
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, config: PreTrainedConfig | None) -> "FeatureInputs":
        """The inputs that a model with this ``audio_encoder_config`` wants."""
        if config is None:
            return cls()
        encoder = feature_encoder(config.model_type)
        return cls(config.model_type, {name: getattr(config, name) for name in encoder.input_settings})

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the entries."""
        return feature_encoder(self.name).input_names

    def __call__(self, wav: Tensor, token_features: Tensor) -> dict[str, Tensor]:
        """Entries of a batch for one recording; see `FeatureEncoder.inputs`."""
        return feature_encoder(self.name).inputs(wav, token_features, **self.settings)

    def to_dict(self) -> dict[str, Any]:
        """Name and settings, for ``processor_config.json``."""
        return {"name": self.name, **self.settings}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "FeatureInputs":
        """What `to_dict` wrote."""
        settings = dict(stored)
        return cls(settings.pop("name", FROM_TOKENIZER), settings)
