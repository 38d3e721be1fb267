"""Files whose header tells no length or a wrong one: all of the sound in them comes, and what is missing is told."""

import io
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from spikeaudio.audio import files
from spikeaudio.audio.files import load_audio
from spikeaudio.audio.mpeg import decode_piped, without_length
from spikeaudio.audio.sound import read_sound

RATE = 16000
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")


def noise(seconds: float, rate: int = RATE) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal(round(seconds * rate)) * 0.1).astype(np.float32)


def encoded(wav: np.ndarray, rate: int = RATE, kind: str = "MP3", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    more = {"bitrate_mode": "VARIABLE", "compression_level": 0.5} if kind == "MP3" else {}
    soundfile.write(file, wav, rate, format=kind, subtype=subtype, **more)
    return file.getvalue()


def seconds(data: bytes) -> float:
    return read_sound(io.BytesIO(data)).seconds


def flaw(data: bytes) -> str:
    return read_sound(io.BytesIO(data)).flaw


@pytest.fixture(scope="module")
def loud_first() -> bytes:
    """Loud, then silent: the frames at the end are small."""
    return encoded(np.concatenate([noise(2.0), np.zeros(4 * RATE, np.float32), noise(1.0)]))


# -- mp3 ---------------------------------------------------------------------------------------------------------------


def test_a_whole_mp3(loud_first: bytes) -> None:
    assert seconds(loud_first) == pytest.approx(7.0, abs=0.1) and not flaw(loud_first)


def test_no_length_header(loud_first: bytes) -> None:
    data = without_length(loud_first)
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        assert file.frames / RATE < 6.0  # libsndfile's guess
    assert seconds(data) == pytest.approx(7.1, abs=0.15) and not flaw(data)


def test_the_end_of_the_file_is_the_end_of_the_sound(loud_first: bytes) -> None:
    sound = read_sound(io.BytesIO(without_length(loud_first)))
    end = sound.wav[-round(0.8 * RATE) :]
    assert np.sqrt(np.square(end[: RATE // 2]).mean()) == pytest.approx(0.1, rel=0.3)


@pytest.mark.parametrize("frames", [3, 100000])
def test_a_wrong_length_header(loud_first: bytes, frames: int) -> None:
    data = bytearray(loud_first)
    place = max(data.find(b"Xing"), data.find(b"Info"))
    data[place + 8 : place + 12] = frames.to_bytes(4, "big")
    assert seconds(bytes(data)) == pytest.approx(7.1, abs=0.15)
    assert bool(flaw(bytes(data))) == (frames > 3)


@pytest.mark.parametrize("headed", [True, False])
def test_two_joined_mp3s(loud_first: bytes, headed: bool) -> None:
    first = loud_first if headed else without_length(loud_first)
    assert seconds(first + encoded(noise(3.0))) == pytest.approx(10.2, abs=0.3)


def test_a_cut_mp3_says_how_much_is_there(loud_first: bytes) -> None:
    cut = loud_first[: len(loud_first) // 2]
    said = flaw(cut)
    assert f"{seconds(cut):.2f} of the 7.0" in said
    assert 0.5 < seconds(without_length(cut)) < 3.5


def test_another_sampling_rate_behind(loud_first: bytes) -> None:
    """The decoder stops there, and what is left is told."""
    data = loud_first + encoded(noise(3.0, 44100), 44100)
    assert decode_piped(data).left > len(data) // 4 and "were not read" in flaw(data)


def test_a_tag_at_the_end_is_no_damage(loud_first: bytes) -> None:
    for tag in (b"TAG".ljust(128), b"APETAGEX" + bytes(range(256)) * 4):
        for data in (loud_first, without_length(loud_first)):
            assert seconds(data + tag) == pytest.approx(7.1, abs=0.15) and not flaw(data + tag)


@needs_ffmpeg
def test_mp3_inside_wav(loud_first: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(without_length(loud_first))
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "a.mp3", "-c", "copy", tmp_path / "a.wav"], check=True)
    data = (tmp_path / "a.wav").read_bytes()
    assert data[:4] == b"RIFF" and seconds(data) == pytest.approx(7.1, abs=0.15)
    assert flaw(data[: len(data) // 2])


def test_no_thread_and_no_file_stays(loud_first: bytes) -> None:
    threads, handles = threading.active_count(), len(list(Path("/dev/fd").iterdir()))
    for data in (loud_first, loud_first * 20, b"no sound" * 100000):
        decode_piped(data)
    assert threading.active_count() == threads and len(list(Path("/dev/fd").iterdir())) == handles


# -- wav ---------------------------------------------------------------------------------------------------------------


def sized(data: bytes, size: int) -> bytes:
    place = data.find(b"data") + 4
    return data[:place] + size.to_bytes(4, "little") + data[place + 4 :]


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFFFFF - 36])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT", "ULAW"])
def test_a_wav_without_a_length(size: int, subtype: str) -> None:
    data = sized(encoded(noise(1.0), kind="WAV", subtype=subtype), size)
    assert seconds(data) == pytest.approx(1.0, abs=0.01) and not flaw(data)


def test_an_empty_wav_with_a_text_behind() -> None:
    data = encoded(noise(0.0), kind="WAV", subtype="PCM_16") + b"LIST\x04\0\0\0INFO"
    assert seconds(data) == 0.0


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT", "GSM610", "IMA_ADPCM", "G721_32"])
def test_a_cut_wav_says_how_much_is_there(subtype: str) -> None:
    data = encoded(noise(4.0), kind="WAV", subtype=subtype)
    cut = data[: len(data) // 4]
    assert seconds(cut) == pytest.approx(1.0, abs=0.1)
    assert f"{seconds(cut):.2f} of the 4." in flaw(cut) or "of the 3.9" in flaw(cut)


@pytest.mark.parametrize(
    "subtype", ["GSM610", "G721_32", "NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32", "IMA_ADPCM", "MS_ADPCM", "ALAW"]
)
def test_compressed_wavs(subtype: str) -> None:
    data = encoded(noise(1.0), kind="WAV", subtype=subtype)
    assert seconds(data) == pytest.approx(1.0, abs=0.1) and not flaw(data)


# -- the rest ----------------------------------------------------------------------------------------------------------


def test_a_damaged_opus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = bytearray(encoded(noise(4.0), kind="OGG", subtype="OPUS"))
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    (tmp_path / "a.opus").write_bytes(data)
    monkeypatch.setattr(files, "ffmpeg_installed", lambda: False)
    wav = load_audio(tmp_path / "a.opus", RATE)
    assert 1.0 < len(wav) / RATE < 4.0
    assert f"a.opus is cut short: it holds {len(wav) / RATE:.2f} of the 4.0" in caplog.text


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["m4a", "aac", "webm", "flac"])
def test_formats_for_ffmpeg(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flac is one from a pipe, which does not tell its length."""
    soundfile.write(tmp_path / "a.wav", noise(1.0), RATE)
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav"]
    if suffix == "flac":
        done = subprocess.run([*command, "-f", "flac", "-"], check=True, capture_output=True)
        (tmp_path / "a.flac").write_bytes(done.stdout)
    else:
        subprocess.run([*command, tmp_path / f"a.{suffix}"], check=True)
    wav = load_audio(tmp_path / f"a.{suffix}", RATE)
    assert len(wav) / RATE == pytest.approx(1.0, abs=0.15) and float(wav.square().mean().sqrt()) > 0.05
    monkeypatch.setattr(files, "ffmpeg_installed", lambda: False)
    with pytest.raises(ValueError, match=rf"a\.{suffix} .* install ffmpeg"):
        load_audio(tmp_path / f"a.{suffix}", RATE)
