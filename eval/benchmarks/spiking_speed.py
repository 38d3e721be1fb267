"""How fast packed spiking layers are beside dense ones: ratios from one run, one thread, calls interleaved.

    uv run python -m eval.benchmarks.spiking_speed [--rounds 20] [--dense DIR --spiking DIR]

Every row is one linear layer, quantization of its inputs included, against `F.linear` in bfloat16 and float32 on the
same inputs: above 1 the spiking form is faster. "packed" unpacks its weights for every call, as a model from
transformers' `from_pretrained` does. "kept" has them unpacked in memory (`spikeaudio.spiking.layers.operand`), as
`SpikeAudio.from_pretrained` arranges for small models. "events" adds weight columns where a spike is. The last line
compares a dense checkpoint with its spiking twin. Steps per second of the whole language model, one token at a time,
in float32. Machines are noisy: compare ratios, not times.
"""

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from transformers import DynamicCache

from spikeaudio import SpikeAudio
from spikeaudio.spiking.conversion import keep_unpacked, spiking_layers
from spikeaudio.spiking.kernels.execution import event_driven
from spikeaudio.spiking.layers.linear import PackedSpikingLinear, SpikingLinear
from spikeaudio.spiking.layers.operand import UnpackedRows
from spikeaudio.spiking.preset import preset
from spikeaudio.spiking.weights.weight_grid import fitted_grid

LAYERS = {"tiny, q": (192, 192), "tiny, gate": (192, 640), "tiny, down": (640, 192), "7B, gate": (3584, 18944)}
TOKENS = {"decode": 1, "prefill": 256}
EVENTS_UP_TO = 1_000_000  # weights: columns of larger layers take minutes
STEPS = 32  # of a whole model, at positions that begin with 0
HEADER = ("layer", "job", "packed / bf16", "kept / bf16", "kept / fp32", "events / bf16", "bf16 ms")


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


def medians(calls: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Median seconds of each call, one after the other in every round; the first round warms up."""
    times = [[seconds(call) for call in calls] for _ in range(rounds + 1)][1:]
    return [statistics.median(each) for each in zip(*times, strict=True)]


@torch.no_grad()
def compare(inputs: int, outputs: int, tokens: int, rounds: int) -> list[float]:
    """Median times of bf16, fp32, packed, kept and events (nan where they are not run)."""
    layer = spiking(inputs, outputs)
    kept, events = copy.deepcopy(layer), copy.deepcopy(layer)
    keep_unpacked(kept)
    events.execution = event_driven
    weight = layer.dense_weight()
    half, x = weight.bfloat16(), torch.randn(tokens, inputs)
    x_half = x.bfloat16()
    calls: list[Callable[[], object]] = [
        lambda: functional.linear(x_half, half),
        lambda: functional.linear(x, weight),
        lambda: layer(x),
        lambda: kept(x),
    ]
    if outputs * inputs <= EVENTS_UP_TO:
        calls.append(lambda: events(x))
    times = medians(calls, rounds)
    return times + [float("nan")] * (5 - len(times))


@torch.inference_mode()
def decode(model: nn.Module) -> None:
    """STEPS steps of one token each, on both streams."""
    cache = DynamicCache()
    ids = torch.ones(1, 1, dtype=torch.long)
    for _ in range(STEPS):
        model(input_ids=ids, audio_input_ids=ids, past_key_values=cache, use_cache=True)


def compare_models(dense: Path, spiking: Path, rounds: int) -> dict[str, float]:
    """Steps per second of the dense model, of its twin packed, and of its twin kept unpacked."""
    models = {"dense": dense, "spiking, packed": spiking, "spiking, kept": spiking}
    loaded = {name: SpikeAudio.from_pretrained(folder).model for name, folder in models.items()}
    for _, layer in spiking_layers(loaded["spiking, packed"]):
        layer.operand = UnpackedRows()
    keep_unpacked(loaded["spiking, kept"])
    times = medians([lambda model=model: decode(model) for model in loaded.values()], rounds)
    return {name: STEPS / each for name, each in zip(loaded, times, strict=True)}


def show(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--dense", type=Path, default=Path("checkpoints/spikeaudio-tiny"))
    parser.add_argument("--spiking", type=Path, default=Path("checkpoints/spikeaudio-tiny-w4a4"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    show(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
    for name, (inputs, outputs) in LAYERS.items():
        for job, tokens in TOKENS.items():
            rounds = args.rounds if inputs * outputs <= EVENTS_UP_TO else max(3, args.rounds // 10)
            half, full, packed, kept, events = compare(inputs, outputs, tokens, rounds)
            ratios = (half / packed, half / kept, full / kept, half / events)
            figures = ["-" if ratio != ratio else f"{ratio:.2f}" for ratio in ratios]
            show(f"| {' | '.join((f'{name} {inputs}x{outputs}', job, *figures, f'{1000 * half:.3f}'))} |")
    rates = compare_models(args.dense, args.spiking, max(3, args.rounds // 4))
    show("\n" + ", ".join(f"{name}: {rate:.0f} steps/s ({rate / rates['dense']:.2f})" for name, rate in rates.items()))


if __name__ == "__main__":
    main()
