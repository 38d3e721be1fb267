"""Manifests: what is written is read, and what is broken is named."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from eval.sample import Sample
from eval.task import AQA, ASR, CONVERSATION, TTS
from eval.tasks.manifest import checksum, read_samples, seen_from_here, write_samples
from tests.eval.conftest import write_tone


def manifest(folder: Path, *lines: str) -> Path:
    write_tone(folder / "a.wav")
    path = folder / "manifest.jsonl"
    path.write_text("".join(line + "\n" for line in lines))
    return path


def row(**values: object) -> str:
    return json.dumps({"id": "a", "audio": "a.wav", "references": ["two"]} | values)


def test_round_trip(tmp_path: Path) -> None:
    audio = write_tone(tmp_path / "audio" / "ä.wav")
    samples = [
        Sample("1", str(audio), "was?", ("zwei", "2"), ("eins", "zwei"), {"subset": "x"}),
        Sample("2", str(audio), references=("",)),
    ]
    write_samples(tmp_path / "m.jsonl", samples)
    assert json.loads((tmp_path / "m.jsonl").read_text().splitlines()[0])["audio"] == "audio/ä.wav"
    read = read_samples(tmp_path / "m.jsonl", ASR)
    assert [replace(sample, audio=str(audio)) for sample in read] == samples


def test_recordings_are_seen_from_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = manifest(tmp_path, row())
    assert read_samples(path, ASR)[0].audio == str(tmp_path / "a.wav")
    monkeypatch.chdir(tmp_path)
    assert read_samples(path, ASR)[0].audio == "a.wav"
    assert seen_from_here(Path("x/../a.wav")) == "a.wav"


@pytest.mark.parametrize(
    "line,message",
    [
        ('{"id": "b", "audio', "line 3: broken JSON"),
        ("[1]", "line 3: expected a JSON object, got list"),
        (row(id="b", audio="gone.wav"), r"line 3: sample 'b' names a file that is missing: .*gone\.wav"),
        (row(), "line 3: id 'a' was on line 1"),
        (row(id=7), "line 3: expected a text as id, got 7"),
        (row(id="b", references="two"), "line 3: expected a list of texts as references"),
        (row(id="b", meta={"take": 1}), "line 3: expected an object of texts as meta"),
        (row(id="b", reference=["two"]), r"line 3: unknown keys \['reference'\]"),
        (row(id="b", references=[]), "line 3: sample 'b' has no reference, which asr needs"),
        (row(id="b", audio=None), "line 3: sample 'b' has no recording, which asr needs"),
    ],
)
def test_broken_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_samples(manifest(tmp_path, row(), "", line), ASR)


def test_what_a_job_needs(tmp_path: Path) -> None:
    assert read_samples(manifest(tmp_path, row(references=[""])), ASR)[0].references == ("",)  # nothing is said
    with pytest.raises(ValueError, match="has an empty reference, which aqa cannot be scored against"):
        read_samples(manifest(tmp_path, row(references=["one", " "])), AQA)
    with pytest.raises(ValueError, match="has no text to say, which tts needs"):
        read_samples(manifest(tmp_path, row()), TTS)
    with pytest.raises(ValueError, match="has no recording, which conversation needs"):
        read_samples(manifest(tmp_path, row(audio=None)), CONVERSATION)
    assert read_samples(manifest(tmp_path, row(audio=None, text="hello")), CONVERSATION)
    with pytest.raises(ValueError, match="holds no samples"):
        read_samples(manifest(tmp_path, ""), ASR)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_samples(tmp_path / "gone.jsonl", ASR)


def test_a_teachers_recording_is_a_recording(tmp_path: Path) -> None:
    line = json.dumps({"id": "a", "text": "two", "meta": {"reference_audio": "a.wav"}})
    [one] = read_samples(manifest(tmp_path / "one", line), TTS)
    assert one.meta["reference_audio"] == str(tmp_path / "one" / "a.wav")
    write_samples(tmp_path / "one" / "again.jsonl", [one])
    assert read_samples(tmp_path / "one" / "again.jsonl", TTS) == [one]
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    [other] = read_samples(tmp_path / "two" / "manifest.jsonl", TTS)
    assert checksum([one]) == checksum([other]), "where it lies does not matter"
    write_tone(tmp_path / "two" / "a.wav", hertz=441)
    assert checksum([one]) != checksum([other])
    (tmp_path / "two" / "a.wav").unlink()
    with pytest.raises(ValueError, match=r"line 1: sample 'a' names a file that is missing: .*a\.wav"):
        read_samples(tmp_path / "two" / "manifest.jsonl", TTS)


def test_checksum_is_of_contents(tmp_path: Path) -> None:
    first = read_samples(manifest(tmp_path / "one", row()), ASR)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    second = read_samples(tmp_path / "two" / "manifest.jsonl", ASR)
    assert checksum(first) == checksum(second)
    assert checksum(first) != checksum([replace(first[0], references=("three",))])
    write_tone(tmp_path / "two" / "a.wav", hertz=441)
    assert checksum(first) != checksum(second)
