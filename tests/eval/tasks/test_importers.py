"""Files of other toolkits, written here as those toolkits write them."""

import json
from pathlib import Path

import pytest
from datasets import Audio, Dataset

from eval.task import AQA, ASR, CONVERSATION, TTS, Job
from eval.tasks.importers import choices_in, kimi_evalkit, open_asr, seed_tts_eval
from eval.tasks.rows import VOICEBENCH, Columns, load_rows, row_samples
from tests.eval.conftest import write_tone

QUESTION = "Identify the emotion in this speech.\nOptions:\n(A) neutral\n(B) joy\n.Answer with the option's letter."


def kimi(folder: Path, **values: object) -> Path:
    write_tone(folder / "audio" / "0.wav")
    row = {"index": 0, "audio_path": "audio/0.wav", "question": QUESTION, "answer": "joy", "subset": "meld"}
    path = folder / "MELD.jsonl"
    path.write_text(json.dumps(row | values) + "\n")
    return path


def test_kimi_evalkit(tmp_path: Path) -> None:
    (sample,) = kimi_evalkit(kimi(tmp_path), AQA)
    assert (sample.id, sample.text, sample.references) == ("0", QUESTION, ("joy",))
    assert sample.choices == ("neutral", "joy") and sample.meta == {"subset": "meld"}
    assert Path(sample.audio or "").is_file()
    (sample,) = kimi_evalkit(kimi(tmp_path, audio_path=["audio/0.wav"]), ASR)
    assert (sample.text, sample.choices, sample.references) == (None, (), ("joy",))
    (sample,) = kimi_evalkit(kimi(tmp_path, question="", answer="", audio_content="who are you"), CONVERSATION)
    assert sample.text is None and sample.references == () and sample.meta["audio_content"] == "who are you"


@pytest.mark.parametrize(
    "values,job,message",
    [
        ({"answer": " "}, ASR, "line 1: the transcript is empty"),
        ({"answer": ""}, AQA, "line 1: sample '0' has an empty reference"),
        ({"audio_path": ["a.wav", "b.wav"]}, AQA, "line 1: expected one recording, got 2"),
        ({"audio_path": "audio/gone.wav"}, AQA, "line 1: sample '0' names a file that is missing"),
        ({"audio_path": None}, AQA, "line 1: expected index, audio_path, question and answer"),
    ],
)
def test_broken_kimi_lines_are_named(tmp_path: Path, values: dict, job: Job, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kimi_evalkit(kimi(tmp_path, **values), job)


def test_choices() -> None:
    assert choices_in("Which?\nA. one two\nB. three") == ("one two", "three")
    assert choices_in("Which?\n(A) only") == () and choices_in("Is it A) or B)?") == ()


def test_seed_tts_eval(tmp_path: Path) -> None:
    path = tmp_path / "meta.lst"
    path.write_text("common_1|what was said|prompt-wavs/p.wav|say this\ncommon_2|p|prompt-wavs/p.wav|that|wavs/t.wav\n")
    first, second = seed_tts_eval(path, TTS)
    assert (first.id, first.audio, first.text, first.references) == ("common_1", None, "say this", ("say this",))
    assert second.meta == {"prompt_text": "p", "prompt_audio": str(tmp_path / "prompt-wavs" / "p.wav")}
    path.write_text("common_1|what was said|say this\n")
    with pytest.raises(ValueError, match=r"meta\.lst, line 1: expected id\|prompt text\|prompt wav\|text, got 3"):
        seed_tts_eval(path, TTS)
    path.write_text("common_1|p|p.wav| \n")
    with pytest.raises(ValueError, match="line 1: sample 'common_1' has no text to say"):
        seed_tts_eval(path, TTS)


def test_open_asr(tmp_path: Path) -> None:
    write_tone(tmp_path / "x.flac")
    path = tmp_path / "test.csv"
    path.write_text('audio_filepath,duration,text\nx.flac,0.4,"hello, world"\n')
    (sample,) = open_asr(path, ASR)
    assert (sample.id, sample.references, sample.meta) == ("x.flac", ("hello, world",), {"duration": "0.4"})
    path.write_text("audio_filepath,text\nx.flac,\n")
    with pytest.raises(ValueError, match="line 2: expected a recording and what is said in it"):
        open_asr(path, ASR)
    path.write_text("wav,words\nx.flac,hello\n")
    with pytest.raises(ValueError, match=r"needs a column of .*audio_filepath.* got \['wav', 'words'\]"):
        open_asr(path, ASR)


@pytest.mark.parametrize("form", ["saved", "parquet"])
def test_rows_of_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setenv("SPIKEAUDIO_EVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    tone = write_tone(tmp_path / "original.wav")
    content = tone.read_bytes()
    rows = {"prompt": ["who"], "audio": [{"bytes": content, "path": "who.wav"}], "reference": ["me"]}
    dataset = Dataset.from_dict(rows).cast_column("audio", Audio())
    folder = tmp_path / "voicebench"
    if form == "saved":
        dataset.save_to_disk(folder)
    else:
        folder.mkdir()
        dataset.to_parquet(folder / "test.parquet")
    tone.unlink()
    (sample,) = row_samples(load_rows(folder, None, "test"), VOICEBENCH, CONVERSATION, "voicebench")
    assert (sample.id, sample.references, sample.meta) == ("0", ("me",), {"prompt": "who"})
    assert Path(sample.audio or "").read_bytes() == content


def test_rows_that_lack_columns(tmp_path: Path) -> None:
    dataset = Dataset.from_dict({"audio": [str(write_tone(tmp_path / "a.wav"))], "text": [""]})
    with pytest.raises(ValueError, match=r"fleurs has no columns \['sentence'\]; it has \['audio', 'text'\]"):
        row_samples(dataset, Columns(references="sentence"), ASR, "fleurs")
    with pytest.raises(ValueError, match="line 1: sample '0' has an empty reference"):
        row_samples(dataset, Columns(), AQA, str(tmp_path / "test"))
