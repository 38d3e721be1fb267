"""Adapters of peft around spiking layers: they stay beside them, since no weights compute what both do.

An adapter reads the real inputs of a layer. The layer's weights read spikes, behind a rotation and a shift where there
is one. Merging adds the adapter's update to the weights, so that it reads spikes from then on: another model, without
an error. Where dense layers have adapters, too, some of them are merged before the first spiking one is reached.
Hence the look before the first layer is merged. peft has no place to ask for it, so its two methods that merge a model
get one (`refuse_merging`). An adapter of a parameter (`target_parameters` of peft) is part of the weights already; it
reads spikes, and merging it into real weights is exact.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from types import ModuleType
from typing import Any

from torch import nn

from spikeaudio.spiking.layers.linear import PackedSpikingLinear, SpikingLinear


def refuse_merging(tuners: ModuleType) -> None:
    """Let every tuner of peft refuse to merge a model whose spiking layers have adapters.

    Args:
        tuners: module ``peft.tuners.tuners_utils``, just imported.
    """
    base = tuners.BaseTuner
    for name in ("merge_adapter", "merge_and_unload"):
        setattr(base, name, _refusing(getattr(base, name), tuners.BaseTunerLayer))


def _refusing(merge: Callable[..., Any], wrapper: type) -> Callable[..., Any]:
    @wraps(merge)
    def merged(self: Any, *args: Any, **kwargs: Any) -> Any:
        chosen = kwargs.get("adapter_names") or next((each for each in args if isinstance(each, list)), None)
        _check(self.model, wrapper, chosen)
        return merge(self, *args, **kwargs)

    return merged


def _check(model: nn.Module, wrapper: Any, chosen: Sequence[str] | None) -> None:
    """Raise ValueError where an adapter of these names (None: an active one) lies around a spiking layer."""
    for name, module in model.named_modules():
        if not isinstance(module, wrapper) or not _reads_inputs(module):
            continue
        adapters = module.active_adapters if chosen is None else chosen
        if module._get_available_adapters().intersection(adapters):
            raise ValueError(
                f"{name} spikes, so no adapter can be merged into it: keep the adapter beside the model, or merge it "
                "into the dense checkpoint and convert that"
            )


def _reads_inputs(wrapped: Any) -> bool:
    """Whether an adapter computes beside a spiking layer, instead of changing real weights of it."""
    layer = wrapped.get_base_layer()
    inside = hasattr(wrapped, "parameter_name") and not isinstance(layer, PackedSpikingLinear)
    return isinstance(layer, SpikingLinear) and not inside
