"""Commands in this process on a random checkpoint, and a clip for them."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from spikeaudio.cli.app import main
from tests.fixtures.checkpoint import tiny_checkpoint  # noqa: F401  (a fixture)
from tests.fixtures.command import Run


@pytest.fixture
def run(tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> Run:  # noqa: F811
    """``run("speak", "hi", ...)``: exit code, standard output, standard error; on the random checkpoint."""

    def call(command: str, *arguments: object, model: Path = tiny_checkpoint) -> tuple[int, str, str]:
        code = 0
        try:
            main([command, *map(str, arguments), "--model", str(model)])
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """One second of a chirp at 44.1 kHz, stereo."""
    time = np.arange(44100) / 44100
    wav = 0.3 * np.sin(2 * np.pi * (200 + 300 * time) * time)
    soundfile.write(tmp_path / "clip.wav", np.stack([wav, wav], axis=1), 44100)
    return tmp_path / "clip.wav"
