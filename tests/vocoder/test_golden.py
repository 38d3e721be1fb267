"""VocosVocoder against the published Vocos (pip vocos 0.1.0): features, waveforms, and the same through a stream."""

import re

import pytest
import torch
from safetensors.torch import load_file

from spikeaudio.vocoder.configuration import VocosConfig
from spikeaudio.vocoder.vocos import VocosVocoder

pytestmark = pytest.mark.golden

BOUND = 1e-5  # the fixture's README
PUSHES = [1, 4, 7, 33]


@pytest.fixture(scope="module")
def fixture(golden_dir):
    folder = golden_dir("vocos_tiny")
    tensors = load_file(folder / "io.safetensors")
    sizes = sorted(int(match[1]) for name in tensors if (match := re.fullmatch(r"mel(\d+)", name)))
    assert sizes, f"{folder}/io.safetensors holds no mel<frames>"
    return folder, VocosVocoder.from_vocos(folder), tensors, sizes


def test_config_is_the_yamls(fixture):
    folder, model, tensors, sizes = fixture
    assert VocosConfig.from_vocos_yaml(folder / "config.yaml").to_dict() == model.config.to_dict()
    for size in sizes:
        assert tensors[f"mel{size}"].shape[1:] == (model.config.num_mels, size)


def test_weights_are_the_published_ones(fixture):
    folder, model, _, _ = fixture
    published = load_file(folder / "model.safetensors")
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, published[name], rtol=0, atol=0)
    torch.testing.assert_close(model.head.istft.window, published["head.istft.window"], rtol=0, atol=0)


def test_features(fixture):
    _, model, tensors, sizes = fixture
    for size in sizes:
        with torch.no_grad():
            features = model.backbone(tensors[f"mel{size}"])
        torch.testing.assert_close(features, tensors[f"features{size}"], rtol=0, atol=BOUND)


def test_waveforms(fixture):
    _, model, tensors, sizes = fixture
    for size in sizes:
        torch.testing.assert_close(model.decode(tensors[f"mel{size}"]), tensors[f"wav{size}"], rtol=0, atol=BOUND)


def test_copy_synthesis(fixture):
    _, model, tensors, _ = fixture
    wav = model.decode(tensors["mel_of_wav"])
    torch.testing.assert_close(wav, tensors["wav_of_mel_of_wav"], rtol=0, atol=BOUND)


@pytest.mark.parametrize("push", PUSHES)
def test_streamed_waveforms(fixture, push):
    _, model, tensors, sizes = fixture
    for size in sizes:
        state = model.init_state()
        pieces = [model.step(piece, state) for piece in tensors[f"mel{size}"].split(push, dim=-1)]
        pieces.append(model.step(tensors[f"mel{size}"][..., :0], state, last=True))
        torch.testing.assert_close(torch.cat(pieces, dim=-1), tensors[f"wav{size}"], rtol=0, atol=BOUND)
