"""A checkpoint folder with something wrong, or missing: one sentence; saved and read again: the same bits."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from spikeaudio.pipeline import SpikeAudio

RATE = 16000


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> SpikeAudio:
    return SpikeAudio.from_pretrained(tiny_checkpoint)


def noise(seconds: float, seed: int = 0) -> torch.Tensor:
    return torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed)) * 0.1


@pytest.fixture
def copy(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_checkpoint, tmp_path / "copy")


def _edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint folder at"):
        SpikeAudio.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        SpikeAudio.from_pretrained(tmp_path)


@pytest.mark.parametrize("part", ["", "speech_tokenizer", "detokenizer", "vocoder"])
def test_truncated_weights(copy: Path, part: str) -> None:
    weights = copy / part / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="damaged or cut short") as raised:
        SpikeAudio.from_pretrained(copy)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("part", ["", "speech_tokenizer", "detokenizer", "vocoder"])
def test_missing_weights(copy: Path, part: str) -> None:
    (copy / part / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="cannot be loaded"):
        SpikeAudio.from_pretrained(copy)


@pytest.mark.parametrize("part", ["", "detokenizer", "vocoder"])
def test_unknown_config_keys(copy: Path, part: str) -> None:
    _edit(copy / part / "config.json", hiden_size=3)
    with pytest.raises(ValueError, match=r"hiden_size.*valid keys"):
        SpikeAudio.from_pretrained(copy)


def test_broken_config(copy: Path) -> None:
    (copy / "config.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be loaded"):
        SpikeAudio.from_pretrained(copy)


@pytest.mark.parametrize("parts", [["detokenizer"], ["vocoder"], ["detokenizer", "vocoder"]])
def test_checkpoint_that_cannot_speak(copy: Path, parts: list[str]) -> None:
    for part in parts:
        shutil.rmtree(copy / part)
    model = SpikeAudio.from_pretrained(copy)
    assert isinstance(model.transcribe(noise(0.3)), str)
    assert model.chat(noise(0.3), speech=False).wav is None
    said = "cannot speak: it has no " + " and no ".join(f"{part}/" for part in parts)
    for job in (
        lambda: model.speak("hello"),
        lambda: model.chat(noise(0.3)),
        lambda: next(model.stream(noise(0.3))),
        lambda: model.detokenize([1]),
    ):
        with pytest.raises(ValueError, match=said):
            job()


def test_checkpoint_that_cannot_hear(copy: Path) -> None:
    shutil.rmtree(copy / "speech_tokenizer")
    model = SpikeAudio.from_pretrained(copy)
    assert model.speak("hello").text == "hello"
    with pytest.raises(ValueError, match="cannot hear: it has no speech_tokenizer/"):
        model.transcribe(noise(0.3))


@pytest.mark.parametrize(
    "part,change,message",
    [
        ("vocoder", {"sampling_rate": 16000}, "16000 Hz"),
        ("vocoder", {"hop_length": 240}, "do not make the vocoder's 24000 Hz"),
        ("detokenizer", {"num_mels": 60}, "60.*80|do not fit"),
        ("", {"sampling_rate": 16000}, "24000.*16000"),
    ],
)
def test_parts_that_do_not_fit(copy: Path, part: str, change: dict[str, Any], message: str) -> None:
    _edit(copy / part / "config.json", **change)
    with pytest.raises(ValueError, match=message):
        SpikeAudio.from_pretrained(copy)


def test_tokenizers_that_do_not_fit(copy: Path) -> None:
    _edit(
        copy / "processor_config.json",
        layout=json.loads((copy / "processor_config.json").read_text())["layout"] | {"audio_delay": 5},
    )
    with pytest.raises(ValueError, match=r"audio_delay=5.*audio_delay=2"):
        SpikeAudio.from_pretrained(copy)


def test_round_trip_is_bit_equal(model: SpikeAudio, tiny_checkpoint: Path, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    for part in ("", "speech_tokenizer", "detokenizer", "vocoder"):
        stored, original = (folder / part / "model.safetensors" for folder in (tmp_path, tiny_checkpoint))
        assert stored.read_bytes() == original.read_bytes()
    again = SpikeAudio.from_pretrained(tmp_path)
    assert torch.equal(again.speak("hello").wav, model.speak("hello").wav)
    assert again.transcribe(noise(0.7)) == model.transcribe(noise(0.7))
