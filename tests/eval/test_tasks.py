"""Declared tasks: names, suites, and where their data are looked for."""

import json
from pathlib import Path

import pytest
from datasets import Audio, Dataset

from eval.tasks import SUITES, TASKS, find_tasks
from eval.tasks.bundled import bundled
from eval.tasks.source import HubDataset, Source
from tests.eval.conftest import write_tone

METRICS = {"wer", "cer", "accuracy", "exact", "spoken_wer", "modality_gap", "dnsmos", "stoi", "judge_score"}
METRICS |= {"takeover_rate", "response_latency", "pause_takeover_rate", "stop_latency"}


def test_entries_are_sound() -> None:
    for name, task in TASKS.items():
        assert task.name == name and task.metrics and set(task.metrics) <= METRICS and task.citation
    for members in SUITES.values():
        assert len(find_tasks(members)) == len(members) > 1
    with pytest.raises(ValueError, match=r"no tasks called \['wsj'\]"):
        find_tasks(("wsj",))
    with pytest.raises(ValueError, match="named twice"):
        find_tasks(("fsdd", "fsdd"))


def test_bundled_folder(bundle: Path) -> None:
    tasks = bundled(bundle)
    assert (*(task.name for task in tasks), "bundled_turn_taking") == SUITES["bundled"]
    assert {task.job for task in tasks} == {"asr", "aqa", "tts", "conversation", "codec"}
    assert all(len(task.samples()) == 2 for task in tasks)
    (bundle / "tts.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"no bundled data at tts\.jsonl"):
        bundled(bundle)[6].samples()


@pytest.mark.parametrize("name", sorted(set(TASKS) - set(SUITES["bundled"])))
def test_missing_data_say_how_to_get_them(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eval.tasks.source.load_rows", refuse)
    (task,) = find_tasks((name,), tmp_path)
    with pytest.raises(
        FileNotFoundError, match=f"no data for the task {name}.*To get it: .*DATA/{name}/ and give --data"
    ):
        task.samples()


def refuse(*_: object) -> None:
    raise ConnectionError("offline")


def test_a_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "librispeech_clean"
    write_tone(folder / "a.wav")
    rows = [
        {"index": index, "audio_path": "a.wav", "question": "Transcribe.", "answer": "hello", "subset": subset}
        for index, subset in enumerate(("test_clean", "test_other", "test_clean"))
    ]
    (folder / "LibriSpeech.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (task,) = find_tasks(("librispeech_clean",), tmp_path)
    assert [sample.id for sample in task.samples()] == ["0", "2"]
    monkeypatch.setenv("SPIKEAUDIO_EVAL_DATA", str(tmp_path))
    (task,) = find_tasks(("librispeech_clean",))
    assert len(task.samples()) == 2
    (folder / "more.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"holds 2 files \*\.jsonl; expected one"):
        task.samples()


def test_a_folder_of_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKEAUDIO_EVAL_CACHE", str(tmp_path / "cache"))
    audio = {"bytes": write_tone(tmp_path / "a.flac").read_bytes(), "path": "a.flac"}
    rows = {"id": ["1-2-3"], "audio": [audio], "text": ["HELLO"], "speaker_id": [1]}
    Dataset.from_dict(rows).cast_column("audio", Audio()).save_to_disk(tmp_path / "librispeech_other")
    (task,) = find_tasks(("librispeech_other",), tmp_path)
    (sample,) = task.samples()
    assert (sample.id, sample.references, sample.meta) == ("1-2-3", ("HELLO",), {"speaker_id": "1"})


def test_an_empty_folder_and_a_wrong_id(tmp_path: Path) -> None:
    (tmp_path / "fsdd").mkdir()
    (task,) = find_tasks(("fsdd",), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"holds no data in a known form\. To get it: git clone"):
        task.samples()
    source = Source("x", "asr", "ask.", HubDataset("nobody/nothing-of-this-name"))
    with pytest.raises(FileNotFoundError, match=r"no data for the task x \(.+\). To get it: ask."):
        source()
