"""The parameter of packed weights: bytes that hold several codes each, and therefore no numbers to add to.

Adapters (peft) merge by adding a dense update to ``weight.data``. Of packed weights that is nonsense: with 8 bits the
shapes fit and the model is silently wrong, else a size does not match. Besides, an adapter reads real inputs while
packed weights read spikes, so no weights compute what both do. Arithmetic on the bytes is refused in one sentence.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_ARITHMETIC = frozenset(
    f"{prefix}{name}{suffix}"
    for name in ("add", "sub", "mul", "div", "true_divide")
    for prefix, suffix in (("", ""), ("", "_"), ("__", "__"), ("__i", "__"), ("__r", "__"))
) | {"addmm", "addmm_", "lerp", "lerp_", "addcmul", "addcmul_"}
_ALIASES = frozenset({"__get__", "clone"})  # of ``weight.data`` and its copies, which adapters write to


class _Bytes(Tensor):
    """Packed codes that no arithmetic may touch; every other operation gives a plain tensor."""

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in _ARITHMETIC:
            raise ValueError(
                f"packed spiking weights cannot be changed by arithmetic ({name}), so no adapter can be merged into "
                "them: keep the adapter beside the model, or merge it into the dense checkpoint and convert that"
            )
        with torch._C.DisableTorchFunctionSubclass():
            out = func(*args, **(kwargs or {}))
            keeps = name in _ALIASES and isinstance(out, Tensor) and out.dtype == torch.uint8
            return out.as_subclass(_Bytes) if keeps else out


class PackedCodes(_Bytes, nn.Parameter):
    """Packed weight codes as a parameter without gradient.

    Args:
        data: (O, bytes) uint8.
    """

    def __new__(cls, data: Tensor, requires_grad: bool = False) -> "PackedCodes":
        return Tensor._make_subclass(cls, data.detach().as_subclass(Tensor), False)

    def plain(self) -> Tensor:
        """The same memory as a tensor like any other."""
        return self.as_subclass(Tensor)

    def __deepcopy__(self, memo: dict[int, Any]) -> "PackedCodes":
        if id(self) not in memo:
            memo[id(self)] = PackedCodes(self.plain().clone())
        copied: PackedCodes = memo[id(self)]
        return copied

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return PackedCodes, (self.plain(),)
