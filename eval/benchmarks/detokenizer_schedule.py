"""Codes to speech: the schedule of Kimi-Audio's published code against ours, CPU seconds per second of audio.

    uv run python -m eval.benchmarks.detokenizer_schedule [--hidden-size 384 --depth 6] [--json OUT] [--quick]

Both run the same networks with the same random weights and the release's settings: chunks of 30 codes, 12 codes of
look-ahead, 30 points of Euler's method (29 evaluations), a context of 900 frames, no guidance. BigVGAN of the release's
topology. They do the same number of network evaluations on the same number of frames. What differs is how:

    reference  modulates each frame, decodes half a chunk of mel again in every chunk (`kimi_reference`)
    ours       modulates each code once, decodes every frame once with an exact streaming state

The published code also copies all of the network's parameters in each chunk, which is not counted here. Its figure is
therefore a lower bound. CPU seconds are those of the process, on one thread. The two are interleaved, chunk by chunk.
Vocos in BigVGAN's place is what spikeaudio's own checkpoints use. It is shown beside them.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

PARTS = ("detokenizer", "vocoder", "total")
HEADER = ("part", "reference", "ours", "ratio")


def show(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden-size", type=int, default=384, help="width of the DiT; the release has 2304")
    parser.add_argument("--depth", type=int, default=6, help="blocks of the DiT; the release has 16")
    parser.add_argument("--channels", type=int, default=256, help="first width of BigVGAN; the release has 2048")
    parser.add_argument("--ode-steps", type=int, default=29, help="evaluations of the network per chunk")
    parser.add_argument("--chunks", type=int, default=6, help="measured chunks of 2.4 seconds")
    parser.add_argument("--quick", action="store_true", help="one chunk of a tiny network: does it run?")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args(arguments)
    if args.quick:
        args.hidden_size, args.depth, args.channels, args.ode_steps, args.chunks = 64, 2, 128, 3, 1
    from eval.benchmarks.schedule_cost import compare  # it imports torch, which --help need not wait for

    found = compare(args.hidden_size, args.depth, args.channels, args.ode_steps, args.chunks)
    reference, ours = found.reference, found.ours
    show(
        f"DiT {args.depth} x {args.hidden_size} ({found.parameters / 1e6:.1f} M parameters), {args.ode_steps} "
        f"evaluations; BigVGAN {args.channels} channels; CPU seconds per audio second, one thread, fp32"
    )
    show(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
    ratio = {part: getattr(reference, part) / getattr(ours, part) for part in PARTS}
    for part in PARTS:
        show(f"| {part} | {getattr(reference, part):.3f} | {getattr(ours, part):.3f} | {ratio[part]:.2f} |")
    vocos = found.ours_with_vocos.total
    show(f"| total, Vocos instead | - | {vocos:.3f} | {reference.total / vocos:.2f} |")
    if args.json:
        settings = {key: value for key, value in vars(args).items() if key != "json"}
        args.json.write_text(json.dumps({**settings, **asdict(found), "ratio": ratio}, indent=1) + "\n")


if __name__ == "__main__":
    main()
