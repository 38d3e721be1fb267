"""Scoring run folders: failures, shards, subsets, broken files; the defects of others as tests."""

import json
from pathlib import Path

import jiwer
import pytest

from eval.sample import Sample
from eval.scores.command import score
from eval.scores.scored_run import ScoredRun
from eval.texts.normalization import normalize
from tests.fixtures.hand_made_run import HandMadeRun, answer, recognition

SAID = {"a": "the cat sat", "b": "on the mat", "c": "and slept there", "d": ""}


def test_word_error_rate_equals_jiwer(tmp_path: Path) -> None:
    wrote = {"a": "the cat sat", "b": "on a mat today", "c": "and slept", "d": "noise"}
    figure = score(recognition(tmp_path, SAID, wrote)).tasks["asr"].metrics["wer"]
    said, heard = ([normalize(text, "en") for text in texts.values()] for texts in (SAID, wrote))
    theirs = jiwer.process_words(said, heard)
    assert figure.value == theirs.wer and figure.denominator == 9
    assert figure.parts == {
        "substitutions": theirs.substitutions, "deletions": theirs.deletions, "insertions": theirs.insertions
    }  # fmt: skip
    assert figure.macro == pytest.approx((0 + 2 / 3 + 1 / 3 + 1) / 4)
    assert figure.low <= figure.value <= figure.high


def test_a_model_that_fails_on_everything_scores_worst(tmp_path: Path) -> None:
    failing = score(recognition(tmp_path / "failing", SAID, dict.fromkeys(SAID))).tasks["asr"]
    silent = score(recognition(tmp_path / "silent", SAID, {})).tasks["asr"]
    weak = score(recognition(tmp_path / "weak", SAID, {"a": "the", "b": "mat", "c": "sheep", "d": ""})).tasks["asr"]
    for task in (failing, silent):
        assert task.metrics["wer"].n == 4 and task.metrics["wer"].failed == 4 and len(task.failed) == 4
        assert task.metrics["wer"].value > weak.metrics["wer"].value
        assert task.metrics["wer"].denominator == weak.metrics["wer"].denominator
    assert silent.failed["a"] == "no prediction" and failing.failed["a"] == "it raised"


def test_failing_sometimes_never_helps(tmp_path: Path) -> None:
    wrote = {"a": "the cat sat", "b": "on a hat", "c": "and slept", "d": ""}
    whole = score(recognition(tmp_path / "whole", SAID, wrote)).tasks["asr"].metrics["wer"].value
    for key in SAID:
        run = recognition(tmp_path / key, SAID, wrote | {key: None})
        assert score(run).tasks["asr"].metrics["wer"].value > whole


def test_empty_references_only(tmp_path: Path) -> None:
    said = {"a": "", "b": ""}
    assert score(recognition(tmp_path / "1", said, {"a": "", "b": ""})).tasks["asr"].metrics["wer"].value == 0
    assert score(recognition(tmp_path / "2", said, {"a": "two words", "b": ""})).tasks["asr"].metrics["wer"].value == 2
    assert score(recognition(tmp_path / "3", said, {})).tasks["asr"].metrics["wer"].value == 2


def test_shards_doubles_and_a_torn_line(tmp_path: Path) -> None:
    run = HandMadeRun(tmp_path).task("asr", [Sample(key, references=(key,)) for key in "ab"], ("wer",))
    run.predict(answer("asr", "a", "a"), rank=1)
    run.predict(answer("asr", "a", "a"), answer("asr", "stranger", "x"), rank=2)
    with (tmp_path / "predictions-2.jsonl").open("a") as file:
        file.write('{"task": "asr", "id": "b", "te')
    scores = score(tmp_path)
    assert scores.tasks["asr"].metrics["wer"].n == 2 and scores.tasks["asr"].failed == {"b": "no prediction"}
    assert scores.tasks["asr"].metrics["wer"].value == 0.5 and scores.strays == 1


def test_two_answers_to_one_sample_are_refused(tmp_path: Path) -> None:
    run = HandMadeRun(tmp_path).task("asr", [Sample("a", references=("a",))], ("wer",))
    run.predict(answer("asr", "a", error="out of memory")).predict(answer("asr", "a", "a"), rank=1)
    with pytest.raises(ValueError, match="another answer to asr 'a' is stored already"):
        score(tmp_path)


def test_a_line_separator_in_an_answer_is_no_line(tmp_path: Path) -> None:
    run = HandMadeRun(tmp_path).task("asr", [Sample("a", references=("x y",))], ("wer",))
    row = answer("asr", "a", "x\u2028y").to_dict()
    (run.path / "predictions-0.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", "utf-8")
    assert score(tmp_path).tasks["asr"].metrics["wer"].value == 0


def test_stored_answers_that_are_no_text_are_failed_answers(tmp_path: Path) -> None:
    """As runs of earlier versions hold them: a server's parts, an object, a number."""
    texts: dict[str, object] = {"a": [{"type": "text", "text": "the cat"}], "b": {"text": "x"}, "c": 7, "d": None}
    run = HandMadeRun(tmp_path).task("asr", [Sample(key, references=("the cat",)) for key in texts], ("wer", "exact"))
    with (run.path / "predictions-0.jsonl").open("w") as file:
        for key, text in texts.items():
            file.write(json.dumps(answer("asr", key).to_dict() | {"text": text}) + "\n")
    task = score(tmp_path).tasks["asr"]
    assert task.metrics["exact"].numerator == 1 and set(task.failed) == {"b", "c", "d"}
    assert task.failed["b"].startswith("expected a text, got dict")


def test_all_subsets_are_kept_and_nothing_leaks_between_samples(tmp_path: Path) -> None:
    samples = [
        Sample("1", references=("x",), meta={"subset": "first", "speaker": "s1"}),
        Sample("2", references=("y",), meta={"subset": "second"}),
        Sample("3", references=("z",), meta={"subset": "second"}),
        Sample("4", references=("z",)),
    ]
    run = HandMadeRun(tmp_path).task("qa", samples, ("accuracy",), job="aqa")
    run.predict(*(answer("qa", sample.id, text) for sample, text in zip(samples, "xyxz", strict=True)))
    figure = score(tmp_path).tasks["qa"].metrics["accuracy"]
    assert {name: (part.value, part.n) for name, part in figure.subsets.items()} == {
        "first": (1, 1),
        "second": (0.5, 2),
    }
    assert figure.subset_macro == 0.75 and figure.value == 0.75 and figure.n == 4


def test_equal_questions_are_different_samples(tmp_path: Path) -> None:
    samples = [Sample(key, text="what is this?", references=(key,)) for key in ("dog", "cat", "horse")]
    HandMadeRun(tmp_path).task("qa", samples, ("accuracy", "judge_score"), job="aqa").predict(
        *(answer("qa", sample.id, "cat") for sample in samples)
    )
    metrics = score(tmp_path).tasks["qa"].metrics
    assert metrics["accuracy"].n == metrics["judge_score"].n == 3
    assert metrics["accuracy"].numerator == metrics["judge_score"].numerator == 1


def test_scores_are_written_whole_and_read_again(tmp_path: Path) -> None:
    costs, measured = {"tokens": 25.0, "unary_operations": 1e6}, {"seconds": 1.0, "audio_seconds": 2.0}
    recognition(tmp_path, SAID, {"a": "the cat", "b": None}, costs=costs, measured=measured)
    scores = score(tmp_path)
    first = (tmp_path / "scores.json").read_bytes()
    assert ScoredRun.read(tmp_path) == scores and score(tmp_path) == scores
    assert (tmp_path / "scores.json").read_bytes() == first and not list(tmp_path.glob("*.partial"))
    assert scores.tasks["asr"].costs["tokens"].value == 12.5 and scores.tasks["asr"].costs["tokens"].n == 1
    assert scores.tasks["asr"].measured["real_time_factor"].value == 0.5


def test_a_missing_package_leaves_out_a_metric_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "speechmos", None)
    (tmp_path / "a.wav").write_bytes(b"?")
    monkeypatch.setattr("eval.metrics.signal.load", lambda path: None)
    run = HandMadeRun(tmp_path).task("tts", [Sample("a", text="x")], ("dnsmos",), job="tts")
    run.predict(answer("tts", "a", audio="a.wav"))
    task = score(tmp_path).tasks["tts"]
    assert not task.metrics and "pip install spikeaudio[eval]" in task.left_out["dnsmos"]


@pytest.mark.parametrize(
    "spoil,message",
    [
        (lambda run: (run / "record.json").unlink(), "is not a run: it has no record.json"),
        (lambda run: (run / "record.json").write_text('{"format": 99}'), "was written in format 99"),
        (lambda run: (run / "samples.jsonl").write_text(""), "lists no sample"),
        (
            lambda run: (run / "predictions-0.jsonl").write_text("oops\n{}\n"),
            r"predictions-0.jsonl, line 1 is not a prediction",
        ),
        (lambda run: (run / "samples.jsonl").write_text((run / "samples.jsonl").read_text() * 2), "listed twice"),
    ],
)
def test_broken_folders_are_refused_by_name(tmp_path: Path, spoil, message: str) -> None:
    recognition(tmp_path, SAID, {"a": "x"})
    spoil(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        score(tmp_path)


def test_the_ear_hears_english_only(tmp_path: Path) -> None:
    run = HandMadeRun(tmp_path).task("tts", [Sample("a", text="你好")], ("spoken_wer",), job="tts", language="zh")
    run.predict(answer("tts", "a", audio="a.wav"))
    assert score(tmp_path).tasks["tts"].left_out["spoken_wer"].startswith("the ASR judge hears English only")


def test_what_was_counted_is_given_per_second_of_counted_audio(tmp_path: Path) -> None:
    samples = [Sample(key, references=("x",)) for key in "abc"]
    run = HandMadeRun(tmp_path).task("asr", samples, ("exact",))
    counted = {"audio_seconds": 2.0, "tokens": 25.0, "elements": 100.0, "silent_elements": 60.0}
    run.predict(answer("asr", "a", "x", costs=counted), answer("asr", "b", "x"))
    costs = score(tmp_path).tasks["asr"].costs
    assert costs["tokens"].value == 12.5 and costs["tokens"].n == 1 and "audio_seconds" not in costs
    assert costs["ActivationSparsity"].value == 0.6
