"""Audio files and arrays of every usual kind become mono float32, or one sentence; the mel is the published one."""

import errno
import os
import resource
import signal
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch

from spikeaudio.audio.files import load_audio, save_audio
from spikeaudio.audio.mel import kimi_log_mel
from spikeaudio.audio.samples import check_wav, resample


def tone(rate: int, seconds: float = 0.5, hz: float = 440.0) -> np.ndarray:
    """A sine of half the full scale, (N,) float64."""
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)


# -- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_any_rate_and_sample_format(tmp_path: Path, rate: int, subtype: str) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(rate), rate, subtype=subtype)
    wav = load_audio(path, 16000)
    assert wav.dtype == torch.float32 and wav.shape == (8000,)
    middle = slice(1000, 7000)  # the resampler's filter rings at the ends
    error = (wav[middle] - torch.from_numpy(tone(16000)).float()[middle]).abs().max()
    assert error < (1.2e-2 if subtype == "PCM_U8" else 2e-4)  # half a step of the format, and the filter's ripple


@pytest.mark.parametrize("suffix", ["flac", "ogg", "wav"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(16000), 16000)
    assert load_audio(str(path), 16000).shape == (8000,)


def test_stereo_is_averaged(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([tone(16000), np.zeros(8000)], axis=1), 16000, subtype="FLOAT")
    torch.testing.assert_close(load_audio(path, 16000), torch.from_numpy(tone(16000) / 2).float())


def test_silence_and_one_sample_are_audio(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(1600), 16000)
    assert load_audio(tmp_path / "silence.wav", 16000).abs().max() == 0
    soundfile.write(tmp_path / "one.wav", np.array([0.5]), 48000, subtype="FLOAT")
    for rate in (8000, 16000, 48000):
        assert load_audio(tmp_path / "one.wav", rate).shape == (1,)


def test_an_hour(tmp_path: Path) -> None:
    """Read in pieces: the last sample must be where it belongs."""
    samples = np.zeros(3600 * 1000, np.int16)
    samples[-1] = 1 << 14
    soundfile.write(tmp_path / "hour.wav", samples, 1000)
    wav = load_audio(tmp_path / "hour.wav", 1000)
    assert wav.shape == (3600 * 1000,) and wav[-1] == 0.5 and wav[:-1].abs().max() == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.wav", b"", r"empty\.wav is empty"),
        ("text.wav", b"this is no recording\n" * 20, r"text\.wav is not audio that libsndfile can read"),
        ("header.wav", b"RIFF", r"header\.wav is not audio"),
    ],
)
def test_no_audio_in_the_file(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_audio(tmp_path / name, 16000)


def test_no_samples_in_the_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16000)
    with pytest.raises(ValueError, match=r"none\.wav holds no samples"):
        load_audio(tmp_path / "none.wav", 16000)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_in_the_file(tmp_path: Path, bad: float) -> None:
    samples = tone(16000)
    samples[7] = bad
    soundfile.write(tmp_path / "bad.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"bad\.wav holds 1 NaN or infinite samples of 8000"):
        load_audio(tmp_path / "bad.wav", 16000)


def test_missing_path_and_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such audio file: .*gone\.wav"):
        load_audio(tmp_path / "gone.wav", 16000)
    with pytest.raises(ValueError, match="got a folder"):
        load_audio(tmp_path, 16000)


def test_save_and_load(tmp_path: Path) -> None:
    wav = torch.from_numpy(tone(24000)).float() * 4  # clipped
    for name in ("a.wav", "a.flac"):
        save_audio(tmp_path / name, wav, 24000)
        step = 2.0**-15
        torch.testing.assert_close(load_audio(tmp_path / name, 24000), wav.clamp(-1, 1), rtol=0, atol=step)


def test_save_refuses(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot tell the audio format of .*a\.docx"):
        save_audio(tmp_path / "a.docx", torch.zeros(4), 24000)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        save_audio(tmp_path / "no" / "a.wav", torch.zeros(4), 24000)
    with pytest.raises(ValueError, match="holds no samples"):
        save_audio(tmp_path / "a.wav", torch.zeros(0), 24000)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_minutes_are_written(tmp_path: Path, suffix: str) -> None:
    """libsndfile's Vorbis encoder ends the process on so many samples in one piece."""
    wav = torch.sin(torch.arange(300 * 8000) * 0.1) * 0.5
    save_audio(tmp_path / f"a.{suffix}", wav, 8000)
    back = load_audio(tmp_path / f"a.{suffix}", 8000)
    assert len(back) == pytest.approx(len(wav), abs=2000)
    assert back.std() == pytest.approx(float(wav.std()), rel=0.02)


def test_a_full_disk_leaves_no_broken_file(tmp_path: Path) -> None:
    """A file that may grow no further than 8192 bytes stands for the disk."""
    save_audio(tmp_path / "a.wav", torch.zeros(100), 24000)
    before = (tmp_path / "a.wav").read_bytes()
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
    try:
        for name in ("a.wav", "b.flac"):
            with pytest.raises(OSError, match=rf"cannot write .*{name}: {os.strerror(errno.EFBIG)}"):
                save_audio(tmp_path / name, torch.randn(24000) * 0.1, 24000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    assert (tmp_path / "a.wav").read_bytes() == before


def test_a_folder_that_may_not_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run as root, who may write anywhere."""
    monkeypatch.setattr(os, "access", lambda path, mode: not (mode & os.W_OK and path == tmp_path))
    with pytest.raises(PermissionError, match=rf"cannot write .*a\.wav: {os.strerror(errno.EACCES)}"):
        save_audio(tmp_path / "a.wav", torch.zeros(4), 24000)
    assert not list(tmp_path.iterdir())


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.wav").symlink_to(tmp_path / "a.wav")
    save_audio(tmp_path / "link.wav", torch.zeros(4), 24000)
    assert (tmp_path / "link.wav").is_symlink() and len(load_audio(tmp_path / "a.wav", 24000)) == 4


# -- arrays --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([0.0, 0.5], [0.0, 0.5]),
        (np.array([-(2**15), 2**14], np.int16), [-1.0, 0.5]),
        (np.array([-(2**31), 2**30], np.int32), [-1.0, 0.5]),
        (np.array([0, 128, 192], np.uint8), [-1.0, 0.0, 0.5]),
        (torch.tensor([2**14], dtype=torch.int16), [0.5]),
        (torch.tensor([0.5], dtype=torch.float16), [0.5]),
        (torch.tensor([0.5], requires_grad=True), [0.5]),
        (np.array([[0.0, 1.0, 2.0], [1.0, 1.0, 0.0]]), [0.5, 1.0, 1.0]),  # (C, N)
        (np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 0.0]]), [0.5, 1.0, 1.0]),  # (N, C)
        (torch.tensor([[0.25, 0.5]]), [0.25, 0.5]),
    ],
)
def test_arrays(samples: object, expected: list[float]) -> None:
    wav = check_wav(samples)  # type: ignore[arg-type]
    assert wav.dtype == torch.float32 and wav.device.type == "cpu"
    assert wav.tolist() == expected


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(0), "clip holds no samples"),
        (np.zeros((2, 0)), "clip holds no samples"),
        (np.zeros((1, 2, 3)), r"clip of shape .* got shape \(1, 2, 3\)"),
        (np.float32(1.0), r"got shape \(\)"),
        (np.array([0.0, np.nan, np.inf]), "clip holds 2 NaN or infinite samples of 3"),
        (np.array([1, 2]), "got int64"),
        (np.array([1j]), "got complex128"),
        (["a"], "got <U1"),
    ],
)
def test_arrays_that_are_no_audio(samples: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_wav(samples, name="clip")  # type: ignore[arg-type]


def test_bfloat16_tensor() -> None:
    assert check_wav(torch.tensor([0.5], dtype=torch.bfloat16)).tolist() == [0.5]


# -- resampling ----------------------------------------------------------------------------------------------------


def test_resample_keeps_what_both_rates_can_carry() -> None:
    wav = torch.from_numpy(tone(24000, 1.0)).float()
    back = resample(resample(wav, 24000, 16000), 16000, 24000)
    assert (back - wav)[2000:-2000].abs().max() < 1e-4
    assert resample(wav, 24000, 24000) is wav
    assert resample(torch.from_numpy(tone(24000, 1.0, 10000.0)).float(), 24000, 16000)[1000:-1000].abs().max() < 1e-3


def test_resample_refuses() -> None:
    with pytest.raises(ValueError, match="positive sampling rates, got 0 and 16000 Hz"):
        resample(torch.zeros(4), 0, 16000)


# -- mel -----------------------------------------------------------------------------------------------------------


def test_mel_is_the_definition() -> None:
    """Against numpy's transform and librosa's filters, frame by frame."""
    rng = np.random.default_rng(0)
    wav = rng.standard_normal((2, 2500)).astype(np.float32) * 0.1
    padded = np.pad(wav.astype(np.float64), ((0, 0), (272, 272)), mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    frames = np.stack([padded[:, 480 * f : 480 * f + 1024] * window for f in range(5)], axis=1)
    magnitude = np.sqrt(np.abs(np.fft.rfft(frames)) ** 2 + 1e-9)
    filters = librosa.filters.mel(sr=24000, n_fft=1024, n_mels=80)
    expected = np.log(np.maximum(magnitude @ filters.T, 1e-5)).transpose(0, 2, 1)
    mel = kimi_log_mel(torch.from_numpy(wav))
    assert mel.shape == (2, 80, 5)
    np.testing.assert_allclose(mel.numpy(), expected, rtol=0, atol=2e-5)  # fp32 transform


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (479, 0), (480, 1), (959, 1), (960, 2), (24000, 50)])
def test_mel_frames(samples: int, frames: int) -> None:
    assert kimi_log_mel(torch.zeros(1, samples)).shape == (1, 80, frames)


def test_mel_of_silence_is_the_floor_and_has_a_gradient() -> None:
    wav = torch.zeros(1, 960, requires_grad=True)
    mel = kimi_log_mel(wav)
    assert mel.isfinite().all()
    mel.sum().backward()
    assert wav.grad is not None and wav.grad.isfinite().all()


def test_mel_made_in_inference_mode_does_not_spoil_training() -> None:
    with torch.inference_mode():
        kimi_log_mel(torch.zeros(1, 960), num_mels=17)
    wav = torch.randn(1, 960, requires_grad=True)
    kimi_log_mel(wav, num_mels=17).sum().backward()


def test_mel_refuses_an_unbatched_wav() -> None:
    with pytest.raises(ValueError, match=r"\(B, N\), got \(960,\)"):
        kimi_log_mel(torch.zeros(960))
