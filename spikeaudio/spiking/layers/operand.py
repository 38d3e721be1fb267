"""Operands: the integer weights of a packed layer as its product reads them.

| operand | memory beside the packed codes | a token takes |
|---|---|---|
| `UnpackedRows` (default) | none | several times a dense product: unpacking is most of it |
| `KeptCodes` | 1 byte a weight where the CPU multiplies int8, else 4 | about as long as a dense product |

Both give the same integers. What is kept is derived from the packed weights and belongs to one layer in memory. It is
in no state dict, copies and pickles of the layer begin without it, and it is made again after the weights changed or
moved (`load_state_dict`, `.to`, assignment, any in-place operation that autograd sees). A write through ``weight.data``
is the exception, as everywhere in torch: nothing sees it. Give the layer a new `KeptCodes` then.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from spikeaudio.spiking.weights.packing import unpack

_CODES_AT_ONCE = 2**18  # with what is computed from them, they stay in a core's cache


class Operand(ABC):
    """Where the weight codes of a layer come from when it runs."""

    @abstractmethod
    def rows(self, packed: Tensor, columns: int, bits: int, dtype: torch.dtype) -> Iterator[Tensor]:
        """The codes of packed weights, as few or many rows at a time as is best.

        Args:
            packed: (O, bytes) uint8.
            columns: C.
            bits: bits of a code.
            dtype: the type that the product would read soonest, int8 or float32.

        Yields:
            (R, C) each, of that type or int8; together the O rows in order.
        """


class UnpackedRows(Operand):
    """Codes are unpacked for every call, so many rows at a time that they need not leave the cache."""

    def rows(self, packed: Tensor, columns: int, bits: int, dtype: torch.dtype) -> Iterator[Tensor]:
        for part in torch.split(packed, max(1, _CODES_AT_ONCE // columns)):
            yield unpack(part, columns, bits)


class KeptCodes(Operand):
    """Codes are unpacked at the first call and kept; one object for one layer."""

    def __init__(self) -> None:
        self._kept: tuple[Tensor, int, Tensor] | None = None  # packed weights, their version then, codes

    def __reduce__(self) -> tuple[Any, ...]:
        return KeptCodes, ()

    def rows(self, packed: Tensor, columns: int, bits: int, dtype: torch.dtype) -> Iterator[Tensor]:
        if packed.is_inference():  # its changes cannot be seen
            yield from UnpackedRows().rows(packed, columns, bits, dtype)
            return
        kept = self._kept
        if kept is None or not kept[0].is_set_to(packed) or kept[1] != packed._version or kept[2].dtype != dtype:
            # The view keeps the storage, so that no other weights can come to lie at its address.
            kept = self._kept = packed.detach(), packed._version, _arranged(unpack(packed, columns, bits), dtype)
        yield kept[2]


def _arranged(codes: Tensor, dtype: torch.dtype) -> Tensor:
    """(O, C) int8 -> the same in `dtype`; floats with the O numbers of a channel side by side, which is quickest."""
    return codes if dtype == torch.int8 else codes.T.to(dtype, memory_format=torch.contiguous_format).T
