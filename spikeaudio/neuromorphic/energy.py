"""What counted operations would cost: a model of energy, not a measurement, with compute and memory apart.

    compute = sum over kinds of operation of  number x picojoules,        memory = bytes read x picojoules per byte

Every figure of an `EnergyTable` is cited; no joule of a real device is claimed. The dense twin is priced as fp16 MACs
and as int8 MACs: comparing spikes with fp32 MACs only, as is usual, compares them with what nobody would run.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from spikeaudio.spiking.counting import LayerCount, ModelCount
from spikeaudio.spiking.layers.linear import PackedSpikingLinear


@dataclass(frozen=True)
class EnergyTable:
    """Picojoules of one operation, and of one byte that is read.

    Attributes:
        name: process and source.
        accumulate: 32-bit integer addition: one unary event behind one weight.
        shift_add: the same behind a shifter, which is wiring.
        int8_mac: 8-bit multiplication and accumulation: one graded event behind one weight.
        fp16_mac: 16-bit floating point multiplication and accumulation.
        fp32_multiply: one scale applied to one accumulator.
        on_chip_byte: read from an 8 KB SRAM.
        dram_byte: read from DRAM.
    """

    name: str
    accumulate: float
    shift_add: float
    int8_mac: float
    fp16_mac: float
    fp32_multiply: float
    on_chip_byte: float
    dram_byte: float


HOROWITZ_45NM = EnergyTable(
    name="45 nm; Horowitz, Computing's energy problem, ISSCC 2014, figure 1.1.9",
    accumulate=0.1,
    shift_add=0.1,
    int8_mac=0.3,  # 0.2 multiplication + 0.1 accumulation in 32 bits
    fp16_mac=1.5,
    fp32_multiply=3.7,
    on_chip_byte=1.25,
    dram_byte=160.0,
)


def compute_energy(
    count: LayerCount, table: EnergyTable = HOROWITZ_45NM, dense_operations: int = 0
) -> dict[str, float]:
    """Picojoules of the arithmetic of linear layers and attention products, in every currency.

    Overheads are in all but "dense_fp16".

    Args:
        count: counted operations of the spiking layers.
        table: prices.
        dense_operations: MACs of what does not (heads, adaptor, dense attention): fp16 in every currency, since
            nothing about them is quantized.
    """
    overhead = count.dequantization_operations * table.fp32_multiply + count.correction_operations * table.int8_mac
    dense = dense_operations * table.fp16_mac
    return {
        "unary": count.unary_operations * table.accumulate + overhead + dense,
        "bits": count.bit_operations * table.shift_add + overhead + dense,
        "graded": count.graded_operations * table.int8_mac + overhead + dense,
        "dense_int8": count.dense_operations * table.int8_mac + overhead + dense,
        "dense_fp16": count.dense_operations * table.fp16_mac + dense,
    }


def report(
    model: nn.Module,
    count: ModelCount,
    tokens: int,
    audio_seconds: float | None = None,
    table: EnergyTable = HOROWITZ_45NM,
) -> dict[str, Any]:
    """Everything that was counted, per token and per second of audio, under NeuroBench's names where it has one.

    As in NeuroBench, an operation is an AC where all that fired was -1, 0 or 1, else a MAC; its dense layers are MACs.

    Args:
        model: the counted one.
        count: from `counting`.
        tokens: positions that the model processed.
        audio_seconds: seconds of audio that it heard or said; None: no such figures.
        table: prices.

    Raises:
        ValueError: no token, or nothing was counted.
    """
    total = count.total
    if tokens < 1 or not (total.calls or count.dense_layers):
        raise ValueError(f"nothing was counted: {tokens} tokens, {total.calls} calls of spiking layers")
    dense = _dense_operations(count)
    per_token = {name: number / tokens for name, number in _operations(count).items()}
    attention = count.total_attention
    unspiking = dense + count.attention_operations - attention.dense_operations
    picojoules = compute_energy(total + attention, table, unspiking)
    moved = per_token["weight_bytes"] + per_token["cache_bytes"]
    out: dict[str, Any] = {
        **_size(model),
        "ActivationSparsity": round(total.silent_share, 4),
        "SynapticOperations": {
            "Effective_MACs": (total.graded_operations - total.ternary_operations + dense) / tokens,
            "Effective_ACs": total.ternary_operations / tokens,
            "Dense": (total.dense_operations + dense) / tokens,
        },
        "per_token": per_token,
        "unary_rate": round(total.unary_rate, 4),
        "energy_table": table.name,
        "compute_picojoules_per_token": {name: energy / tokens for name, energy in picojoules.items()},
        "memory_picojoules_per_token": {"dram": moved * table.dram_byte, "on_chip": moved * table.on_chip_byte},
    }
    if audio_seconds:
        out["per_audio_second"] = {key: value * tokens / audio_seconds for key, value in per_token.items()}
    return out


def _dense_operations(count: ModelCount) -> int:
    """MACs of the layers that do not spike."""
    return sum((layer.dense_operations for layer in count.dense_layers.values()), 0)


def _operations(count: ModelCount) -> dict[str, int]:
    """Events, operations and bytes of all tokens together, by the names of a report."""
    total, attention = count.total, count.total_attention
    return {
        "unary_events": total.unary_events,
        "bit_events": total.bit_events,
        "graded_events": total.graded_events,
        "unary_operations": total.unary_operations,
        "bit_operations": total.bit_operations,
        "graded_operations": total.graded_operations,
        "dense_layer_operations": _dense_operations(count),
        "attention_operations": count.attention_operations,
        "attention_unary_operations": attention.unary_operations,
        "attention_bit_operations": attention.bit_operations,
        "attention_graded_operations": attention.graded_operations,
        "correction_operations": total.correction_operations,
        "dequantization_operations": total.dequantization_operations,
        "weight_bytes": total.weight_bytes + sum(layer.weight_bytes for layer in count.dense_layers.values()),
        "cache_bytes": count.cache_bytes,
    }


def _size(model: nn.Module) -> dict[str, Any]:
    """Parameters, bytes and the share of weights that are zero."""
    weights, zeros, hidden = 0, 0, 0  # hidden: weights that share a byte with another
    for module in model.modules():
        if isinstance(module, nn.Linear):
            weight = module.codes() if isinstance(module, PackedSpikingLinear) else module.weight
            hidden += weight.numel() - module.weight.numel()
            weights, zeros = weights + weight.numel(), zeros + int((weight == 0).sum())
    tensors = {tensor.data_ptr(): tensor for tensor in (*model.parameters(), *model.buffers())}.values()
    return {
        "ParameterCount": sum(p.numel() for p in model.parameters()) + hidden,
        "Footprint": sum(t.numel() * t.element_size() for t in tensors),
        "ConnectionSparsity": round(zeros / max(1, weights), 4),
    }
