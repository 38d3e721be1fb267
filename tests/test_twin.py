"""The shipped spiking checkpoint: packed, and it hears and speaks."""

import json
from pathlib import Path

import pytest

from spikeaudio import SpikeAudio
from spikeaudio.spiking.conversion import spiking_layers
from spikeaudio.spiking.layers.linear import PackedSpikingLinear


@pytest.fixture(scope="module")
def twin(checkpoint: Path) -> Path:
    folder = checkpoint.with_name(f"{checkpoint.name}-w4a4")
    if not (folder / "config.json").is_file():
        pytest.skip(f"no shipped spiking checkpoint: {folder} holds no config.json (spikeaudio spike makes it)")
    return folder


@pytest.mark.slow
def test_it_hears_and_speaks_on_packed_weights(twin: Path) -> None:
    model = SpikeAudio.from_pretrained(twin)
    layers = dict(spiking_layers(model.model))
    assert len(layers) == 49 and all(isinstance(layer, PackedSpikingLinear) for layer in layers.values())
    samples = Path(__file__).resolve().parent.parent / "spikeaudio" / "samples"
    assert model.transcribe(samples / "question.wav") == "what is the capital of england"
    assert model.ask(samples / "instrument.wav", "which instrument is this") == "flute"
    spoken = model.speak("seven plus five is twelve", seed=0)
    assert model.transcribe(spoken.wav, spoken.sampling_rate) == "seven plus five is twelve"


def test_its_weights_are_packed_on_disk(twin: Path, checkpoint: Path) -> None:
    """Four bits and a scale per row: the blocks take less than 0.30 of their bfloat16 size."""
    from safetensors import safe_open

    def size(folder: Path) -> int:
        with safe_open(folder / "model.safetensors", "pt") as file:
            names = [name for name in file.keys() if "_proj.weight" in name]
            return sum(file.get_tensor(name).nbytes for name in names)

    assert size(twin) < 0.30 * size(checkpoint)
    report = json.loads((twin / "spiking_report.json").read_text())
    assert report["unary_rate"] < 2 and report["settings"]["config"]["weight_bits"] == 4
