"""BigVGAN against the published code: its filter, activation, block, waveforms (streamed as well) and mel analysis."""

import re

import pytest
import torch
from safetensors.torch import load_file

from spikeaudio.loading.kimi.configuration import vocoder_config
from spikeaudio.vocoder.bigvgan import BigVGAN, fold_weight_norm, kaiser_sinc
from spikeaudio.vocoder.piece import LineState, Piece

pytestmark = pytest.mark.golden

LAYER = 1e-5  # bounds of the fixture's README
OUTPUT = 1e-4


@pytest.fixture(scope="module")
def fixture(golden_dir):
    folder = golden_dir("bigvgan_tiny")
    model = BigVGAN(vocoder_config(folder / "config.json"))
    model.load_state_dict(fold_weight_norm(load_file(folder / "generator.safetensors")))
    return model.eval(), load_file(folder / "io.safetensors")


def whole(rows: int) -> Piece:
    """A piece that is first and last."""
    return Piece(LineState([], torch.zeros(rows, dtype=torch.long), (), torch.float32), last=True)


def sizes(tensors) -> list[int]:
    found = sorted(int(match[1]) for name in tensors if (match := re.fullmatch(r"mel(\d+)", name)))
    assert found
    return found


@torch.no_grad()
def test_activation_and_block(fixture):
    model, tensors = fixture
    x, block = tensors["act.in"], model.resblocks[0]
    torch.testing.assert_close(kaiser_sinc(), tensors["act.filter"], rtol=0, atol=1e-6)
    torch.testing.assert_close(block.activations[0].upsample.filter, tensors["act.filter"], rtol=0, atol=0)
    torch.testing.assert_close(block.activations[0](x, whole(len(x))), tensors["act.out"], rtol=0, atol=LAYER)
    torch.testing.assert_close(block(x, whole(len(x))), tensors["resblock0.out"], rtol=0, atol=LAYER)


def test_waveforms(fixture):
    model, tensors = fixture
    for size in sizes(tensors):
        wav = model.decode(tensors[f"mel{size}"])
        torch.testing.assert_close(wav[:, None], tensors[f"wav{size}"], rtol=0, atol=OUTPUT)


def test_streamed_waveforms(fixture):
    model, tensors = fixture
    for size in sizes(tensors):
        state = model.init_state()
        pieces = [model.step(piece, state) for piece in tensors[f"mel{size}"].split(21, dim=-1)]
        pieces.append(model.step(tensors[f"mel{size}"][..., :0], state, last=True))
        torch.testing.assert_close(torch.cat(pieces, dim=-1), tensors[f"wav{size}"][:, 0], rtol=0, atol=OUTPUT)


def test_mel_analysis(fixture):
    model, tensors = fixture
    torch.testing.assert_close(model.log_mel(tensors["melspec.wav"]), tensors["melspec.mel"], rtol=0, atol=OUTPUT)
