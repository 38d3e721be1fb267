"""The shipped checkpoint does its jobs on the sample clips, which no part of it was trained on."""

import json
from pathlib import Path

import pytest
import torch

from spikeaudio import SpikeAudio
from spikeaudio.audio import load_audio
from spikeaudio.demo import SAMPLES, SENTENCE

CLIPS = {name: notes for name, notes in json.loads((SAMPLES / "samples.json").read_text()).items()}
QUESTIONS = [name for name, notes in CLIPS.items() if "answer" in notes]


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> SpikeAudio:
    return SpikeAudio.from_pretrained(checkpoint)


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_spoken_question_is_heard_and_answered(model: SpikeAudio, name: str) -> None:
    assert model.transcribe(SAMPLES / name) == CLIPS[name]["text"]
    reply = model.chat(SAMPLES / name, speech=False)
    assert (reply.question, reply.text) == (CLIPS[name]["text"], CLIPS[name]["answer"])


def test_an_instrument_is_named(model: SpikeAudio) -> None:
    notes = CLIPS["instrument.wav"]
    assert model.ask(SAMPLES / "instrument.wav", notes["question"]) == notes["text"]


def test_what_it_says_it_understands(model: SpikeAudio, tmp_path: Path) -> None:
    speech = model.speak(SENTENCE, tmp_path / "out.wav", seed=0)
    assert 0.8 < len(speech.wav) / speech.sampling_rate < 4
    assert model.transcribe(tmp_path / "out.wav") == SENTENCE


def test_streamed_answer_equals_the_whole_one(model: SpikeAudio) -> None:
    clip = SAMPLES / "question.wav"
    events = list(model.stream(str(clip)))
    whole = model.chat(clip)
    waves = [event.wav for event in events if hasattr(event, "wav")]
    assert whole.wav is not None and len(waves) > 1
    torch.testing.assert_close(torch.cat(waves), whole.wav, rtol=0, atol=1e-4)


def test_a_long_recording_keeps_all_its_sentences(model: SpikeAudio) -> None:
    pause = torch.zeros(8000)
    parts = [part for name in QUESTIONS * 4 for part in (load_audio(SAMPLES / name, 16000), pause)]
    expected = " ".join(CLIPS[name]["text"] for name in QUESTIONS * 4)
    heard = str(model.transcribe(torch.cat(parts)))
    common = sum(word in expected.split() for word in heard.split())
    assert common > 0.85 * len(expected.split()), heard
