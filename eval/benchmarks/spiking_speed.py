"""How fast a packed spiking layer is beside the dense one: ratios from one run, one thread, inputs interleaved.

    uv run python -m eval.benchmarks.spiking_speed [--rounds 20]

Every row is one linear layer, quantization of its inputs included, against `F.linear` in bfloat16 and float32 on the
same inputs: above 1 the spiking form is faster. "folded" is what a checkpoint runs; "unpacked" is the same with its
weights as int8 in memory already, which shows what unpacking four bits costs; "events" adds weight columns where a
spike is. Machines are noisy: compare ratios, not times.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeaudio.spiking.execution import event_driven, folded
from spikeaudio.spiking.linear import PackedSpikingLinear, SpikingLinear
from spikeaudio.spiking.preset import preset
from spikeaudio.spiking.weight_grid import fitted_grid

LAYERS = {"tiny, q": (192, 192), "tiny, gate": (192, 640), "tiny, down": (640, 192), "7B, gate": (3584, 18944)}
TOKENS = {"decode": 1, "prefill": 256}
EVENTS_UP_TO = 1_000_000  # weights: columns of larger layers take minutes
HEADER = ("layer", "job", "folded / bf16", "folded / fp32", "unpacked / bf16", "events / bf16", "bf16 ms")


class Unpacked(PackedSpikingLinear):
    """A packed layer that keeps its codes as int8."""

    kept: Tensor

    def codes(self) -> Tensor:
        return self.kept


def spiking(inputs: int, outputs: int) -> PackedSpikingLinear:
    """A layer of the default preset, without its preparation."""
    config = preset("w4a4", rotate=False, shift=False)
    layer = SpikingLinear.of(nn.Linear(inputs, outputs, bias=False), config.make_neuron(inputs))
    grid = fitted_grid(layer.weight[:64], config.weight_bits)  # random rows are alike: one search for all
    scale = grid.scale.mean(0, keepdim=True).expand(outputs, 1).contiguous()
    codes = (layer.weight / scale).round().clamp(-8, 7).to(torch.int8)
    return PackedSpikingLinear.pack(layer, codes, scale, config.weight_bits).eval()


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@torch.no_grad()
def compare(inputs: int, outputs: int, tokens: int, rounds: int) -> tuple[float, ...]:
    """Median times of bf16, fp32, folded, unpacked and events (nan where they are not run)."""
    layer = spiking(inputs, outputs)
    unpacked = Unpacked.__new__(Unpacked)
    unpacked.__dict__ = dict(layer.__dict__)
    unpacked.kept = layer.codes()
    weight = layer.dense_weight()
    half, x = weight.bfloat16(), torch.randn(tokens, inputs)
    x_half = x.bfloat16()
    calls: list[Callable[[], object]] = [
        lambda: functional.linear(x_half, half),
        lambda: functional.linear(x, weight),
        lambda: layer(x),
        lambda: unpacked(x),
    ]
    if outputs * inputs <= EVENTS_UP_TO:

        def events() -> None:
            layer.execution = event_driven
            layer(x)
            layer.execution = folded

        calls.append(events)
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds + 1):
        for each, call in zip(times, calls, strict=True):
            each.append(seconds(call))
    medians = [statistics.median(each[1:]) for each in times]  # the first call warms up
    return tuple(medians + [float("nan")] * (5 - len(medians)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    sys.stdout.write(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}\n")
    for name, (inputs, outputs) in LAYERS.items():
        for job, tokens in TOKENS.items():
            rounds = args.rounds if inputs * outputs <= EVENTS_UP_TO else max(3, args.rounds // 10)
            half, full, fold, unpacked, events = compare(inputs, outputs, tokens, rounds)
            ratios = (half / fold, full / fold, half / unpacked, half / events)
            figures = ["-" if ratio != ratio else f"{ratio:.2f}" for ratio in ratios]
            sys.stdout.write(f"| {' | '.join((f'{name} {inputs}x{outputs}', job, *figures, f'{1000 * half:.3f}'))} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
