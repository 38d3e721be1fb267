"""The shipped checkpoint does its jobs on the sample clips, which no part of it was trained on."""

import json
from pathlib import Path

import pytest
import torch

from spikeaudio import SpikeAudio
from spikeaudio.audio.files import load_audio
from spikeaudio.audio.samples import resample
from spikeaudio.cli.demo import SAMPLES, SENTENCE

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


def test_a_voice_stays_in_the_detokenizers_context(model: SpikeAudio) -> None:
    """A question's own voice, through three times as much speech as the context holds, in two ways of pushing."""
    wav = load_audio(SAMPLES / "question.wav", 24000)
    voice = model.decoder.voice(wav, model.tokenizer.encode([resample(wav, 24000, 16000)])[0].codes)
    codes = torch.randint(model.decoder.num_codes, (120,), generator=torch.Generator().manual_seed(0))
    mels = []
    for size in (7, 120):
        state = model.decoder.init_state(voice=voice).detokenizer
        frames = voice.mel.shape[1]
        shown = state.values[:, :, :, -frames:].clone()
        pieces = codes[None].split(size, 1)
        mels.append(torch.cat([model.detokenizer.step(piece, state) for piece in pieces], 2))
        assert state.cached_frames.item() == model.detokenizer.config.max_kv_frames
        assert torch.equal(state.values[:, :, :, :frames], shown)
    torch.testing.assert_close(*mels, rtol=0, atol=1e-4)
