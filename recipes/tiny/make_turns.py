"""Make the questions of eval's task bundled_turn_taking from those of bundled_conversation.

    python recipes/tiny/make_turns.py --bundled eval/bundled

Every third question is left as it is; the others get a pause of 0.4 s and of 0.8 s, at their quietest place between 30
and 70 % of what is said, filled with the noise of a quiet room. Writes turn_taking.jsonl and its recordings.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch

from eval.dialogue.conversation import room, sounding
from eval.tasks.manifest import read_samples, write_samples
from spikeaudio.audio.files import load_audio

RATE = 16000
PAUSES = (None, 0.4, 0.8)  # seconds
_QUIET_SECONDS = 0.06


def quietest(wav: torch.Tensor) -> int:
    """Sample in the middle of the quietest 60 ms between 30 and 70 % of what is said.

    Raises:
        ValueError: nothing is said.
    """
    if (sound := sounding(wav.numpy(), RATE)) is None:
        raise ValueError("nothing is said in the recording")
    begin, end = (round(RATE * (sound[0] + share * (sound[1] - sound[0]))) for share in (0.3, 0.7))
    size = round(_QUIET_SECONDS * RATE)
    power = np.convolve(np.square(wav.numpy().astype(np.float64)), np.ones(size), "valid")
    return begin + int(power[begin : max(begin + 1, end - size)].argmin()) + size // 2


def with_pause(wav: torch.Tensor, seconds: float) -> torch.Tensor:
    """The recording with a pause at its quietest place."""
    at = quietest(wav)
    return torch.cat([wav[:at], room(round(seconds * RATE)), wav[at:]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundled", type=Path, default=Path("eval/bundled"))
    parser.add_argument("--number", type=int, default=12, help="number of questions")
    args = parser.parse_args()
    questions = read_samples(args.bundled / "conversation.jsonl", "conversation")
    samples = []
    for index, sample in enumerate(questions[:: len(questions) // args.number][: args.number]):
        pause = PAUSES[index % len(PAUSES)]
        meta = sample.meta | {"subset": "no pause" if pause is None else f"pause of {pause} s"}
        if pause is not None:
            wav = with_pause(load_audio(str(sample.audio), RATE), pause)
            path = args.bundled / "audio" / f"{sample.id}_pause.flac"
            soundfile.write(path, wav.numpy(), RATE, subtype="PCM_16")
            meta["pause_seconds"] = str(pause)
            sample = replace(sample, audio=str(path))
        samples.append(replace(sample, meta=meta))
    write_samples(args.bundled / "turn_taking.jsonl", samples)


if __name__ == "__main__":
    main()
