"""How a checkpoint is named: a folder, a shipped name, an id on the hub; what each failure says."""

from pathlib import Path

import pytest
import torch

from spikeaudio import SpikeAudio
from spikeaudio.checkpoint import HubOptions, find_checkpoint, shipped_checkpoints


def test_a_folder_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint("spikeaudio-tiny") == shipped_checkpoints()["spikeaudio-tiny"]
    (tmp_path / "spikeaudio-tiny").mkdir()
    assert find_checkpoint("spikeaudio-tiny") == Path("spikeaudio-tiny")


def test_a_repository_in_the_cache(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """The cache's own layout, as the hub's client writes it."""
    repository = tmp_path / "models--someone--something"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / ("0" * 40)).symlink_to(tiny_checkpoint, target_is_directory=True)
    model = SpikeAudio.from_pretrained("someone/something", cache_dir=tmp_path, local_files_only=True)
    assert model.processor.hears and len(model.detokenize([1, 2])) == 2 * 1920


@pytest.mark.parametrize(
    "name,message",
    [
        ("nothing", "expected a folder, a shipped name"),
        ("", "no checkpoint folder at ''"),
        ("a/b/c", "no checkpoint folder at 'a/b/c'"),
        ("../somewhere", "no checkpoint folder"),
        ("someone/something", "hf download someone/something --local-dir"),
    ],
)
def test_what_is_not_there(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=message):
        find_checkpoint(name, HubOptions(local_files_only=True, cache_dir=tmp_path))


def test_usual_keywords(tiny_checkpoint: Path) -> None:
    model = SpikeAudio.from_pretrained(tiny_checkpoint, torch_dtype=torch.bfloat16, attn_implementation="eager")
    assert model.dtype == torch.bfloat16 and model.model.config._attn_implementation == "eager"
    assert model.to(dtype=torch.float32).dtype == torch.float32 and model.device == torch.device("cpu")
    assert "hears and speaks" in repr(model) and "float32" in repr(model)
    with pytest.raises(ValueError, match=r"unknown keywords \['atn_implementation'\].*attn_implementation"):
        SpikeAudio.from_pretrained(tiny_checkpoint, atn_implementation="eager")
