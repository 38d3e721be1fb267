"""Reading aloud: sentences, candidates, seeds and warnings."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from spikeaudio.lm.legal_tokens import LegalTokens, stop_token_ids
from spikeaudio.pipeline import SpikeAudio
from spikeaudio.speech.agreement import agreement
from spikeaudio.speech.reading import Reader
from spikeaudio.speech.seeds import as_seed, other_seed

SHORT: dict[str, Any] = {"max_new_tokens": 20, "audio_temperature": 1.0}


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> SpikeAudio:
    return SpikeAudio.from_pretrained(tiny_checkpoint)


@pytest.fixture(scope="module")
def trained() -> SpikeAudio:
    return SpikeAudio.from_pretrained(Path(__file__).parents[2] / "checkpoints" / "spikeaudio-tiny")


def test_a_list_is_read_as_its_texts_are(model: SpikeAudio, tmp_path: Path) -> None:
    texts = ["Hello there. How are you?", "hello"]
    speeches = model.speak(texts, seed=3, **SHORT)
    assert [speech.text for speech in speeches] == ["hello there how are you", "hello"]
    for text, speech in zip(texts, speeches, strict=True):
        assert torch.equal(speech.wav, model.speak(text, seed=3, **SHORT).wav)
    assert model.speak([]) == []
    with pytest.raises(ValueError, match="one output file"):
        model.speak(texts, tmp_path / "out.wav")  # type: ignore[call-overload]


@pytest.mark.parametrize("seed", [None, -1, 2**62 - 1, 2**63, 2**64, 10**30])
def test_any_seed(model: SpikeAudio, seed: int | None) -> None:
    text = "Hello there. How are you?"
    assert len(model.speak(text, seed=seed, candidates=3, **SHORT).wav) > 0
    assert len(torch.cat([event.wav for event in model.speak_stream(text, seed=seed, **SHORT)])) > 0
    assert len(model.detokenize([1, 2], seed=seed)) > 0


def test_no_seed_is_another_one_each_time(model: SpikeAudio) -> None:
    first, second = (model.detokenize([1, 2], seed=None) for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("seed", [1.5, "1", True])
def test_bad_seed(seed: Any) -> None:
    with pytest.raises(ValueError, match="whole number"):
        as_seed(seed)


def test_seeds_of_candidates_differ() -> None:
    seeds = {other_seed(as_seed(seed), number) for seed in range(50) for number in range(8)}
    assert len(seeds) == 400


@pytest.mark.parametrize(
    "said,heard,score",
    [("a b", "A, b.", 1.0), ("abcd", "abce", 0.75), ("ab", "", 0.0), ("ab", "xyzuvw", 0.0), ("", "", 1.0)],
)
def test_agreement(said: str, heard: str, score: float) -> None:
    assert agreement(said, heard) == score


class Judged(Reader):
    """A reader whose model hears a sentence rightly in the k-th candidate; keeps the number of all candidates."""

    right = 0
    wrong = 0.75
    made = 0

    def _heard(self, sentence: str, candidates: Any) -> Any:
        first, type(self).made = self.made, self.made + len(candidates)
        scores = [1.0 if first + index == self.right else self.wrong for index in range(len(candidates))]
        return [
            type(each)(each.codes, each.wav, each.ended, sentence, score)
            for each, score in zip(candidates, scores, strict=True)
        ]


@pytest.mark.parametrize(
    "right,wrong,made", [(0, 0.75, 1), (2, 0.75, 5), (4, 0.75, 5), (6, 0.75, 8), (99, 0.75, 8), (99, 0.5, 5)]
)
def test_the_best_candidate_is_taken(
    model: SpikeAudio, monkeypatch: pytest.MonkeyPatch, right: int, wrong: float, made: int
) -> None:
    """The first if it is right, then batches of four; no second batch where nothing in the first was like it."""
    monkeypatch.setattr(Judged, "right", right)
    monkeypatch.setattr(Judged, "wrong", wrong)
    monkeypatch.setattr(Judged, "made", 0)
    said = Judged(model._generator, model.decoder, candidates=8).sentence("hello there", 5, **SHORT)
    assert Judged.made == made
    seed = 5 if right in (0, 99) else other_seed(5, right)
    assert torch.equal(said.wav, model.speak("hello there", seed=seed, candidates=1, **SHORT).wav)


def test_greedy_candidates_differ(model: SpikeAudio, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the checkpoint is greedy, all but the first are sampled."""
    monkeypatch.setattr(Judged, "right", 3)
    monkeypatch.setattr(Judged, "made", 0)
    reader = Judged(model._generator, model.decoder, candidates=4)
    chosen = reader.sentence("hello there", 5, max_new_tokens=20)
    greedy = model.speak("hello there", seed=5, candidates=1, max_new_tokens=20)
    assert chosen.codes.tolist() != greedy.codes.tolist()


def test_streams_of_candidates_are_their_speech(model: SpikeAudio) -> None:
    options: dict[str, Any] = {"seed": 3, "candidates": 2, **SHORT}
    speech = model.speak("Hello there. How are you?", **options)
    events = list(model.speak_stream("Hello there. How are you?", **options))
    assert torch.equal(torch.cat([event.wav for event in events]), speech.wav)
    assert torch.equal(torch.cat([event.codes for event in events]), speech.codes)


@pytest.mark.parametrize("candidates", [0, -3])
def test_bad_number_of_candidates(model: SpikeAudio, candidates: int) -> None:
    with pytest.raises(ValueError, match="at least one candidate"):
        model.speak("hello", candidates=candidates)


def test_speech_without_end_is_said(model: SpikeAudio, caplog: pytest.LogCaptureFixture) -> None:
    legal = LegalTokens.of(model.model.config)
    legal.audio[list(stop_token_ids(model.model.config))] = False
    with caplog.at_level(logging.WARNING):
        model.speak("hello there", legal_tokens=legal)
    assert "hello there" in caplog.text and "did not end" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        model.speak("hello there", legal_tokens=legal, max_new_tokens=10)  # as asked for
    assert not caplog.text


@pytest.mark.slow
def test_readme_sentences_are_right(trained: SpikeAudio, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        speeches = trained.speak(["Seven plus 5 is 12.", "good morning to you"])
    assert [trained.transcribe(speech.wav, speech.sampling_rate) for speech in speeches] == [
        "seven plus five is twelve",
        "good morning to you",
    ]
    assert [speech.score for speech in speeches] == [1.0, 1.0]
    assert not caplog.text


@pytest.mark.slow
def test_doubtful_speech_is_said(trained: SpikeAudio, caplog: pytest.LogCaptureFixture) -> None:
    """A word that this model never learnt to say."""
    with caplog.at_level(logging.WARNING):
        speech = trained.speak("pneumonia")
    assert speech.score is not None and speech.score < 0.6
    assert "pneumonia" in caplog.text and "may be wrong" in caplog.text
