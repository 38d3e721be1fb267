"""Audio in and out of the model: files, sampling rates and the vocoder's mel spectrogram.

Every other module works on mono float32 samples in [-1, 1]; this one makes them, from files and from arrays of any
usual type, and refuses what no model can use (nothing, NaN, infinity) with one sentence.

The log-mel spectrogram of Kimi-Audio's detokenizer is, for a frame f of the samples x and a bin k of an n_fft-point
transform with a periodic Hann window w,

    S[k, f] = |sum_n w[n] x[n + f * hop - (n_fft - hop) / 2] exp(-2 pi i k n / n_fft)|
    mel[m, f] = ln(max(sum_k M[m, k] S[k, f], 1e-5))

with M the triangles on the Slaney mel scale, each of unit area. x is reflected at both ends, so N samples have
exactly floor(N / hop) frames: 480 samples at 24 kHz each, 50 frames a second, four to a code.

Source: Kimi-Audio (MIT licence), mel analysis of its detokenizer. It adds 1e-9 under the square root of |.|^2 to keep
the gradient of silence finite; so do we.

Notation: B batch, N samples, C channels, F mel frames.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchaudio.functional import melscale_fbanks

_BLOCK_FRAMES = 1 << 20  # files are read and mixed down in pieces, so that an hour of stereo never stands in memory


def load_audio(path: str | Path, sampling_rate: int) -> Tensor:
    """Read an audio file that libsndfile knows (wav, flac, ogg, mp3, ...) as mono samples.

    Args:
        path: the file. Several channels are averaged.
        sampling_rate: Hz of the result; the file's own rate is resampled to it.

    Returns:
        (N,) float32 in [-1, 1].

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not audio, holds no samples, or holds NaN or infinity.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no such audio file: {path}")
    if not path.is_file():
        raise ValueError(f"expected an audio file, got a folder: {path}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty: the file has 0 bytes")
    try:
        with soundfile.SoundFile(path) as file:
            rate = int(file.samplerate)
            blocks = [block.mean(axis=1) for block in file.blocks(_BLOCK_FRAMES, dtype="float32", always_2d=True)]
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{path} is not audio that libsndfile can read: {error.error_string}") from error
    wav = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    return resample(check_wav(wav, name=str(path)), rate, sampling_rate)


def save_audio(path: str | Path, wav: Tensor, sampling_rate: int) -> None:
    """Write mono samples as 16-bit audio; the format follows the file's extension (.wav, .flac, ...).

    Args:
        path: the file, in an existing folder. An existing file is replaced.
        wav: (N,) float; samples outside [-1, 1] are clipped.
        sampling_rate: Hz of ``wav``.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: if the extension names no format, or ``wav`` is no (N,) of finite samples.
    """
    path = Path(path)
    if path.suffix[1:].upper() not in soundfile.available_formats():
        raise ValueError(f"cannot tell the audio format of {path}: expected an extension such as .wav or .flac")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {path.parent} does not exist")
    samples = check_wav(wav, name="wav").clamp(-1.0, 1.0).numpy()
    try:
        soundfile.write(path, samples, sampling_rate)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"cannot write {path}: {error.error_string}") from error


def check_wav(wav: NDArray[Any] | Tensor | Sequence[float], name: str = "audio") -> Tensor:
    """Mono float32 samples on the CPU from an array, tensor or list, or an error that says what is wrong with it.

    Args:
        wav: (N,), or (C, N) or (N, C), whose shorter axis is taken for the channels and averaged. Floats are taken as
            they are; 8, 16 and 32-bit integers are divided by their full scale.
        name: what to call it in an error.

    Returns:
        (N,) float32.

    Raises:
        ValueError: if the type or shape is no audio, there are no samples, or some are NaN or infinite.
    """
    if isinstance(wav, Tensor):  # numpy knows no bfloat16
        wav = (wav.detach().float() if wav.is_floating_point() else wav.detach()).cpu().numpy()
    samples = _float32(np.asarray(wav), name)
    if samples.size == 0:
        raise ValueError(f"{name} holds no samples: expected at least one")
    if samples.ndim == 2:
        samples = samples.mean(axis=0 if samples.shape[0] <= samples.shape[1] else 1)
    if samples.ndim != 1:
        raise ValueError(f"expected {name} of shape (N,), (C, N) or (N, C), got shape {samples.shape}")
    if not np.isfinite(samples).all():
        count = int((~np.isfinite(samples)).sum())
        raise ValueError(f"{name} holds {count} NaN or infinite samples of {samples.size}: expected finite values")
    return torch.from_numpy(np.ascontiguousarray(samples))


def _float32(samples: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Samples as float32; integers divided by their full scale (8-bit audio is unsigned around 128)."""
    kind, size = samples.dtype.kind, samples.dtype.itemsize
    if kind == "f":
        return samples.astype(np.float32)
    if kind == "i" and size <= 4:
        return (samples / 2.0 ** (8 * size - 1)).astype(np.float32)
    if kind == "u" and size == 1:
        return ((samples.astype(np.float32) - 128.0) / 128.0).astype(np.float32)
    raise ValueError(f"expected {name} as floats or as 8, 16 or 32-bit integers, got {samples.dtype}")


def resample(wav: Tensor, orig: int, new: int) -> Tensor:
    """Change the sampling rate with a band-limited filter (soxr, high quality).

    Args:
        wav: (N,) float32.
        orig: Hz of ``wav``.
        new: Hz of the result.

    Returns:
        (max(1, round(N * new / orig)),) float32 on the CPU; ``wav`` itself if the rates are equal.

    Raises:
        ValueError: if a rate is not positive.
    """
    if orig <= 0 or new <= 0:
        raise ValueError(f"expected positive sampling rates, got {orig} and {new} Hz")
    if orig == new:
        return wav
    samples = soxr.resample(wav.cpu().numpy(), orig, new, quality="HQ")
    # A clip shorter than one new sample would vanish; it still is audio, so it keeps its mean.
    return torch.from_numpy(samples) if samples.size else wav.cpu().mean().reshape(1)


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
