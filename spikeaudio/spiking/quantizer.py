"""Spiking checkpoints in transformers: ``from_pretrained(folder, quantization_config=GIFConfig(...))``.

The quantizer replaces layers before weights are loaded. From a dense checkpoint they keep real weights. A packed
checkpoint names its `GIFConfig` in ``config.json`` and needs nothing passed.

Packed weights of a small model (up to `UNPACKED_BYTES` unpacked) are kept unpacked in memory, which is faster. Those of
a larger one are unpacked at every call, unless you ask for `keep_unpacked`. Both give the same numbers.

Two traps of transformers 5.23. Buffers and parameters that a dense checkpoint does not have come back uninitialised, so
neurons are made after loading. Without ``import spikeaudio`` a plain Qwen2 checkpoint loads dense, with only a log
line ("Unknown quantization type").
"""

from typing import Any

from torch import dtype as Dtype
from torch import nn
from transformers.quantizers.base import HfQuantizer

from spikeaudio.spiking.config import GIFConfig
from spikeaudio.spiking.conversion import keep_unpacked, spiking_layers, to_dense, to_spiking, unpacked_bytes

UNPACKED_BYTES = 2**26  # 64 MiB: packed weights that take less stay unpacked in memory


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
        if not self.pre_quantized:  # a dense checkpoint knows no neurons: that they are missing is no news
            known = getattr(model, "_keys_to_ignore_on_load_missing", None) or ()
            setattr(model, "_keys_to_ignore_on_load_missing", [*known, r"\.neuron\."])  # noqa: B010 (nn.Module's type)
        return model

    def _process_model_after_weight_loading(self, model: nn.Module, **kwargs: Any) -> nn.Module:
        for name, layer in spiking_layers(model):
            if not self.pre_quantized:
                fresh = self.quantization_config.make_neuron(layer.in_features, name)
                layer.neuron = fresh.to(layer.weight.device, layer.weight.dtype)
            layer.neuron.refresh()
        if unpacked_bytes(model) <= UNPACKED_BYTES:
            keep_unpacked(model)
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
