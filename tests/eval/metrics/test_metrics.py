"""Metrics against the libraries they are built on, and against the ways in which others have miscounted."""

import sys
from dataclasses import replace
from pathlib import Path

import jiwer
import numpy as np
import pytest

from eval.judges.judgements import Judgements, content_key
from eval.judges.rules import Rules
from eval.metrics import METRICS, cost_metrics, metric
from eval.metrics.case import Case
from eval.metrics.error_rate import character_errors, word_errors
from eval.metrics.signal import load
from eval.sample import REFERENCE_AUDIO, Prediction, Sample
from eval.task import CODEC, CONVERSATION, TTS, Job
from eval.tasks.bundled import FOLDER
from eval.texts.normalization import PlainNormalizer, counted_units, normalize
from tests.eval.conftest import write_tone

GOLDEN = [
    ("the quick brown fox", "the quick brown fox"),
    ("the quick brown fox", "quick brown socks"),
    ("one", "one and another and another"),
    ("", "words from nowhere"),
    ("", ""),
    ("all is lost here", ""),
    ("naïve café über straße", "naive café uber strasse"),
    ("привет мир", "привет, мир!"),
]


@pytest.mark.parametrize("said,heard", GOLDEN)
@pytest.mark.parametrize("language", ["en", "de"])
def test_errors_equal_jiwer(said: str, heard: str, language: str) -> None:
    reference, hypothesis = normalize(said, language), normalize(heard, language)
    rules = PlainNormalizer(language)
    words, characters = word_errors([said], heard, rules), character_errors([said], heard, rules)
    assert words.numerator / max(1, words.denominator) == pytest.approx(jiwer.wer(reference, hypothesis), abs=1e-12)
    assert characters.numerator / max(1, characters.denominator) == pytest.approx(jiwer.cer(reference, hypothesis))
    assert sum(words.parts.values()) == words.numerator


def test_parts_of_an_error_rate() -> None:
    count = word_errors(["a b c d"], "x b c e e", PlainNormalizer("de"))
    assert count.parts == {"substitutions": 2, "deletions": 0, "insertions": 1} and count.denominator == 4
    assert word_errors(["a b c d"], None, PlainNormalizer("de")).parts == {
        "substitutions": 0,
        "deletions": 4,
        "insertions": 0,
    }


def test_failing_on_silence_is_no_good_answer() -> None:
    assert word_errors([""], "").numerator == 0
    assert word_errors([""], None).numerator == 1


def test_the_best_of_several_references_counts() -> None:
    assert word_errors(["color me blue", "paint me red"], "paint me read").numerator == 1


def test_chinese_is_counted_by_character() -> None:
    assert counted_units("今天天气，很好。", PlainNormalizer("zh")) == list("今天天气很好")
    count = word_errors(["今天天气很好"], "今天天很坏", PlainNormalizer("zh"))
    assert count.denominator == 6 and count.parts == {"substitutions": 1, "deletions": 1, "insertions": 0}
    assert character_errors(["今天天气很好"], "今天天很坏", PlainNormalizer("zh")).numerator == 2


def case(tmp_path: Path, text: str | None, job: Job = CONVERSATION, **rest: object) -> Case:
    prediction = Prediction("t", "a", "k", text, **rest)  # type: ignore[arg-type]
    sample = Sample("a", references=("paris",))
    return Case(job, "en", sample, prediction, tmp_path, Judgements(tmp_path / "judgements.jsonl"))  # type: ignore[arg-type]


WORST = {
    "wer": 1, "accuracy": 0, "spoken_wer": 1, "spoken_accuracy": 0, "modality_gap": 1, "modality_gap_wer": 1,
    "own_wer": 1, "dnsmos": 1, "judge_score": 0,
    "bleu": 0, "chrf": 0, "refusal": 0, "pesq": 1, "speaker_similarity": -1,
}  # fmt: skip


@pytest.mark.parametrize("name", WORST)
def test_a_failure_is_the_worst_answer(tmp_path: Path, name: str) -> None:
    failed = case(tmp_path, None, error="it raised")
    teacher = {REFERENCE_AUDIO: str(write_tone(tmp_path / "teacher.wav"))}
    count = METRICS[name].measure(replace(failed, sample=replace(failed.sample, meta=teacher)))
    assert count is not None and count.numerator / count.denominator == WORST[name]


def test_the_gap_between_writing_and_speech(tmp_path: Path) -> None:
    recording = b"not listened to: the ASR judge's reply is recorded"
    (tmp_path / "a.flac").write_bytes(recording)
    asked = case(tmp_path, "Paris", audio="a.flac")
    judge = asked.judgements.judge_of("pocketsphinx")
    asked.judgements.obtain(judge, content_key(recording), lambda: "parrots")
    names = ("modality_gap", "modality_gap_wer", "own_wer", "spoken_wer")
    counts = {name: METRICS[name].measure(asked) for name in names}
    assert {name: count and count.numerator for name, count in counts.items()} == dict.fromkeys(counts, 1.0)


def test_unknown_metric() -> None:
    with pytest.raises(ValueError, match="unknown metric 'bleurt'; there are wer, "):
        metric("bleurt", Rules())


def test_time_and_cost(tmp_path: Path) -> None:
    asked = case(tmp_path, "x", measured={"seconds": 3.0, "audio_seconds": 2.0}, costs={"tokens": 25.0})
    factor, tokens = METRICS["real_time_factor"].measure(asked), cost_metrics(["tokens"])["tokens"].measure(asked)
    assert factor and factor.numerator / factor.denominator == 1.5
    assert tokens and tokens.numerator / tokens.denominator == 12.5
    assert METRICS["first_audio_seconds"].measure(asked) is None


def tone(seconds: float = 2.0) -> np.ndarray:
    time = np.arange(int(seconds * 16000)) / 16000
    return (0.3 * np.sin(2 * np.pi * 220 * time) * (1 + np.sin(2 * np.pi * 3 * time)) / 2).astype(np.float32)


@pytest.mark.slow
def test_dnsmos_equals_speechmos() -> None:
    networks = pytest.importorskip("speechmos.dnsmos", reason="speechmos is not installed (spikeaudio[eval])")
    from eval.metrics.signal import dnsmos

    theirs, ours = networks.run(tone(), sr=16000), dnsmos(tone())
    assert ours == {name: pytest.approx(float(theirs[name]), abs=1e-6) for name in ours}
    assert 1 <= ours["ovrl_mos"] <= 5
    assert dnsmos(3 * tone())["ovrl_mos"] <= 5  # beyond [-1, 1], which the networks refuse


def test_stoi_equals_pystoi() -> None:
    package = pytest.importorskip("pystoi", reason="pystoi is not installed (spikeaudio[eval])")
    from eval.metrics.signal import stoi

    clean = np.random.default_rng(0).standard_normal(32000).astype(np.float32)
    noisy = clean + np.random.default_rng(1).standard_normal(32000).astype(np.float32)
    assert stoi(clean, noisy) == pytest.approx(package.stoi(clean, noisy, 16000))
    assert stoi(clean, clean) == pytest.approx(1, abs=1e-6) and stoi(clean, noisy) < 0.9
    with pytest.raises(ValueError, match=r"STOI needs 0\.4 s"):
        stoi(clean[:100], clean)


def test_pesq_equals_the_package(tmp_path: Path) -> None:
    package = pytest.importorskip("pesq", reason="pesq is not installed (spikeaudio[pesq], needs a C compiler)")
    from eval.metrics.signal import pesq

    recording = next(iter(sorted((FOLDER / "audio").glob("*.flac"))))
    clean = load(recording)
    noisy = clean + np.random.default_rng(0).normal(0, 0.005, len(clean)).astype(np.float32)
    assert pesq(clean, noisy) == pytest.approx(package.pesq(16000, clean, noisy, "wb"))
    assert pesq(clean, clean) == pytest.approx(4.644, abs=1e-3) and (pesq(clean, noisy) or 5) < 4
    assert pesq(clean, np.zeros_like(clean)) is None and pesq(np.zeros_like(clean), clean) is None
    with pytest.raises(ValueError, match=r"PESQ needs 0\.25 s of both signals, got 0\.01 s"):
        pesq(clean[:160], clean)
    spoken = Prediction("t", "a", "k", audio=str(recording.resolve()))
    judgements = Judgements(tmp_path / "j.jsonl")
    copied = Case(CODEC, "en", Sample("a", str(recording)), spoken, tmp_path, judgements)
    count = METRICS["pesq"].measure(copied)
    assert count is not None and count.numerator == pytest.approx(4.644, abs=1e-3)
    assert METRICS["pesq"].measure(Case(TTS, "en", Sample("a"), spoken, tmp_path, judgements)) is None


def test_a_missing_package_is_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    from eval.metrics.signal import pesq

    monkeypatch.setitem(sys.modules, "pesq", None)
    with pytest.raises(ImportError, match=r"needs a C compiler: pip install spikeaudio\[pesq\]"):
        pesq(tone(), tone())
