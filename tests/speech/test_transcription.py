"""Transcripts of the shipped checkpoint stay what they are, wherever a recording is quiet; their times and scores."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import pipeline

from eval.benchmarks.quiet import measure, recordings
from spikeaudio.audio.files import load_audio
from spikeaudio.pipeline import SpikeAudio
from spikeaudio.speech import transcription
from spikeaudio.speech.result import Transcript

RATE = 16000
SAMPLES = Path("spikeaudio/samples")
ENTRIES = json.loads((SAMPLES / "samples.json").read_text()).items()
SAID = {name: entry["text"] for name, entry in ENTRIES if "answer" in entry}


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> SpikeAudio:
    return SpikeAudio.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def clips() -> list[Tensor]:
    return [load_audio(SAMPLES / name, RATE) for name in SAID]


@pytest.mark.parametrize("place", ["before", "after", "between", "pause"])
def test_quiet_changes_nothing(model: SpikeAudio, clips: list[Tensor], place: str) -> None:
    """The table of `eval/benchmarks/quiet.py`, on few clips."""
    lengths = {"before": [0.4, 2.0, 60.0], "after": [3.0], "between": [0.5, 3.0], "pause": [2.0]}[place]
    pairs = clips[:2] if place == "between" else clips
    rows = measure(model.transcribe, pairs, [place], ["silence", "white", "brown"], lengths)
    assert [row.unchanged for row in rows] == [1.0] * len(rows)


def test_quiet_changes_no_answer(model: SpikeAudio, clips: list[Tensor]) -> None:
    """A recording in a message is heard as one that is transcribed: its pauses are shortened."""
    expected = [model.chat(wav, speech=False).text for wav in clips]
    for place, kind in (("before", "white"), ("pause", "silence"), ("after", "brown")):
        for wav, answer in zip(recordings(place, kind, 5.0, clips), expected, strict=True):
            assert model.chat(wav, speech=False).text == answer
            assert model.ask(wav, model.processor.transcription_request) in SAID.values()


def test_a_sound_keeps_its_pauses(model: SpikeAudio) -> None:
    wav = load_audio(SAMPLES / "instrument.wav", RATE)
    assert model.ask(torch.cat([torch.zeros(3 * RATE), wav]), "which instrument is this") == "flute"


@pytest.mark.parametrize("noise", [0.0, 1e-3, 0.05])
def test_a_recording_without_speech_is_empty(model: SpikeAudio, noise: float) -> None:
    transcript = model.transcribe(torch.randn(20 * RATE) * noise, timestamps=True)
    assert (transcript.text, transcript.segments, transcript.duration) == ("", (), 20.0)
    assert transcript.no_speech and not transcript.uncertain


def test_silence_has_no_answer(model: SpikeAudio) -> None:
    for wrong in (model.chat, lambda wav: model.ask(wav, "who is this")):
        with pytest.raises(ValueError, match="recording is silent"):
            wrong(torch.zeros(RATE))


def test_segments_lie_where_the_words_are(model: SpikeAudio, clips: list[Tensor]) -> None:
    gap = torch.zeros(2 * RATE)
    wav = torch.cat([gap, clips[0], gap, clips[1]])
    transcript = model.transcribe(wav, timestamps=True)
    assert [segment.text for segment in transcript.segments] == list(SAID.values())[:2]
    first, second = transcript.segments
    assert first.start == pytest.approx(2.0, abs=0.1) and first.end == pytest.approx(2 + len(clips[0]) / RATE, abs=0.2)
    assert second.start == pytest.approx(4 + len(clips[0]) / RATE, abs=0.1)
    assert second.end == pytest.approx(transcript.duration, abs=0.2) and transcript.duration == len(wav) / RATE
    assert transcript.text == f"{first.text} {second.text}"


def test_scores_tell_words_from_nonsense(model: SpikeAudio, clips: list[Tensor]) -> None:
    """The same clips, backwards: the score falls below the stored threshold."""
    right = model.transcribe(clips, timestamps=True)
    wrong = model.transcribe([wav.flip(0) for wav in clips], timestamps=True)
    assert not any(transcript.uncertain for transcript in right)
    assert all(transcript.uncertain for transcript in wrong if not transcript.no_speech)
    assert all(0 <= segment.no_speech <= 1 and segment.score <= 0 for t in right + wrong for segment in t.segments)


def test_a_score_is_the_mean_log_probability(random_model: SpikeAudio) -> None:
    """Against one forward pass over the prompt and what was written."""
    wav = torch.randn(RATE) * 0.1
    transcript = random_model.transcribe(wav, timestamps=True, max_new_tokens=6)
    assert isinstance(transcript, Transcript) and len(transcript.segments) == 1
    prompt = random_model.processor.apply_transcription_request(wav)
    output = random_model.model.generate(
        **prompt, generation_mode="text", max_new_tokens=6, output_scores=True, return_dict_in_generate=True
    )
    ids = output.sequences[0, prompt["input_ids"].shape[1] :]
    chosen = [scores[0].log_softmax(dim=-1)[token] for scores, token in zip(output.scores, ids, strict=True)]
    ended = (ids == random_model.processor.layout.text_eos_token_id).nonzero()
    count = int(ended[0]) + 1 if len(ended) else len(ids) + 1
    assert transcript.segments[0].score == pytest.approx(float(sum(chosen)) / count, rel=1e-4)
    silent = output.scores[0][0].softmax(dim=-1)[random_model.processor.layout.text_eos_token_id]
    assert transcript.segments[0].no_speech == pytest.approx(float(silent), rel=1e-4)


# -- roads -------------------------------------------------------------------------------------------------------------


def test_long_recordings_through_the_pipeline(model: SpikeAudio, checkpoint: Path, clips: list[Tensor]) -> None:
    recognize = pipeline("automatic-speech-recognition", model=str(checkpoint))
    pause = torch.zeros(RATE // 2)
    long = torch.cat([part for _ in range(9) for wav in clips for part in (wav, pause)]).numpy()
    assert len(long) > 55 * RATE
    said = model.transcribe(long)
    assert said == " ".join(list(SAID.values()) * 9)
    assert recognize(long)["text"] == said
    texts = [item["text"] for item in recognize([long[: 9 * RATE], clips[0].numpy()], batch_size=2)]
    assert texts == model.transcribe([long[: 9 * RATE], clips[0]])
    with pytest.raises(ValueError, match="chunk_length_s"):
        recognize(long, chunk_length_s=5, ignore_warning=True)
    with pytest.raises(ValueError, match="timestamps"):
        recognize(long, return_timestamps=True)
    message: list[Any] = [{"role": "user", "content": [{"type": "audio", "audio": long}]}]
    for refused in (
        lambda: model.ask(long, "what is this"),
        lambda: model.chat(long),
        lambda: model.processor(audio=long),
        lambda: model.processor.apply_chat_template(message),
    ):
        with pytest.raises(ValueError, match=r"\d\d\.\d seconds of sound, but this model takes at most 12 "):
            refused()


def test_one_word_in_an_hour_of_silence(random_model: SpikeAudio, monkeypatch: pytest.MonkeyPatch) -> None:
    """One word in an hour of silence costs one prompt."""
    monkeypatch.setattr(random_model.processor, "longest_pause", 0.3)
    hour = np.zeros(3600 * RATE, np.float32)
    hour[RATE * 1800 : RATE * 1801] = np.random.default_rng(0).standard_normal(RATE) * 0.1
    transcript = random_model.transcribe(hour, timestamps=True, max_new_tokens=4)
    assert transcript.duration == 3600.0
    assert all(1799.9 < segment.start < segment.end < 1801.1 for segment in transcript.segments)


class Terminal(io.StringIO):
    """Standard error that somebody looks at."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_how_much_of_a_long_recording_is_done(
    random_model: SpikeAudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a delay, which is none here; nothing stays of it, and nothing is shown where nobody looks."""
    monkeypatch.setattr(transcription, "tqdm", lambda **options: tqdm(**{**options, "delay": 0, "mininterval": 0}))
    long = torch.randn(20 * RATE) * 0.1
    for screen in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stderr", screen)
        random_model.transcribe([long] * 3, max_new_tokens=2)
        shown = screen.getvalue()
        assert ("/" in shown and "segment" in shown) == screen.isatty()
    assert not shown
