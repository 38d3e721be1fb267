"""Declared tasks: names, suites, and where their data are looked for."""

import json
from pathlib import Path

import pytest
from datasets import Audio, Dataset

from eval.metrics import METRICS
from eval.metrics.instructions import instructions
from eval.pages.published_table import PublishedTable
from eval.task import ASR
from eval.tasks import SUITES, TASKS, find_tasks
from eval.tasks.bundled import bundled
from eval.tasks.source import HubDataset, Source
from tests.eval.conftest import write_tone


def test_entries_are_sound() -> None:
    for name, task in TASKS.items():
        assert task.name == name and task.metrics and set(task.metrics) <= set(METRICS) and task.citation
    for members in SUITES.values():
        assert len(find_tasks(members)) == len(members) > 1
    with pytest.raises(ValueError, match=r"no tasks called \['wsj'\]"):
        find_tasks(("wsj",))
    with pytest.raises(ValueError, match="named twice"):
        find_tasks(("fsdd", "fsdd"))


def test_bundled_folder(bundle: Path) -> None:
    tasks = bundled(bundle)
    assert (*(task.name for task in tasks), "bundled_turn_taking") == SUITES["bundled"]
    assert {task.job.name for task in tasks} == {"asr", "aqa", "tts", "conversation", "codec"}
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
    source = Source("x", ASR, "ask.", HubDataset("nobody/nothing-of-this-name"))
    with pytest.raises(FileNotFoundError, match=r"no data for the task x \(.+\). To get it: ask."):
        source()


def test_published_figures_stand_beside_figures_that_are_computed() -> None:
    for row in PublishedTable.load("kimi-audio").rows:
        task = TASKS[row.task.partition(":")[0]]
        assert row.metric in task.metrics, row.task


def test_digits_as_published(tmp_path: Path) -> None:
    recordings = tmp_path / "fsdd" / "recordings"
    for name in ("7_jackson_0", "0_theo_4", "0_theo_5", "3_lucas_49"):
        write_tone(recordings / f"{name}.wav", rate=8000)
    (task,) = find_tasks(("fsdd",), tmp_path)
    samples = task.samples()
    assert [(sample.id, sample.references) for sample in samples] == [
        ("0_theo_4", ("zero",)),
        ("7_jackson_0", ("seven",)),
    ]
    assert samples[1].meta == {"subset": "jackson", "speaker": "jackson", "take": "0"}
    assert Path(samples[0].audio or "").is_file()
    write_tone(recordings / "eight_theo_1.wav")
    with pytest.raises(ValueError, match=r"expected \{digit\}_\{speaker\}_\{take\}\.wav, got eight_theo_1\.wav"):
        task.samples()
    (tmp_path / "fsdd" / "mine.csv").write_text("audio_filepath,text\nrecordings/7_jackson_0.wav,seven\n")
    assert len(task.samples()) == 1, "a list of one's own goes before"


def test_tables_of_common_voice_and_covost(tmp_path: Path) -> None:
    for name, columns, row in (
        ("common_voice", "client_id\tpath\tsentence\tup_votes", 'x\ta.wav\tHe said "no".\t2'),
        ("covost2_en_de", "path\tsentence\ttranslation\tclient_id", "a.wav\tNo.\tNein, so nicht.\tx"),
    ):
        write_tone(tmp_path / name / "clips" / "a.wav")
        file = "test.tsv" if name == "common_voice" else "covost_v2.en_de.test.tsv"
        (tmp_path / name / file).write_text(f"{columns}\n{row}\n")
    (voice, translation) = find_tasks(("common_voice", "covost2_en_de"), tmp_path)
    assert voice.samples()[0].references == ('He said "no".',)
    (sample,) = translation.samples()
    assert sample.references == ("Nein, so nicht.",) and sample.meta["sentence"] == "No."
    assert Path(sample.audio or "").parts[-2:] == ("clips", "a.wav")
    assert (translation.request, translation.language) == ("Translate the speech into German.", "de")
    (tmp_path / "covost2_en_de" / "covost_v2.en_de.test.tsv").write_text("path\tsentence\na.wav\tNo.\n")
    with pytest.raises(ValueError, match="one of \\('translation', 'answer'\\), got"):
        translation.samples()


def test_translations_of_fleurs_are_joined_by_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKEAUDIO_EVAL_CACHE", str(tmp_path / "cache"))
    audio = {"bytes": write_tone(tmp_path / "a.wav").read_bytes(), "path": "a.wav"}
    columns = {"id": [3, 3, 5, 9], "raw_transcription": ["One.", "One.", "Two.", "Three."], "audio": [audio] * 4}
    english = Dataset.from_dict(columns).cast_column("audio", Audio())
    german = Dataset.from_dict({"id": [9, 3, 3], "raw_transcription": ["Drei.", "Eins.", "Eins."], "audio": [None] * 3})
    asked = []

    def load(source: str, config: str, split: str, revision: str | None) -> Dataset:
        asked.append((source, config, split, revision))
        return {"en_us": english, "de_de": german}[config]

    monkeypatch.setattr("eval.tasks.source.load_rows", load)
    (task,) = find_tasks(("fleurs_st_en_de",))
    samples = task.samples()
    assert [sample.references for sample in samples] == [("Eins.",), ("Eins.",), ("Drei.",)]
    assert [sample.meta["id"] for sample in samples] == ["3", "3", "9"]
    assert asked == [("google/fleurs", name, "test", "refs/convert/parquet") for name in ("en_us", "de_de")]


KINDS = ["punctuation:no_comma", "length_constraints:number_words"]
GIVEN = [{"num_words": None, "relation": None}, {"num_words": 5, "relation": "at least"}]


def test_instructions_of_voicebench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKEAUDIO_EVAL_CACHE", str(tmp_path / "cache"))
    audio = {"bytes": write_tone(tmp_path / "a.wav").read_bytes(), "path": "a.wav"}
    rows = {"key": [1], "prompt": ["Say it."], "instruction_id_list": [KINDS], "kwargs": [GIVEN], "audio": [audio]}
    folder = tmp_path / "voicebench_ifeval"
    Dataset.from_dict(rows).cast_column("audio", Audio()).save_to_disk(folder)
    (task,) = find_tasks(("voicebench_ifeval",), tmp_path)
    (sample,) = task.samples()
    assert instructions(sample) == [(KINDS[0], {}), (KINDS[1], GIVEN[1])] and sample.meta["prompt"] == "Say it."


def test_instructions_and_choices_of_the_evalkit(tmp_path: Path) -> None:
    told = {"index": 0, "audio_path": "a.wav", "question": "", "instruction": KINDS, "instruction_kwargs": GIVEN}
    mmau = {"index": 0, "audio_path": "a.wav", "question": "Which?\n(A) a dog (B) a cat", "answer": "a cat"}
    for name, row in (("voicebench_ifeval", told), ("mmau", mmau | {"choices": ["a dog", "a cat"], "subset": "sound"})):
        write_tone(tmp_path / name / "a.wav")
        (tmp_path / name / "x.jsonl").write_text(json.dumps(row) + "\n")
    ifeval, sounds = (task.samples()[0] for task in find_tasks(("voicebench_ifeval", "mmau"), tmp_path))
    assert instructions(ifeval) == [(KINDS[0], {}), (KINDS[1], GIVEN[1])]
    assert sounds.choices == ("a dog", "a cat") and sounds.meta["subset"] == "sound"


@pytest.mark.parametrize(
    "label,choice",
    [
        ("city_center", "city center"),
        ("cafe/restaurant", "cafe or restaurant"),
        ("Crying", "Cry"),
        ("c", "Cry"),
        ("park", None),
        ("c/o", None),
    ],
)
def test_labels_are_spelled_as_the_question_lists_them(tmp_path: Path, label: str, choice: str | None) -> None:
    question = "Which?\n(A) city center\n(B) cafe or restaurant\n(C) Cry\n.Answer with the letter."
    write_tone(tmp_path / "tut2017" / "a.wav")
    row = {"index": 0, "audio_path": "a.wav", "question": question, "answer": label}
    (tmp_path / "tut2017" / "x.jsonl").write_text(json.dumps(row) + "\n")
    (task,) = find_tasks(("tut2017",), tmp_path)
    if choice is None:
        with pytest.raises(ValueError, match=f"line 1: the answer '{label}' is none of the choices"):
            task.samples()
    else:
        assert task.samples()[0].references == (choice,)
