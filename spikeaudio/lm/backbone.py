"""The family of layers that both stacks of the language model are made of, by name.

A family is transformers' own: its decoder layer, norm and rotary embedding, and its configuration, whose fields the
model's config then has as well. Any family of transformers that is built like Llama is found by its `model_type`;
`register_backbone` adds another one from outside of the package.
"""

import importlib
from dataclasses import dataclass, fields
from typing import Any

from torch import nn
from transformers import CONFIG_MAPPING, PreTrainedConfig


@dataclass(frozen=True)
class Backbone:
    """Classes of one family.

    Attributes:
        layer: ``layer(config, layer_idx)``, called as transformers calls a decoder layer; returns hidden states.
        norm: ``norm(hidden_size, eps=...)``.
        rotary: ``rotary(config=...)``, called with hidden states and position ids; returns cosines and sines.
    """

    layer: type[nn.Module]
    norm: type[nn.Module]
    rotary: type[nn.Module]


_REGISTERED: dict[str, tuple[type[PreTrainedConfig], Backbone]] = {}


def register_backbone(config_class: type[PreTrainedConfig], backbone: Backbone) -> None:
    """Add a family under the `model_type` of its configuration.

    Raises:
        ValueError: the name is taken.

    >>> from transformers.models.llama import configuration_llama, modeling_llama
    >>> class MyConfig(configuration_llama.LlamaConfig):
    ...     model_type = "my_llama"
    >>> register_backbone(MyConfig, Backbone(
    ...     modeling_llama.LlamaDecoderLayer, modeling_llama.LlamaRMSNorm, modeling_llama.LlamaRotaryEmbedding
    ... ))
    >>> family_config("my_llama") is MyConfig
    True
    """
    name = config_class.model_type
    if name in _REGISTERED or name in CONFIG_MAPPING:
        raise ValueError(f"there is a backbone {name!r} already: give this one another model_type")
    _REGISTERED[name] = config_class, backbone


def family_config(name: str) -> type[PreTrainedConfig]:
    """Configuration class of a family.

    Raises:
        ValueError: neither transformers nor `register_backbone` knows the name.
    """
    if name in _REGISTERED:
        return _REGISTERED[name][0]
    if name not in CONFIG_MAPPING:
        known = ["llama", "mistral", "qwen2", "qwen3", *sorted(_REGISTERED)]
        raise ValueError(f"backbone must be the model_type of a family such as {', '.join(known)}, got {name!r}")
    found: type[PreTrainedConfig] = CONFIG_MAPPING[name]
    return found


def backbone(name: str) -> Backbone:
    """Classes of a family.

    Raises:
        ValueError: the family is unknown, or not built of decoder layers with a norm and a rotary embedding.
    """
    if name in _REGISTERED:
        return _REGISTERED[name][1]
    config_class = family_config(name)
    module = importlib.import_module(config_class.__module__.replace(".configuration_", ".modeling_"))
    prefix = config_class.__name__.removesuffix("Config")
    found: list[Any] = [getattr(module, prefix + part, None) for part in ("DecoderLayer", "RMSNorm", "RotaryEmbedding")]
    if None in found:
        raise ValueError(
            f"the family {name!r} cannot be a backbone: transformers has no {prefix}DecoderLayer, {prefix}RMSNorm and "
            f"{prefix}RotaryEmbedding for it"
        )
    return Backbone(*found)


def family_values(name: str, own: PreTrainedConfig, given: dict[str, Any]) -> dict[str, Any]:
    """Values of the fields that a family has beside those of the model's config.

    Args:
        name: name of the family.
        own: the model's config; the fields that both have are taken from it.
        given: values that were given; the others are the family's defaults for these sizes.

    Returns:
        Every field of the family's configuration that `own` does not declare; without any rotary setting given, also
        the family's own ``rope_theta``.

    Raises:
        ValueError: as the family's configuration does.
    """
    config_class = family_config(name)
    if isinstance(own, config_class):
        return {}
    own_names = {field.name for field in fields(own)}
    names = {field.name for field in fields(config_class)}
    shared = {key: getattr(own, key) for key in names & own_names if key not in ("layer_types", "rope_parameters")}
    family = config_class(**shared, **{key: given[key] for key in names - own_names if key in given})
    values = {key: getattr(family, key) for key in names - own_names}
    if own.rope_parameters is None and not {"rope_theta", "rope_scaling"} & set(given):
        values["rope_theta"] = config_class.default_theta
    return values
