"""Spiking checkpoints in transformers: ``from_pretrained(folder, quantization_config=GIFConfig(...))``.

The quantizer replaces layers before weights are loaded. From a dense checkpoint they keep real weights; a packed
checkpoint names its `GIFConfig` in ``config.json`` and needs nothing passed. Two traps of transformers 5.23: buffers
and parameters that a dense checkpoint does not have come back uninitialised, so neurons are made after loading; and
without ``import spikeaudio`` a plain Qwen2 checkpoint loads dense with only a log line ("Unknown quantization type").
"""

from typing import Any

from torch import dtype as Dtype
from torch import nn
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer

from spikeaudio.spiking.config import QUANT_METHOD, GIFConfig
from spikeaudio.spiking.conversion import spiking_layers, to_dense, to_spiking

register_quantization_config(QUANT_METHOD)(GIFConfig)


@register_quantizer(QUANT_METHOD)
class GIFQuantizer(HfQuantizer):  # type: ignore[misc]
    """Makes the layers of a model spike while it is loaded."""

    quantization_config: GIFConfig

    def validate_environment(self, *args: Any, **kwargs: Any) -> None:
        """Refuse a configuration that describes another checkpoint than the one that is loaded."""
        if not self.pre_quantized and self.quantization_config.prepared:
            raise ValueError(
                "a dense checkpoint is not rotated, shifted or packed: load it without quantization_config and "
                "prepare it with spikeaudio.spiking.preparation.calibration.calibrate"
            )

    def _process_model_before_weight_loading(self, model: nn.Module, **kwargs: Any) -> nn.Module:
        to_spiking(model, self.quantization_config)
        if not self.pre_quantized:  # a dense checkpoint lacks what neurons hold: no news
            ignored = set(getattr(model, "_keys_to_ignore_on_load_missing", None) or ())
            model._keys_to_ignore_on_load_missing = ignored | {r"\.neuron\."}  # type: ignore[assignment]
        return model

    def _process_model_after_weight_loading(self, model: nn.Module, **kwargs: Any) -> nn.Module:
        for name, layer in spiking_layers(model):
            if not self.pre_quantized:
                fresh = self.quantization_config.make_neuron(layer.in_features, name)
                layer.neuron = fresh.to(layer.weight.device, layer.weight.dtype)
            layer.neuron.refresh()
        return model

    def _dequantize(self, model: nn.Module, dtype: Dtype | None = None) -> nn.Module:
        to_dense(model)
        return model if dtype is None else model.to(dtype)

    def is_serializable(self) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        """Adapters can be trained on top, packed or not."""
        return True

    @property
    def is_qat_trainable(self) -> bool:
        """Real weights can be trained themselves, through the neurons' straight-through gradients."""
        return not self.quantization_config.packed
