"""VocoderObjective: zero on equality, the magnitude's hand-written gradient, silence, and that it leads a vocoder."""

import pytest
import torch

from spikeaudio.training.objectives.vocoder import VocoderObjective, _Magnitude
from spikeaudio.vocoder.configuration import VocosConfig
from spikeaudio.vocoder.vocos import VocosVocoder


@pytest.fixture(scope="module")
def objective() -> VocoderObjective:
    return VocoderObjective(24000, n_ffts=(128, 256), num_mels=(10, 20))


def test_zero_on_equality(objective):
    wav = torch.randn(2, 2000)
    assert objective(wav, wav)["loss"] == 0


def test_magnitude_is_torchs(objective):
    wav = torch.randn(2, 2000)
    stft = torch.stft(wav, 256, 64, window=torch.hann_window(256), return_complex=True).abs().transpose(1, 2)
    torch.testing.assert_close(objective._magnitude(wav, 256), stft, rtol=0, atol=1e-4)


@pytest.mark.parametrize("n_fft", [8, 16])
def test_magnitude_gradient(n_fft):
    frames = torch.randn(2, 3, n_fft, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(_Magnitude.apply, frames)


@pytest.mark.parametrize("silent", ["output", "target", "both"])
def test_silence_has_finite_gradients(objective, silent):
    wav = torch.zeros(1, 2000) if silent != "target" else torch.randn(1, 2000)
    target = torch.zeros(1, 2000) if silent != "output" else torch.randn(1, 2000)
    wav.requires_grad_()
    objective(wav, target)["loss"].backward()
    assert torch.isfinite(wav.grad).all()


def test_sign_does_not_matter(objective):
    """Magnitudes only: the vocoder is free to choose the phase."""
    wav, target = torch.randn(2, 1, 2000)
    torch.testing.assert_close(objective(-wav, target)["loss"], objective(wav, target)["loss"])


def test_vocoder_learns(objective):
    torch.manual_seed(0)
    sizes = {"num_mels": 8, "hidden_size": 32, "intermediate_size": 64, "num_layers": 1, "n_fft": 64, "hop_length": 16}
    model = VocosVocoder(VocosConfig(**sizes))
    time = torch.arange(1600) / 24000
    wav = torch.stack([torch.sin(2 * torch.pi * hz * time) for hz in (440.0, 1760.0)])
    wav += 0.01 * torch.randn_like(wav)  # without a floor the logarithms of empty bins rule the loss
    mel = torch.eye(2, 8)[..., None].expand(2, 8, 100).contiguous()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        losses.append(objective(model(mel), wav)["loss"])
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.85 * losses[0]  # 0.78 here


def test_bad_input(objective):
    with pytest.raises(ValueError, match=r"got \(1, 2000\) and \(1, 1999\)"):
        objective(torch.zeros(1, 2000), torch.zeros(1, 1999))
    with pytest.raises(ValueError, match=r"N > 128"):
        objective(torch.zeros(1, 100), torch.zeros(1, 100))
    with pytest.raises(ValueError, match="one number of mel bands per FFT size"):
        VocoderObjective(n_ffts=(128,), num_mels=(10, 20))
