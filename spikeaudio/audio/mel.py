"""The mel spectrogram that the detokenizer speaks in and the vocoder reads.

For a frame f of the samples x and a bin k of an n_fft-point transform with a periodic Hann window w,

    S[k, f] = |sum_n w[n] x[n + f * hop - (n_fft - hop) / 2] exp(-2 pi i k n / n_fft)|
    mel[m, f] = ln(max(sum_k M[m, k] S[k, f], 1e-5))

with M the triangles on the Slaney mel scale, each of unit area. x is reflected at both ends, so N samples have
exactly floor(N / hop) frames. 480 samples at 24 kHz each, 50 frames a second, four to a code.

Source: Kimi-Audio (MIT licence), mel analysis of its detokenizer. It adds 1e-9 under the square root of |.|^2 to keep
the gradient of silence finite. So do we.

Notation: B batch, N samples, F mel frames.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torchaudio.functional import melscale_fbanks


def kimi_log_mel(
    wav: Tensor,
    *,
    sampling_rate: int = 24000,
    num_mels: int = 80,
    n_fft: int = 1024,
    hop_length: int = 480,
    win_length: int | None = None,
    f_min: float = 0.0,
    f_max: float | None = None,
    floor: float = 1e-5,
) -> Tensor:
    """Log-mel spectrogram that the detokenizer speaks in and the vocoder reads (equations above). Differentiable.

    Args:
        wav: (B, N) float at ``sampling_rate``.
        sampling_rate: Hz.
        num_mels: mel bins.
        n_fft: samples of one window.
        hop_length: samples from one frame to the next.
        win_length: samples under the window, in the middle of the transform; ``n_fft`` by default.
        f_min: Hz, lower edge of the first triangle.
        f_max: Hz, upper edge of the last one; half the sampling rate by default.
        floor: smallest magnitude, below which the logarithm is flat.

    Returns:
        (B, num_mels, floor(N / hop_length)), dtype and device of ``wav``.

    Raises:
        ValueError: if ``wav`` is not (B, N).
    """
    if wav.ndim != 2:
        raise ValueError(f"expected wav of shape (B, N), got {tuple(wav.shape)}")
    if wav.shape[1] < hop_length:
        return wav.new_zeros(wav.shape[0], num_mels, 0)
    padding = (n_fft - hop_length) // 2
    padded = torch.nn.functional.pad(wav[:, None], (padding, padding), mode="reflect")[:, 0]
    win_length = n_fft if win_length is None else win_length
    window = torch.hann_window(win_length, dtype=wav.dtype, device=wav.device)
    spectrum = torch.stft(padded, n_fft, hop_length, win_length, window, center=False, return_complex=True)
    magnitude = (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt()  # (B, n_fft // 2 + 1, F)
    f_max = sampling_rate / 2 if f_max is None else f_max
    triangles = _mel_triangles(sampling_rate, n_fft, num_mels, f_min, f_max).to(magnitude)
    return (triangles @ magnitude).clamp(min=floor).log()


@lru_cache(maxsize=8)
def _mel_triangles(sampling_rate: int, n_fft: int, num_mels: int, f_min: float, f_max: float) -> Tensor:
    """(num_mels, n_fft // 2 + 1) float32: triangles on the Slaney scale, each of unit area over Hz."""
    # The cached tensor may be made during inference and used in training: it must not be an inference tensor.
    with torch.inference_mode(False):
        bank: Tensor = melscale_fbanks(
            n_fft // 2 + 1, f_min, f_max, num_mels, sampling_rate, norm="slaney", mel_scale="slaney"
        )
        return bank.T.contiguous()
