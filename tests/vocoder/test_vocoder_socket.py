"""A vocoder from outside the package, in this one file: its config, its model, and a checkpoint that speaks with it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from spikeaudio import SpikeAudio
from spikeaudio.audio.mel import kimi_log_mel
from spikeaudio.vocoder.protocol import Vocoder


@strict
class HumConfig(PreTrainedConfig):
    model_type = "hum"
    num_mels: int = 80
    hop_length: int = 480
    sampling_rate: int = 24000


@dataclass
class HumState:
    frames: int = 0

    def reset(self) -> None:
        self.frames = 0

    def clone(self) -> "HumState":
        return HumState(self.frames)


class Hum(PreTrainedModel):
    """Every frame is a hum of 120 Hz, as loud as a learned sum of the bands."""

    config_class = HumConfig
    config: HumConfig

    def __init__(self, config: HumConfig) -> None:
        super().__init__(config)
        self.loudness = nn.Linear(config.num_mels, 1)
        self.post_init()

    def log_mel(self, wav: Tensor) -> Tensor:
        return kimi_log_mel(wav)

    def init_state(self, batch_size: int = 1) -> HumState:
        return HumState()

    @torch.no_grad()
    def decode(self, mel: Tensor) -> Tensor:
        return self.step(mel, self.init_state(len(mel)), last=True)

    @torch.no_grad()
    def step(self, mel: Tensor, state: HumState, last: bool = False) -> Tensor:
        hop, rate = self.config.hop_length, self.config.sampling_rate
        places = torch.arange(state.frames * hop, (state.frames + mel.shape[2]) * hop)
        state.frames += mel.shape[2]
        loudness = self.loudness(mel.transpose(1, 2)).sigmoid().repeat_interleave(hop, 1)[..., 0]
        return loudness * torch.sin(2 * torch.pi * 120 / rate * places)


@pytest.fixture(scope="module")
def humming(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> SpikeAudio:
    AutoConfig.register("hum", HumConfig)
    AutoModel.register(HumConfig, Hum)
    folder = tmp_path_factory.mktemp("humming") / "checkpoint"
    shutil.copytree(tiny_checkpoint, folder)
    shutil.rmtree(folder / "vocoder")
    Hum(HumConfig()).save_pretrained(folder / "vocoder")
    return SpikeAudio.from_pretrained(folder)


def test_it_speaks_through_the_toy(humming: SpikeAudio, tmp_path: Path) -> None:
    assert isinstance(humming.vocoder, Hum) and isinstance(humming.vocoder, Vocoder)
    codes = [3, 1, 4, 1, 5, 9]
    wav = humming.detokenize(codes)
    assert wav.shape == (6 * 1920,) and 0 < wav.abs().max() <= 1
    humming.save_pretrained(tmp_path)
    assert torch.equal(SpikeAudio.from_pretrained(tmp_path).detokenize(codes), wav)


def test_a_stream_is_the_whole(humming: SpikeAudio) -> None:
    codes = torch.arange(23) % 32
    state = humming.decoder.init_state()
    pieces = [humming.decoder.step(piece, state) for piece in codes.split(5)]
    pieces.append(humming.decoder.step(codes[:0], state, last=True))
    torch.testing.assert_close(torch.cat(pieces), humming.decoder.decode(codes), rtol=0, atol=1e-4)
