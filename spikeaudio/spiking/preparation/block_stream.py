"""Calibration inputs on their way through a stack of blocks, one block at a time.

    inputs[0] = front(batch),    inputs[b] = outputs[source[b]],    outputs[b] = block b(inputs[b])

`source` is found by watching which tensor a block receives: the block before it, or, where a branch leaves a
trunk, an earlier one. The model's front (embeddings, adaptors, masks, rotary tables) runs once for every batch;
after that only the inputs of the blocks whose turn is next are kept, so a model of any depth takes the memory of
one block.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

Observer = Callable[[Tensor, Tensor], None]
"""(inputs (N, C), outputs (N, O)) of a layer at the N tokens of a batch that are no padding."""

RealTokens = Callable[[Mapping[str, Any]], Tensor | None]
"""Inputs of the model -> (B, T) bool, which of the positions that a block sees are no padding; None: all of them."""

_FRONT = -1  # the source of blocks that read what the front gives


def attended_tokens(batch: Mapping[str, Any]) -> Tensor | None:
    """What a 2-D ``attention_mask`` (B, T) says of the positions of a decoder."""
    mask = batch.get("attention_mask")
    return mask.bool() if isinstance(mask, Tensor) and mask.dim() == 2 else None


class _Stop(Exception):
    """Ends a forward pass whose rest nobody needs."""


@dataclass
class _Call:
    block: nn.Module
    inputs: Tensor
    rest: tuple[Any, ...]  # positional arguments behind the inputs
    shared: dict[str, Any]
    outputs: Any = None


class BlockStream:
    """All calibration batches in front of a model's next block.

    Args:
        model: in eval mode.
        batches: inputs of the model, tensors on any device.
        blocks: names of the blocks, which all get the same masks and positions; None: all with a `self_attn`.
        real: finds padding, which observers do not see.

    Attributes:
        names: names of the blocks, in the order in which they are called.

    Raises:
        ValueError: no blocks, no batches, or blocks whose inputs come from elsewhere.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        batches: Iterable[Mapping[str, Any]],
        blocks: Sequence[str] | None = None,
        real: RealTokens = attended_tokens,
    ) -> None:
        modules = dict(model.named_modules())
        names = [name for name, module in modules.items() if hasattr(module, "self_attn")] if blocks is None else blocks
        self._blocks = {modules[name]: name for name in names}
        if not self._blocks:
            raise ValueError("the model has no blocks (modules with self_attn)")
        self._model = model
        self._rest: list[tuple[Any, ...]] = []
        self._shared: list[dict[str, Any]] = []
        self._real: list[Tensor | None] = []
        fronts: list[Tensor] = []
        for batch in batches:
            moved = {k: v.to(model.device) if isinstance(v, Tensor) else v for k, v in batch.items()}
            calls = self._calls(moved, 1 if fronts else len(self._blocks))
            if not fronts:
                self._order, self._sources = self._wiring(calls)
            fronts.append(calls[0].inputs)
            self._rest.append(calls[0].rest)
            self._shared.append(calls[0].shared)
            self._real.append(real(moved))
        if not fronts:
            raise ValueError("batches is empty: calibration needs inputs")
        self.names = [self._blocks[block] for block in self._order]
        self._states = {_FRONT: fronts}

    def _calls(self, batch: Mapping[str, Any], count: int) -> list[_Call]:
        """The first `count` calls of blocks; the last one is not carried out."""
        calls: list[_Call] = []

        def before(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            shared = {name: value for name, value in kwargs.items() if name != "hidden_states"}
            calls.append(_Call(block, args[0] if args else kwargs["hidden_states"], args[1:], shared))
            if len(calls) == count:
                raise _Stop

        def after(block: nn.Module, args: tuple[Any, ...], outputs: Any) -> None:
            calls[-1].outputs = _hidden(outputs)

        handles = [block.register_forward_pre_hook(before, with_kwargs=True) for block in self._blocks]
        handles += [block.register_forward_hook(after) for block in self._blocks]
        with _removing(handles), torch.no_grad():
            try:
                self._model(**{**batch, "use_cache": False})
            except _Stop:
                return calls
        raise ValueError(f"the model called {len(calls)} of {len(self._blocks)} blocks: the others see no inputs")

    def _wiring(self, calls: list[_Call]) -> tuple[list[nn.Module], list[int]]:
        """Order of the blocks, and where each gets its inputs."""
        sources: list[int] = []
        for index, call in enumerate(calls):
            name, first = self._blocks[call.block], calls[0]
            different = [key for key, value in call.shared.items() if value is not first.shared.get(key)]
            same = len(call.rest) == len(first.rest) and all(a is b for a, b in zip(call.rest, first.rest, strict=True))
            if different or call.shared.keys() != first.shared.keys() or not same:
                raise ValueError(f"{name} gets other {', '.join(different) or 'arguments'} than the first block")
            found = [n for n in range(index) if calls[n].outputs is call.inputs]
            if not found and call.inputs is not first.inputs:
                raise ValueError(f"{name} reads a tensor that is no block's output")
            sources.append(found[-1] if found else _FRONT)
        return [call.block for call in calls], sources

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._shared)

    def tokens(self, number: int, states: Tensor) -> Tensor:
        """What belongs to the N tokens of a batch that are no padding: (B, T, D) -> (N, D)."""
        real = self._real[number]
        return states.flatten(0, -2) if real is None else states[real]

    def outputs(self, index: int, number: int) -> Tensor:
        """Outputs (B, T, D) of the block for one batch, with gradients to its parameters; its inputs stay.

        Args:
            index: index of the block, in order of `names`.
            number: number of the batch, below `len(self)`.
        """
        hidden = self._states[self._sources[index]][number]
        return self._call(index, number, hidden)

    def _call(self, index: int, number: int, hidden: Tensor) -> Tensor:
        return _hidden(self._order[index](hidden, *self._rest[number], **self._shared[number]))

    def observe(self, index: int, observers: Mapping[nn.Module, Observer]) -> None:
        """Run the block as far as the observed layers need; its inputs stay.

        Args:
            index: index of the block, in order of `names`.
            observers: observers of layers inside of it.
        """
        inputs = self._states[self._sources[index]]
        for number, hidden in enumerate(inputs):
            self._run(index, number, hidden, observers, stop=True)

    def advance(self, index: int, observers: Mapping[nn.Module, Observer] | None = None) -> list[Tensor]:
        """Run the block and put its outputs in front of the blocks that read them; call it once, in order.

        Returns:
            The outputs (B, T, D), for every batch, until the next call takes their places.
        """
        source, later = self._sources[index], self._sources[index + 1 :]
        inputs = self._states[source] if source in later else self._states.pop(source)
        outputs = list(inputs) if source in later else inputs  # else each output takes the place of its input
        for number, hidden in enumerate(inputs):
            outputs[number] = self._run(index, number, hidden, observers or {}, stop=False)
        if index in later:
            self._states[index] = outputs
        return outputs

    @torch.no_grad()
    def _run(
        self, index: int, number: int, hidden: Tensor, observers: Mapping[nn.Module, Observer], stop: bool
    ) -> Tensor:
        waiting = set(observers)

        def hook(layer: nn.Module, args: tuple[Tensor, ...], outputs: Tensor) -> None:
            observers[layer](self.tokens(number, args[0]), self.tokens(number, outputs))
            waiting.discard(layer)
            if stop and not waiting:
                raise _Stop

        with _removing([layer.register_forward_hook(hook) for layer in observers]):
            try:
                return self._call(index, number, hidden)
            except _Stop:
                return hidden


def _hidden(outputs: Any) -> Tensor:
    """A block's output without what older versions return beside it."""
    hidden: Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
    return hidden


@contextmanager
def _removing(handles: list[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
