"""Shared fixtures: where the golden fixtures lie, where the shipped checkpoint lies, one CPU thread."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from spikeaudio.pipeline import SpikeAudio
from tests.fixtures.checkpoint import thinking_checkpoint, tiny_checkpoint  # noqa: F401 (fixtures)

REPOSITORY = Path(__file__).resolve().parent.parent
GOLDEN = Path(os.environ.get("SPIKEAUDIO_GOLDEN", REPOSITORY / "tests" / "golden"))
CHECKPOINT = REPOSITORY / "checkpoints" / "spikeaudio-tiny"


@pytest.fixture(autouse=True)
def _repeatable() -> Iterator[None]:
    """Seed torch for every test, so that a test's numbers do not depend on the tests before it."""
    torch.manual_seed(0)
    yield


@pytest.fixture(scope="session")
def golden_dir() -> Callable[[str], Path]:
    """``golden_dir(name)``: the folder ``$SPIKEAUDIO_GOLDEN/name`` (default tests/golden); skips where absent."""

    def find(name: str) -> Path:
        folder = GOLDEN / name
        if not folder.is_dir():
            pytest.skip(f"no golden fixture {name!r}: {folder} is not a folder (set SPIKEAUDIO_GOLDEN)")
        return folder

    return find


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    """The shipped checkpoint's folder; skips where the repository does not hold one."""
    if not (CHECKPOINT / "config.json").is_file():
        pytest.skip(f"no shipped checkpoint: {CHECKPOINT} holds no config.json (recipes/tiny trains it)")
    return CHECKPOINT


@pytest.fixture(scope="module")
def random_model(tiny_checkpoint: Path) -> SpikeAudio:  # noqa: F811 (a fixture)
    """The facade on the complete checkpoint with random weights; each file of tests has its own."""
    return SpikeAudio.from_pretrained(tiny_checkpoint)
