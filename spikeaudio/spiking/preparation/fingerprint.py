"""Digests that tell whether a conversion that goes on is the one that was begun."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class Digest(Protocol):
    """A running hash, such as ``hashlib.sha256()``."""

    def update(self, data: bytes, /) -> None: ...


def add_tensor(digest: Digest, name: str, tensor: Tensor, shape: Sequence[int] | None = None) -> None:
    """Feed a name, a type, a shape (of the tensor, unless another one is given) and the numbers to a hash."""
    digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape if shape is None else shape)}".encode())
    digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())


def add_batch(digest: Digest, batch: Mapping[str, Any]) -> None:
    """Feed everything that a batch holds, names included, to a hash."""
    for name in sorted(batch):
        value = batch[name]
        if isinstance(value, Tensor):
            add_tensor(digest, name, value)
        else:
            digest.update(f"{name}{value!r}".encode())
