"""Small downloads of Kimi-Audio."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.fixtures.published_folder import write_published


@pytest.fixture(scope="session")
def published(golden_dir, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A download with the speech tokenizer beside it; not to be changed."""
    root = tmp_path_factory.mktemp("download")
    return write_published(root / "Kimi-Audio-7B-Instruct", golden_dir, root / "glm-4-voice-tokenizer")


@pytest.fixture
def download(published: Path, tmp_path: Path) -> Path:
    """A copy of `published` that a test may break; the speech tokenizer lies beside it."""
    shutil.copytree(published.parent, tmp_path / "copy")
    return tmp_path / "copy" / published.name


@pytest.fixture(scope="session")
def clip(golden_dir) -> torch.Tensor:
    """The longest recording of the speech tokenizer's fixture."""
    tensors = load_file(golden_dir("glm4_tokenizer_tiny") / "fixture.safetensors")
    return max((wav for name, wav in tensors.items() if name.endswith(".waveform")), key=len)
