"""Samples from the files of other toolkits, as they are; recordings are seen from the file's folder.

    kimi_evalkit   Kimi-Audio-Evalkit's JSON Lines: index, audio_path, question, answer, subset (, audio_content,
                   choices, and IFEval's instruction, instruction_kwargs)
    seed_tts_eval  seed-tts-eval's lists: id|prompt text|prompt wav|text to say (|recording of it)
    open_asr       CSV with the Open ASR Leaderboard's columns: audio_filepath, text (others: meta); or a table with
                   tabs, as Common Voice (path, sentence) and CoVoST 2 (path, sentence, translation) have it
    fsdd           the folder of the Free Spoken Digit Dataset: recordings/{digit}_{speaker}_{take}.wav

Rows of `datasets`, VoiceBench among them, are read by :mod:`eval.tasks.rows`. None of these formats can say "nothing is
said", so an empty transcript is an error here.
"""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eval.sample import ARGUMENTS, KINDS, PROMPT_AUDIO, Sample
from eval.task import AQA, ASR, Job
from eval.tasks.manifest import checked, json_lines, seen_from_here

_FSDD_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[^_]+)_(?P<take>\d+)")
_CHOICE = re.compile(r"^\s*\(?[A-Z][).]\s*(.+?)\s*$", re.MULTILINE)
_AUDIO_COLUMNS = ("audio_filepath", "audio_path", "file_name", "path", "audio")
_TEXT_COLUMNS = ("text", "sentence", "normalized_text", "transcript", "transcription")
_ANSWER_COLUMNS = ("translation", "answer")  # where something is asked about the recording
_DIGITS = "zero one two three four five six seven eight nine".split()
_FSDD_TEST_TAKES = range(5)


def kimi_evalkit(path: Path, job: Job) -> list[Sample]:
    """Samples of Kimi-Audio-Evalkit.

    The question is kept for AQA, with the choices "(A) ..." that it lists; the other jobs ask their own. What is said
    in a recording (`audio_content`) is given as meta.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is broken, named by number.
    """
    return checked(path, job, _kimi_rows(path, job))


def seed_tts_eval(path: Path, job: Job) -> list[Sample]:
    """Samples of seed-tts-eval: the text is the reference, too; the prompt is given as meta.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is broken, named by number.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    return checked(path, job, _seed_rows(path))


def open_asr(path: Path, job: Job) -> list[Sample]:
    """Samples of a table with a column for the recording and one for what is right: of a CSV file, or with tabs.

    In a table with tabs nothing is quoted, and recordings may lie in clips/ beside it, as in Common Voice.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, or a line is broken, named by number.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    return checked(path, job, _table_rows(path, job))


def fsdd(folder: Path, job: Job) -> list[Sample]:
    """The published test set of the Free Spoken Digit Dataset, takes 0 to 4 of every speaker and digit.

    Raises:
        ValueError: a file's name is none of the dataset's, or no test take is there.
    """
    return checked(folder / "recordings" / "*.wav", job, _fsdd_rows(folder / "recordings"))


def choices_in(question: str) -> tuple[str, ...]:
    """The choices that a question lists, one per line, as "(A) ...", "A) ..." or "A. ..."; less than two are none."""
    found = tuple(_CHOICE.findall(question))
    return found if len(found) > 1 else ()


def texts(value: Any) -> tuple[str, ...]:
    """One or several answers as texts."""
    if value is None:
        return ()
    return tuple(str(item) for item in value) if isinstance(value, list | tuple) else (str(value),)


def _kimi_rows(path: Path, job: Job) -> Iterator[tuple[int, Sample | ValueError]]:
    for number, row in json_lines(path):
        yield number, _kimi_sample(row, job)


def _kimi_sample(row: dict[str, Any], job: Job) -> Sample | ValueError:
    """A row as a sample, or what is wrong with it."""
    recordings = texts(row.get("audio_path"))
    if "index" not in row or not recordings:
        return ValueError(f"expected index, audio_path, question and answer, got {sorted(row)}")
    if len(recordings) > 1:
        return ValueError(f"expected one recording, got {len(recordings)}")
    if job.asked == ASR and not str(row.get("answer") or "").strip():
        return ValueError("the transcript is empty")
    question = str(row.get("question") or "")
    meta = {name: str(row[name]) for name in ("subset", "audio_content") if row.get(name)}
    told = {KINDS: row.get("instruction"), ARGUMENTS: row.get("instruction_kwargs")}
    meta |= {name: json.dumps(value, ensure_ascii=False) for name, value in told.items() if value is not None}
    answers = tuple(answer for answer in texts(row.get("answer")) if answer.strip() or job.asked == AQA)
    if job.asked != AQA:
        return Sample(str(row["index"]), recordings[0], None, answers, (), meta)
    choices = texts(row.get("choices")) or choices_in(question)
    if choices and all(answer.strip() for answer in answers):
        places = [_place(answer, choices) for answer in answers]
        if None in places:
            return ValueError(f"the answer {answers[places.index(None)]!r} is none of the choices {choices}")
        answers = tuple(choices[place] for place in places if place is not None)
    return Sample(str(row["index"]), recordings[0], question or None, answers, choices, meta)


def _place(answer: str, choices: tuple[str, ...]) -> int | None:
    """Which choice a row's answer is; None: none.

    Labels of data sets are not always spelled as the questions list them: "city_center", "cafe/restaurant" (TUT 2017)
    for "cafe or restaurant", a longer form ("Crying" for "Cry"), or the choice's letter.
    """
    plain = [_plain(choice) for choice in choices]
    for spelled in (answer, answer.replace("/", " or ")):
        if _plain(spelled) in plain:
            return plain.index(_plain(spelled))
    if len(answer.strip()) == 1 and 0 <= (place := ord(answer.strip().upper()) - ord("A")) < len(choices):
        return place
    begun = [place for place, choice in enumerate(plain) if choice and _plain(answer).startswith(choice)]
    return begun[0] if len(begun) == 1 else None


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def _seed_rows(path: Path) -> Iterator[tuple[int, Sample | ValueError]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        parts = line.split("|")
        if len(parts) not in (4, 5):
            yield number, ValueError(f"expected id|prompt text|prompt wav|text, got {len(parts)} fields")
            continue
        name, prompt_text, prompt_audio, text = parts[:4]
        meta = {"prompt_text": prompt_text, PROMPT_AUDIO: seen_from_here(path.parent / prompt_audio)}
        yield number, Sample(name, None, text, (text,), (), meta)


def _table_rows(path: Path, job: Job) -> Iterator[tuple[int, Sample | ValueError]]:
    tabs = path.suffix == ".tsv"
    right = _ANSWER_COLUMNS if job.asked == AQA else _TEXT_COLUMNS
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.DictReader(file)
        audio = next((name for name in _AUDIO_COLUMNS if name in (reader.fieldnames or ())), None)
        text = next((name for name in right if name in (reader.fieldnames or ())), None)
        if audio is None or text is None:
            raise ValueError(f"{path} needs a column of {_AUDIO_COLUMNS} and one of {right}, got {reader.fieldnames}")
        for row in reader:
            if not row[audio] or not (row[text] or "").strip() or None in row:
                yield reader.line_num, ValueError(f"expected a recording and what is said in it, got {row}")
                continue
            meta = {name: value for name, value in row.items() if value and name not in (audio, text, "id")}
            clip = Path("clips", row[audio]) if tabs and not (path.parent / row[audio]).exists() else row[audio]
            yield reader.line_num, Sample(row.get("id") or row[audio], str(clip), None, (row[text],), (), meta)


def _fsdd_rows(folder: Path) -> Iterator[tuple[int, Sample | ValueError]]:
    for number, path in enumerate(sorted(folder.glob("*.wav")), start=1):
        name = _FSDD_NAME.fullmatch(path.stem)
        if name is None:
            yield number, ValueError(f"expected {{digit}}_{{speaker}}_{{take}}.wav, got {path.name}")
        elif int(name["take"]) in _FSDD_TEST_TAKES:
            meta = {"subset": name["speaker"], "speaker": name["speaker"], "take": name["take"]}
            yield number, Sample(path.stem, path.name, None, (_DIGITS[int(name["digit"])],), (), meta)
