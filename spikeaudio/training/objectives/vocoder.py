"""Reconstruction objective of a vocoder: log-mel and STFT distances at several resolutions.

For each FFT size n (hop n / 4, Hann window) with magnitudes P of the output and Q of the recording:

    mel   = mean |ln mel(P) - ln mel(Q)|
    stft  = ||P - Q||_F / ||Q||_F  +  mean |ln P - ln Q|                    (per clip, then averaged)
    loss  = mel_weight * mean_n mel  +  stft_weight * mean_n stft

Source: the STFT terms are Parallel WaveGAN's (arXiv:1910.11480), the mel term HiFi-GAN's (arXiv:2010.05646), here at
every resolution. There is no adversary: the result is intelligible, upper harmonics are a little blurred.
"""

from typing import Any

import torch
import torch.nn.functional as F
import torchaudio.functional as AF
from torch import Tensor, nn

_LOG_FLOOR = 1e-5  # as in the input mel
_POWER_FLOOR = 1e-9


class VocoderObjective(nn.Module):
    """Distance between a vocoder's output and the recording.

    Args:
        sampling_rate: Hz of both waveforms.
        n_ffts: FFT sizes in samples.
        num_mels: mel bands at each of them.
        mel_weight: weight of the log-mel distance.
        stft_weight: weight of the STFT distance.

    Shape:
        wav, target: (B, N) float32, N > max(n_ffts) / 2.
        return: {"loss", "mel", "stft"}, scalars.
    """

    def __init__(
        self,
        sampling_rate: int = 24000,
        n_ffts: tuple[int, ...] = (256, 512, 1024, 2048),
        num_mels: tuple[int, ...] = (20, 40, 80, 120),
        mel_weight: float = 15.0,
        stft_weight: float = 2.0,
    ) -> None:
        super().__init__()
        if len(n_ffts) != len(num_mels) or not n_ffts:
            raise ValueError(f"need one number of mel bands per FFT size, got {num_mels} for {n_ffts}")
        self.n_ffts = n_ffts
        self.mel_weight = mel_weight
        self.stft_weight = stft_weight
        for n_fft, bands in zip(n_ffts, num_mels, strict=True):
            filters = AF.melscale_fbanks(
                n_fft // 2 + 1, 0.0, sampling_rate / 2, bands, sampling_rate, norm="slaney", mel_scale="slaney"
            )
            self.register_buffer(f"filters_{n_fft}", filters, persistent=False)  # (n_fft / 2 + 1, bands)
            self.register_buffer(f"window_{n_fft}", torch.hann_window(n_fft), persistent=False)

    def forward(self, wav: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Distance of (B, N) `wav` from (B, N) `target`.

        Raises:
            ValueError: if the shapes differ or the clips are shorter than half the largest FFT.
        """
        if wav.shape != target.shape or wav.ndim != 2 or wav.shape[-1] <= max(self.n_ffts) // 2:
            shapes = f"{tuple(wav.shape)} and {tuple(target.shape)}"
            raise ValueError(f"need two (B, N) waveforms with N > {max(self.n_ffts) // 2}, got {shapes}")
        mel = stft = wav.new_zeros(())
        for n_fft in self.n_ffts:
            spectrum = self._magnitude(wav, n_fft)
            with torch.no_grad():
                wanted = self._magnitude(target, n_fft)
            filters = self.get_buffer(f"filters_{n_fft}")
            mel = mel + (_log(spectrum @ filters) - _log(wanted @ filters)).abs().mean()
            convergence = torch.linalg.vector_norm(spectrum - wanted, dim=(1, 2))
            # A silent clip has no energy to converge to; its error then counts in absolute terms.
            convergence = convergence / torch.linalg.vector_norm(wanted, dim=(1, 2)).clamp(min=1.0)
            stft = stft + convergence.mean() + (_log(spectrum) - _log(wanted)).abs().mean()
        mel, stft = mel / len(self.n_ffts), stft / len(self.n_ffts)
        return {"loss": self.mel_weight * mel + self.stft_weight * stft, "mel": mel, "stft": stft}

    def _magnitude(self, wav: Tensor, n_fft: int) -> Tensor:
        """(B, N) -> (B, frames, n_fft / 2 + 1)."""
        window = self.get_buffer(f"window_{n_fft}")
        frames = F.pad(wav[:, None], (n_fft // 2, n_fft // 2), mode="reflect")[:, 0].unfold(-1, n_fft, n_fft // 4)
        return _Magnitude.apply(frames * window)


class _Magnitude(torch.autograd.Function):
    """|rfft(frames)|, (..., N) -> (..., N / 2 + 1), with a real FFT as its backward; torch's own is a complex one.

    With m = sqrt(|X|^2 + floor) and g = dL/dm: dL/dx[n] = Re sum_k g[k] X[k] / m[k] exp(2 pi i k n / N) over the
    N / 2 + 1 bins, which is an unnormalised irfft that counts the inner bins once. The floor keeps it finite.
    """

    @staticmethod
    def forward(ctx: Any, frames: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(frames)
        magnitude = spectrum.real.square().add_(spectrum.imag.square()).add_(_POWER_FLOOR).sqrt_()
        ctx.save_for_backward(spectrum, magnitude)
        ctx.n_fft = frames.shape[-1]
        return magnitude

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        spectrum, magnitude = ctx.saved_tensors
        ratio = gradient / magnitude
        ratio[..., 1:-1] *= 0.5
        return torch.fft.irfft(spectrum * ratio, ctx.n_fft, norm="forward")


def _log(magnitude: Tensor) -> Tensor:
    return magnitude.clamp(min=_LOG_FLOOR).log()
