"""Linear layers on spikes.

    planes = neuron(transform(x))
    y[o]   = sum over planes p, weight groups g of  scale_p weight_scale[o, g] A[p, g, o]  + bias[o]
    A[p, g, o] = sum over channels c of p and g of  counts_p[c] codes[o, c]             (integers, exact)

`transform` is what preparation puts in front of the neuron (an online rotation, a mean shift), else the identity.
`SpikingLinear` has real weights: it is what a dense layer becomes first, calibrates and trains.
`PackedSpikingLinear` has integer weights and runs on integer accumulators. It is what a spiking checkpoint holds. Both
are `nn.Linear` with the dense layer's parameter names, so that adapters (peft) and parameter filters find them.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeaudio.spiking.kernels.execution import Execution, folded, integer_product, product_type
from spikeaudio.spiking.layers.operand import Operand, UnpackedRows
from spikeaudio.spiking.layers.packed_codes import PackedCodes
from spikeaudio.spiking.neurons.neuron import SpikingNeuron
from spikeaudio.spiking.neurons.planes import Plane, spread
from spikeaudio.spiking.weights.packing import pack, packed_width, unpack

_FEW_TOKENS = 8  # up to here, one product for all weight groups is faster than one for each
_Part = tuple[Plane, Tensor | None, int | slice]
"""Counts of one weight group or of several, which channels the plane has (where it has a zero point), which groups."""


class SpikingLinear(nn.Linear):
    """A linear layer behind a spiking neuron, with real weights.

    Args:
        in_features: C.
        out_features: O.
        neuron: turns inputs into spikes; a child module of its own.
        bias: whether there is one.
        device: device of the parameters.
        dtype: dtype of the parameters.
        transform: (..., C) -> (..., C), affine, undone in weights and bias; None: the identity.

    Shape:
        input: (..., C), returned: (..., O), dtype of the input.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        neuron: SpikingNeuron,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        transform: nn.Module | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        self.transform = nn.Identity() if transform is None else transform
        self.neuron = neuron

    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(self.neuron(self.transform(input)), self.weight, self.bias)

    def planes(self, input: Tensor) -> list[Plane]:
        """What the neuron fires for inputs (..., C) of the layer."""
        return self.neuron.planes(self.transform(input))

    @classmethod
    def of(cls, dense: nn.Linear, neuron: SpikingNeuron, transform: nn.Module | None = None) -> "SpikingLinear":
        """The spiking form of a dense layer; weights are shared, not copied."""
        layer = cls(
            dense.in_features,
            dense.out_features,
            neuron,
            dense.bias is not None,
            device="meta",
            transform=transform,
        )
        layer.weight, layer.bias = dense.weight, dense.bias
        return layer


class PackedSpikingLinear(SpikingLinear):
    """A linear layer behind a spiking neuron, with integer weights.

    Args:
        in_features: C.
        out_features: O.
        neuron: turns inputs into spikes.
        bits: bits of a weight, 2 to 8.
        group_size: inputs that share a weight scale; None: all of them.
        bias: whether there is one.
        device: device of the parameters.
        dtype: dtype of the bias.
        transform: as of `SpikingLinear`.

    Attributes:
        weight: (O, bytes) uint8, packed codes (see `packing`); without gradient, closed to arithmetic (`PackedCodes`).
        weight_scale: (O, groups) float32, value of one weight step.
        execution: how accumulators come about; `folded` by default, `event_driven` gives the same numbers.
        operand: where the codes come from when the layer runs; unpacked for every call by default, see
            `spikeaudio.spiking.conversion.keep_unpacked`.

    Raises:
        ValueError: bits that cannot be packed, or a group size that does not divide C.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        neuron: SpikingNeuron,
        bits: int = 4,
        group_size: int | None = None,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        transform: nn.Module | None = None,
    ) -> None:
        group_size = group_size or in_features
        if in_features % group_size:
            raise ValueError(f"group_size {group_size} does not divide {in_features} inputs")
        super().__init__(in_features, out_features, neuron, bias, device, dtype, transform)
        self.bits, self.group_size = bits, group_size
        width, groups = packed_width(in_features, bits), in_features // group_size
        self.weight = PackedCodes(torch.zeros(out_features, width, dtype=torch.uint8, device=device))
        self.weight_scale = nn.Parameter(
            torch.ones(out_features, groups, dtype=torch.float32, device=device), requires_grad=False
        )
        self.execution: Execution = folded
        self.operand: Operand = UnpackedRows()

    @classmethod
    def pack(
        cls, layer: SpikingLinear, codes: Tensor, scale: Tensor, bits: int = 4, group_size: int | None = None
    ) -> "PackedSpikingLinear":
        """The packed form of a layer whose weights were quantized: codes (O, C) int8, scale (O, groups)."""
        packed = cls(
            layer.in_features,
            layer.out_features,
            layer.neuron,
            bits,
            group_size,
            layer.bias is not None,
            device="meta",
            transform=layer.transform,
        )
        packed.weight = PackedCodes(pack(codes, bits))
        packed.weight_scale = nn.Parameter(scale.float(), requires_grad=False)
        packed.bias = layer.bias
        return packed

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """As of `nn.Module`; packed weights from anywhere become `PackedCodes`."""
        if name == "weight" and param is not None and param.dtype == torch.uint8 and type(param) is not PackedCodes:
            notes, param = vars(param), PackedCodes(param.data)
            vars(param).update(notes)  # transformers marks what it loaded
        super().register_parameter(name, param)

    def _apply(self, *args: Any, **kwargs: Any) -> "PackedSpikingLinear":
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.register_parameter("weight", self._parameters["weight"])  # torch may have made a plain parameter of it
        return self

    @property
    def packed(self) -> Tensor:
        """The packed codes, (O, bytes) uint8, as a plain tensor."""
        return self.weight.as_subclass(Tensor)

    def codes(self) -> Tensor:
        """Weight codes, (O, C) int8."""
        return unpack(self.packed, self.in_features, self.bits)

    def dense_weight(self) -> Tensor:
        """The weights that the codes stand for, (O, C) float32."""
        return self.codes() * self.weight_scale.repeat_interleave(self.group_size, dim=1)

    def forward(self, input: Tensor) -> Tensor:
        if torch.is_grad_enabled() and input.requires_grad:  # accumulators have no gradient
            weight = self.dense_weight().to(input.dtype)
            return functional.linear(self.neuron(self.transform(input)), weight, self.bias)
        out = self.accumulate(self.planes(input)).to(input.dtype)
        return out if self.bias is None else out + self.bias.to(out.dtype)

    def accumulate(self, planes: list[Plane]) -> Tensor:
        """Sum over planes and weight groups of scaled integer accumulators: (..., O) float32."""
        weight, scale = self.packed, self.weight_scale
        inputs = [part for plane in planes for part in self._parts(plane)]
        types = {product_type(plane.largest, weight.device) for plane in planes}
        dtype = torch.int8 if types == {torch.int8} and scale.shape[1] == 1 else torch.float32
        outputs: list[Tensor] = []
        first = 0
        for codes in self.operand.rows(weight, self.in_features, self.bits, dtype):
            last = first + codes.shape[0]
            of_rows = scale if last - first == self.out_features else scale[first:last]
            outputs.append(self._scaled_sums(inputs, codes, of_rows))
            first = last
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)

    def _scaled_sums(self, inputs: list[_Part], codes: Tensor, scale: Tensor) -> Tensor:
        """`accumulate` for some rows: codes (R, C), scale (R, G) -> (..., R)."""
        largest_code = 2 ** (self.bits - 1)
        by_group = codes.reshape(codes.shape[0], -1, self.group_size).movedim(1, 0) if scale.shape[1] > 1 else None
        total: Tensor | None = None
        for plane, present, groups in inputs:
            weight = codes if by_group is None else by_group[groups]
            sums = self.execution(plane, weight, largest_code)  # (..., R), of several groups (G, ..., R)
            if plane.zero is not None and present is not None:  # counts of silence: taken off again
                sums = sums - plane.zero * integer_product(present, weight, largest_code, largest=1)
            if isinstance(groups, int):
                scaled = [plane.scale * (sums * scale[:, groups])]
            else:
                by_output = scale.T[groups].reshape(len(sums), *[1] * (sums.dim() - 2), -1)
                scaled = list((plane.scale * (sums * by_output)).unbind())
            for each in scaled:
                total = each if total is None else total + each
        assert total is not None
        return total

    def _parts(self, plane: Plane) -> list[_Part]:
        """A plane by weight groups: all at once for few tokens, one at a time for many."""
        whole = spread(plane, self.in_features)
        present = None if plane.zero is None else self._presence(plane)
        num_groups, tokens = self.in_features // self.group_size, plane.counts.shape[:-1].numel()
        if num_groups == 1:
            return [(whole, present, 0)]
        counts = self._by_group(whole.counts)
        presence = None if present is None else self._by_group(present)
        parts: list[int | slice] = [slice(None)] if tokens <= _FEW_TOKENS else list(range(num_groups))
        return [
            (replace(whole, counts=counts[part]), None if presence is None else presence[part], part) for part in parts
        ]

    def _presence(self, plane: Plane) -> Tensor:
        """Counts of one token, 1 on the plane's channels and 0 on the others of the layer: (1, ..., C) int32."""
        ones = plane.counts.new_ones(*[1] * (plane.counts.dim() - 1), plane.counts.shape[-1])
        return spread(replace(plane, counts=ones), self.in_features).counts

    def _by_group(self, counts: Tensor) -> Tensor:
        """(..., C) -> (G, ..., C / G)."""
        groups = self.in_features // self.group_size
        return counts.reshape(*counts.shape[:-1], groups, self.group_size).movedim(-2, 0)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, bits={self.bits}, group_size={self.group_size}"
