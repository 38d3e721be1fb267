"""`spikeaudio profile`: a dense and a spiking checkpoint, as a table, as JSON and as a picture."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from spikeaudio import SpikeAudio
from spikeaudio.audio.segmentation import split_at_pauses
from spikeaudio.cli.app import main
from spikeaudio.lm.modeling import SpikeAudioForConditionalGeneration
from spikeaudio.neuromorphic.profile import profile
from spikeaudio.spiking.config import GIFConfig


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.wav"
    soundfile.write(path, 0.3 * np.sin(np.arange(16000) * 0.2), 16000)
    return path


@pytest.fixture
def spiking_checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "spiking"
    shutil.copytree(tiny_checkpoint, folder)
    model = SpikeAudioForConditionalGeneration.from_pretrained(tiny_checkpoint, quantization_config=GIFConfig())
    model.save_pretrained(folder)
    return folder


def test_spiking_checkpoint(spiking_checkpoint: Path, clip: Path, tmp_path: Path, capsys) -> None:
    plot = tmp_path / "spikes.png"
    main_without_exit("profile", spiking_checkpoint, "--audio", clip, "--json", "--plot", plot)
    figures = json.loads(capsys.readouterr().out)
    assert figures["audio_seconds"] == 1.0
    assert 0 < figures["unary_rate"] < 7 and 0 < figures["ActivationSparsity"] < 1
    assert figures["per_token"]["unary_operations"] > 0 and figures["per_token"]["attention_operations"] > 0
    assert plot.read_bytes().startswith(b"\x89PNG")
    main_without_exit("profile", spiking_checkpoint, "--audio", clip)
    printed = capsys.readouterr().out
    assert printed.count("_proj ") == 4 * 7
    assert "all spiking layers" in printed and "compute, unary" in printed


def test_dense_checkpoint(tiny_checkpoint: Path, clip: Path, tmp_path: Path, capsys) -> None:
    main_without_exit("profile", tiny_checkpoint, "--audio", clip, "--json")
    figures = json.loads(capsys.readouterr().out)
    assert figures["per_token"]["unary_operations"] == 0
    assert figures["SynapticOperations"]["Dense"] > 0
    lost = tmp_path / "no.wav"  # refused before even this is seen
    with pytest.raises(SystemExit) as stop:
        main(["profile", str(tiny_checkpoint), "--audio", str(lost), "--plot", str(tmp_path / "x.png")])
    assert stop.value.code == 2 and "does not spike" in capsys.readouterr().err


def test_every_position_is_a_token(tiny_checkpoint: Path, clip: Path) -> None:
    result = profile(SpikeAudio.from_pretrained(tiny_checkpoint), clip)
    assert result.tokens == result.count.dense_layers["model.layers.0.self_attn.q_proj"].tokens > 13


def test_pieces_of_a_long_recording_are_counted_without_padding(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Pieces of unequal length: each costs what it costs alone."""
    model = SpikeAudio.from_pretrained(tiny_checkpoint)
    longest = int(16000 * model.processor.piece_seconds)
    loud = 0.3 * np.sin(np.arange(longest + longest // 3) * 0.2)
    loud[longest * 3 // 4 : longest * 3 // 4 + 4000] = 0  # where it is cut
    soundfile.write(tmp_path / "long.wav", loud, 16000, subtype="FLOAT")
    whole = profile(model, tmp_path / "long.wav")
    pieces = [piece.numpy() for piece in split_at_pauses(torch.tensor(loud).float(), 16000, longest / 16000)]
    assert len({len(piece) for piece in pieces}) > 1
    alone = []
    for number, piece in enumerate(pieces):
        soundfile.write(tmp_path / f"{number}.wav", piece, 16000, subtype="FLOAT")
        alone.append(profile(model, tmp_path / f"{number}.wav"))
    assert whole.tokens == sum(part.tokens for part in alone)
    assert whole.audio_seconds == pytest.approx(len(loud) / 16000)
    total = sum(part.figures["per_token"]["dense_layer_operations"] * part.tokens for part in alone)
    assert whole.figures["per_audio_second"]["dense_layer_operations"] == pytest.approx(total / whole.audio_seconds)


def test_silence_has_nothing_to_count(tiny_checkpoint: Path, tmp_path: Path, capsys) -> None:
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(16000), 16000)
    with pytest.raises(SystemExit) as stop:
        main(["profile", str(tiny_checkpoint), "--audio", str(path)])
    assert stop.value.code == 2 and "nothing in it was worth transcribing" in capsys.readouterr().err


def main_without_exit(*arguments: object) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert not stop.value.code
