"""CPU seconds and imported modules of short commands, beside a bare `import torch, transformers` in the same run.

    python -m eval.benchmarks.startup --rounds 5 --json startup.json

Each program runs in a process of its own with one thread. Seconds are user plus system time; the least of the rounds
counts, because other programs on the machine only ever add to it.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

BARE = "import torch, transformers"
CLIP = "spikeaudio/samples/sum.wav"
HEADER = ("program", "CPU seconds", "of bare", "modules", "of bare")
_REPORT = """
import resource, sys
used = resource.getrusage(resource.RUSAGE_SELF)
sys.stderr.write(f"\\n{used.ru_utime + used.ru_stime} {len(sys.modules)}\\n")
"""


@dataclass(frozen=True)
class StartUp:
    """What one program took.

    Attributes:
        seconds: user and system time of the process, in seconds.
        modules: modules in ``sys.modules`` at its end.
    """

    seconds: float
    modules: int


def command(*arguments: str) -> str:
    """A program that runs `spikeaudio` with these arguments."""
    return f"""
from spikeaudio.cli.app import main
try:
    main({list(arguments)!r})
except SystemExit as stop:
    assert not stop.code, stop.code
"""


def programs() -> dict[str, str]:
    """Name -> Python code, the bare import first."""
    return {
        BARE: BARE,
        "import spikeaudio": "import spikeaudio",
        "from transformers import AutoModel": "from transformers import AutoModel",
        "... after import spikeaudio": "import spikeaudio; from transformers import AutoModel",
        "spikeaudio --help": command("--help"),
        "spikeaudio doctor": command("doctor"),
        f"spikeaudio transcribe {Path(CLIP).name}": command("transcribe", CLIP),
        "... as a library": f"import spikeaudio; spikeaudio.SpikeAudio.from_pretrained("
        f"'checkpoints/spikeaudio-tiny').transcribe({CLIP!r})",
    }


def measure(code: str, rounds: int) -> StartUp:
    """Run `code` in `rounds` fresh processes.

    Raises:
        RuntimeError: it fails.
    """
    runs = []
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-c", code + "\n" + _REPORT],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise RuntimeError(f"the program failed: {done.stderr.strip()}")
        seconds, modules = done.stderr.strip().splitlines()[-1].split()
        runs.append(StartUp(float(seconds), int(modules)))
    return min(runs, key=lambda run: run.seconds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="processes per program")
    parser.add_argument("--quick", action="store_true", help="one process per program")
    parser.add_argument("--json", type=Path, help="file to write the figures to as well")
    args = parser.parse_args()
    figures = {name: measure(code, 1 if args.quick else args.rounds) for name, code in programs().items()}
    bare = figures[BARE]
    print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
    for name, run in figures.items():
        shares = (
            f"{run.seconds:.2f} | {run.seconds / bare.seconds:.2f} | {run.modules} | {run.modules / bare.modules:.2f}"
        )
        print(f"| `{name}` | {shares} |")
    if args.json is not None:
        args.json.write_text(json.dumps({name: asdict(run) for name, run in figures.items()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
