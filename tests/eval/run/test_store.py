"""The store: what is written stays, whatever happens next."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from eval.run.run_folder import FORMAT
from eval.run.store import PredictionStore, read_predictions
from eval.sample import Prediction


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "record.json").write_text(json.dumps({"format": FORMAT}))
    return tmp_path


def prediction(name: str, text: str = "x", seconds: float = 1.0) -> Prediction:
    return Prediction("t", name, f"key of {name}", text, measured={"seconds": seconds})


def test_what_is_appended_is_read(run: Path) -> None:
    with PredictionStore(run) as store:
        store.append(prediction("a", "äh\u2028\u0085oh"))  # line separators, but not of this file
        store.append(prediction("b"))
    with PredictionStore(run, rank=1) as store:
        assert list(store.done) == [("t", "a"), ("t", "b")]
        store.append(prediction("c"))
    found = read_predictions(run)
    assert found["t", "a"] == prediction("a", "äh\u2028\u0085oh") and len(found) == 3
    assert sorted(path.name for path in run.glob("*.jsonl")) == ["predictions-0.jsonl", "predictions-1.jsonl"]


@pytest.mark.parametrize("tail", ['{"task": "t", "id": "b"', '{"task": "t", "id": "b", "key": "k"}', "\x00\x00"])
def test_a_broken_last_line_is_ignored_and_cut_off(run: Path, tail: str) -> None:
    with PredictionStore(run) as store:
        store.append(prediction("a"))
    path = run / "predictions-0.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + tail.encode())
    assert list(read_predictions(run)) == [("t", "a")]
    with PredictionStore(run) as store:
        assert path.read_bytes() == whole
        store.append(prediction("b"))
    assert len(read_predictions(run)) == 2


def test_a_broken_line_within_is_named(run: Path) -> None:
    (run / "predictions-0.jsonl").write_text('{"task": "t"}\n')
    with pytest.raises(ValueError, match=r"predictions-0\.jsonl, line 1 is not a prediction"):
        read_predictions(run)


def test_pieces_are_read_and_may_come_at_other_times(run: Path) -> None:
    for rank in range(2):
        with PredictionStore(run, rank=rank) as store:
            store.append(Prediction("t", "a", "k", audio="a.flac", pieces=((0.5 + rank, 8400), (1.5, 19200))))
    assert read_predictions(run)["t", "a"].pieces == ((0.5, 8400), (1.5, 19200))
    old = {"task": "t", "id": "b", "key": "k", "text": "x", "audio": None, "error": None, "measured": {}, "costs": {}}
    with (run / "predictions-1.jsonl").open("a") as file:  # as written before there were pieces
        file.write(json.dumps(old) + "\n")
    assert read_predictions(run)["t", "b"] == Prediction("t", "b", "k", "x")


def test_merged_answers_must_agree(run: Path) -> None:
    with PredictionStore(run) as store:
        store.append(prediction("a", seconds=1.0))
    with PredictionStore(run, rank=1) as store:
        store.append(prediction("a", seconds=2.0))
    assert read_predictions(run)["t", "a"].measured == {"seconds": 1.0}
    with PredictionStore(run, rank=2) as store:
        store.append(prediction("a", "y"))
    with pytest.raises(ValueError, match=r"predictions-2\.jsonl, line 1: another answer to t 'a' is stored already"):
        read_predictions(run)


def test_speech_is_named_by_content(run: Path) -> None:
    wav = np.linspace(-1.2, 1, 4000, dtype=np.float32)
    with PredictionStore(run) as store:
        first = store.save_speech(wav, 16000)
        assert store.save_speech(wav, 16000) == first != store.save_speech(wav, 24000)
    assert len(list((run / "audio").iterdir())) == 2
    samples, rate = soundfile.read(run / first, dtype="float32")
    assert rate == 16000 and abs(samples - np.clip(wav, -1, 1)).max() < 1e-4


@contextmanager
def longest_file(size: int) -> Iterator[None]:
    """No file grows beyond so many bytes: to whoever writes it is a disk that fills up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 1, 40])
def test_a_full_disk_leaves_no_half_line(run: Path, room: int) -> None:
    with PredictionStore(run) as store:
        store.append(prediction("a"))
        whole = (run / "predictions-0.jsonl").read_bytes()
        with pytest.raises(OSError, match="1 answers are safe: make room"), longest_file(len(whole) + room):
            store.append(prediction("b"))
        assert (run / "predictions-0.jsonl").read_bytes() == whole and list(store.done) == [("t", "a")]
        store.append(prediction("b"))
    assert len(read_predictions(run)) == 2


def test_a_full_disk_leaves_no_half_recording(run: Path) -> None:
    with PredictionStore(run) as store:
        with pytest.raises(OSError, match="0 answers are safe"), longest_file(10):
            store.save_speech(np.zeros(100, np.float32), 16000)
    assert not list((run / "audio").iterdir())


def test_stores_that_are_refused(run: Path, tmp_path: Path) -> None:
    with PredictionStore(run), pytest.raises(BlockingIOError, match="another process is writing"):
        PredictionStore(run)
    (run / "record.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(ValueError, match=rf"was written in format 99, this version reads format {FORMAT}"):
        PredictionStore(run)
    (run / "record.json").write_text("[]")
    with pytest.raises(ValueError, match="is no record of a run"):
        PredictionStore(run)
    with pytest.raises(FileNotFoundError, match="is not a run"):
        PredictionStore(tmp_path / "nothing")
