"""The facade on a complete checkpoint with random weights: shapes, equalities, and one sentence for everything bad."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from spikeaudio.audio.samples import resample
from spikeaudio.lm.legal_tokens import LegalTokens, stop_token_ids
from spikeaudio.pipeline import SpikeAudio
from spikeaudio.prompt.conversation import spoken_text_ids
from spikeaudio.speech.events import AudioEvent, PauseEvent, TextEvent

RATE = 16000


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> SpikeAudio:
    return SpikeAudio.from_pretrained(tiny_checkpoint)


def noise(seconds: float, seed: int = 0) -> torch.Tensor:
    return torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed)) * 0.1


# -- hearing -----------------------------------------------------------------------------------------------------------


def test_transcribe_list_equals_singles(model: SpikeAudio, tmp_path: Path) -> None:
    wavs = [noise(1.0), noise(0.3, 1), noise(2.0, 2)]
    together = model.transcribe(wavs)
    assert together == [model.transcribe(wav, max_new_tokens=25 + 16) for wav in wavs]
    soundfile.write(tmp_path / "a.wav", wavs[1].numpy(), RATE, subtype="FLOAT")
    assert model.transcribe(str(tmp_path / "a.wav")) == model.transcribe(wavs[1])


def test_transcribe_cuts_long_recordings(model: SpikeAudio) -> None:
    """Two minutes give the words of their pieces, in order."""
    wav = noise(40.0)
    wav[13 * RATE : 14 * RATE] = 0
    wav[27 * RATE : 28 * RATE] = 0
    text = model.transcribe(wav, max_new_tokens=4)
    parts = [wav[: int(13.5 * RATE)], wav[int(13.5 * RATE) : int(27.5 * RATE)], wav[int(27.5 * RATE) :]]
    assert isinstance(text, str)
    assert len(text.split()) >= len(parts) - 1
    silent = torch.cat([torch.zeros(40 * RATE), noise(1.0)])
    assert model.transcribe(silent, max_new_tokens=3)


def test_silence_has_no_words(model: SpikeAudio) -> None:
    assert model.transcribe(torch.zeros(RATE)) == ""
    assert model.transcribe([torch.zeros(1), torch.zeros(50 * RATE)]) == ["", ""]


@pytest.mark.parametrize(
    "wav,rate",
    [
        (np.full(1, 0.5), RATE),
        (np.random.default_rng(0).standard_normal(4000) * 0.1, 8000),
        (np.random.default_rng(0).standard_normal((2, 24000)) * 0.1, 48000),
        ((np.random.default_rng(0).standard_normal(8000) * 3000).astype(np.int16), RATE),
        ([0.1, -0.1] * 500, RATE),
    ],
    ids=["one sample", "8 kHz", "stereo 48 kHz", "int16", "list"],
)
def test_odd_recordings_are_recordings(model: SpikeAudio, wav: Any, rate: int) -> None:
    assert isinstance(model.transcribe(wav, sampling_rate=rate), str)


def test_flac_and_stereo_files(model: SpikeAudio, tmp_path: Path) -> None:
    samples = noise(0.5).numpy()
    soundfile.write(tmp_path / "a.flac", samples, RATE)
    soundfile.write(tmp_path / "a.wav", np.stack([samples, samples], 1), RATE, subtype="PCM_16")
    assert model.transcribe(tmp_path / "a.flac") == model.transcribe(tmp_path / "a.wav")


def test_ask(model: SpikeAudio) -> None:
    assert isinstance(model.ask(noise(0.5), "Which instrument is this?"), str)
    with pytest.raises(ValueError, match="text is empty"):
        model.ask(noise(0.5), " ")


def test_hour_long_prompt_is_refused_with_its_length(model: SpikeAudio) -> None:
    with pytest.raises(ValueError, match=r"takes \d+ positions of 80 ms, but this model has 512"):
        model.ask(noise(60.0), "what is this")


# -- speaking ----------------------------------------------------------------------------------------------------------


def test_speak(model: SpikeAudio, tmp_path: Path) -> None:
    speech = model.speak("Hello, 2 worlds!", tmp_path / "out.wav", seed=3, audio_temperature=1.0)
    assert speech.text == "hello two worlds"
    assert speech.wav.shape == (1920 * len(speech.codes),)
    assert len(speech.codes) > 0
    stored, rate = soundfile.read(tmp_path / "out.wav")
    assert (rate, len(stored)) == (24000, len(speech.wav))
    assert torch.equal(model.detokenize(speech.codes, seed=3), speech.wav)


def test_speak_is_a_function_of_the_seed(model: SpikeAudio) -> None:
    torch.manual_seed(1)
    first = model.speak("hello", seed=5, audio_temperature=1.0)
    torch.manual_seed(2)
    again = model.speak("hello", seed=5, audio_temperature=1.0)
    other = model.speak("hello", seed=6, audio_temperature=1.0)
    assert torch.equal(first.codes, again.codes)
    assert torch.equal(first.wav, again.wav)
    assert first.codes.tolist() != other.codes.tolist()


def test_speech_that_does_not_end_is_cut_at_twelve_codes_per_id(model: SpikeAudio) -> None:
    """The delay before the first code does not count; keywords win."""
    legal = LegalTokens.of(model.model.config)
    legal.audio[list(stop_token_ids(model.model.config))] = False
    ids = spoken_text_ids(model.processor.text_ids("hi"), model.processor.layout)
    assert len(model.speak("hi", legal_tokens=legal).codes) == 12 * len(ids)
    delay = model.model.config.audio_delay
    assert len(model.speak("hi", legal_tokens=legal, max_new_tokens=delay + 5).codes) == 5


def test_speak_reads_sentences_one_by_one(model: SpikeAudio) -> None:
    both = model.speak("Hello there. How are you?", audio_temperature=1.0)
    parts = [
        model.speak("hello there", audio_temperature=1.0),
        model.speak("how are you", seed=1, audio_temperature=1.0),
    ]
    assert torch.equal(both.codes, torch.cat([part.codes for part in parts]))
    assert torch.equal(both.wav, torch.cat([parts[0].wav, torch.zeros(4800), parts[1].wav]))


@pytest.mark.parametrize("text,message", [("", "text is empty"), ("你好", "nothing in the text can be pronounced")])
def test_speak_bad_text(model: SpikeAudio, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.speak(text)


def test_speak_drops_other_scripts(model: SpikeAudio) -> None:
    assert model.speak("hello 你好").text == "hello"


@pytest.mark.parametrize("codes,message", [([], "at least one"), ([0, 32], r"\[0, 32\)"), ([0.5], "integer")])
def test_detokenize_bad_codes(model: SpikeAudio, codes: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.detokenize(codes)


# -- conversation ------------------------------------------------------------------------------------------------------


def test_chat(model: SpikeAudio) -> None:
    reply = model.chat(noise(0.5), audio_temperature=1.0)
    assert reply.question is None
    assert reply.codes is not None and reply.wav is not None
    assert reply.wav.shape == (1920 * len(reply.codes),)
    written = model.chat(noise(0.5), speech=False)
    assert (written.wav, written.codes, written.sampling_rate) == (None, None, None)


def test_chat_shows_the_thought(thinking_checkpoint: Path) -> None:
    model = SpikeAudio.from_pretrained(thinking_checkpoint)
    end = model.model.config.think_end_token_id
    ids = [*model.processor.text_ids("what is two"), end, *model.processor.text_ids("hello")]

    def think(row: int, prefix: torch.Tensor) -> list[int]:
        generated = len(prefix) - length
        return [ids[generated] if generated < len(ids) else model.processor.layout.text_eos_token_id]

    length = model.processor.apply_chat_template([{"role": "user", "content": "hello"}])["input_ids"].shape[1]
    messages = [{"role": "user", "content": "hello"}]
    reply = model.chat(messages, prefix_allowed_tokens_fn=think, max_new_tokens=40)
    assert (reply.question, reply.text) == ("what is two", "hello")
    assert reply.codes is not None
    # codes begin audio_delay steps after the step that follows the end of the thought
    assert len(reply.codes) <= 40 - (ids.index(end) + 1 + model.model.config.audio_delay)
    events = list(model.stream(messages, prefix_allowed_tokens_fn=think, max_new_tokens=40))
    texts = [event for event in events if isinstance(event, TextEvent)]
    assert [event.text for event in texts if event.thought] == ["what is two"]
    assert "".join(event.text for event in texts if not event.thought) == "hello"


@pytest.mark.parametrize("speech", [True, False])
def test_stream_is_chat_in_pieces(model: SpikeAudio, speech: bool) -> None:
    legal = LegalTokens.of(model.model.config)
    legal.audio[list(stop_token_ids(model.model.config))] = False  # or a random model stops at once
    options: dict[str, Any] = {
        "speech": speech,
        "seed": 4,
        "audio_temperature": 1.0,
        "max_new_tokens": 30,
        "legal_tokens": legal,
    }
    messages = [{"role": "user", "content": [{"type": "audio", "audio": noise(0.5)}]}]
    reply = model.chat(messages, **options)
    events = list(model.stream(messages, **options))
    assert "".join(event.text for event in events if isinstance(event, TextEvent)) == reply.text
    sounds = [event for event in events if isinstance(event, AudioEvent)]
    if speech:
        assert reply.wav is not None
        assert len(sounds) > 3
        torch.testing.assert_close(torch.cat([event.wav for event in sounds]), reply.wav, atol=1e-5, rtol=0)
        assert torch.equal(torch.cat([event.codes for event in sounds]), reply.codes)
    else:
        assert not sounds


def test_speak_stream_is_speak_in_pieces(model: SpikeAudio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.processor, "spell_out", True)
    legal = LegalTokens.of(model.model.config)
    legal.audio[list(stop_token_ids(model.model.config))] = False
    options: dict[str, Any] = {"seed": 3, "legal_tokens": legal, "max_new_tokens": 20}
    text = "hello there. how are you?"
    speech, events = model.speak(text, **options), list(model.speak_stream(text, **options))
    torch.testing.assert_close(torch.cat([event.wav for event in events]), speech.wav, atol=1e-5, rtol=0)
    assert torch.equal(torch.cat([event.codes for event in events]), speech.codes)
    assert [type(event) for event in events].count(PauseEvent) == 1 and len(events) > 5
    (end,) = (index for index, event in enumerate(events) if isinstance(event, PauseEvent))
    for seed, part in ((3, events[:end]), (4, events[end + 1 :])):  # every sentence is a stream of its own
        wav = model.detokenize(torch.cat([event.codes for event in part]), seed)
        torch.testing.assert_close(torch.cat([event.wav for event in part]), wav, atol=1e-5, rtol=0)
    voiced = model.speak(text, voice=noise(0.3), **options).wav
    streamed = torch.cat([event.wav for event in model.speak_stream(text, voice=noise(0.3), **options)])
    torch.testing.assert_close(streamed, voiced, atol=1e-5, rtol=0)
    assert (streamed - speech.wav).abs().max() > 1e-5


def test_stream_raises_what_generate_raises(model: SpikeAudio) -> None:
    with pytest.raises(ValueError, match="made to fail"):

        def fail(row: int, prefix: torch.Tensor) -> list[int]:
            raise ValueError("made to fail")

        list(model.stream([{"role": "user", "content": "hello"}], prefix_allowed_tokens_fn=fail))


def test_two_conversations_at_once(model: SpikeAudio) -> None:
    options: dict[str, Any] = {"audio_temperature": 1.0, "max_new_tokens": 20}
    first, second = (lambda: model.stream(noise(0.5), **options)), (lambda: model.stream(noise(0.4, 1), **options))
    alone = [list(first()), list(second())]
    a, b = first(), second()
    mixed: list[list[Any]] = [[next(a)], [next(b)]]
    mixed[0] += list(a)
    mixed[1] += list(b)
    for events, expected in zip(mixed, alone, strict=True):
        wavs = [torch.cat([e.wav for e in part if isinstance(e, AudioEvent)]) for part in (events, expected)]
        assert torch.equal(*wavs)


# -- a voice -----------------------------------------------------------------------------------------------------------


def test_speaking_in_a_voice(model: SpikeAudio, tmp_path: Path) -> None:
    """The recording's codes and mel are the prompt of every sentence, of chat and of the stream."""
    wav = noise(0.3)
    soundfile.write(tmp_path / "voice.wav", wav.numpy(), RATE, subtype="FLOAT")
    spoken = model.speak("Hello there. How are you?", voice=tmp_path / "voice.wav", audio_temperature=1.0)
    plain = model.speak("Hello there. How are you?", audio_temperature=1.0)
    assert torch.equal(spoken.codes, plain.codes)
    assert (spoken.wav - plain.wav).abs().max() > 1e-5
    again = model.speak("Hello there. How are you?", voice=wav, audio_temperature=1.0)
    torch.testing.assert_close(again.wav, spoken.wav)
    first = model.speak("Hello there.", voice=wav, audio_temperature=1.0)
    torch.testing.assert_close(first.wav, spoken.wav[: len(first.wav)])

    options: dict[str, Any] = {"voice": wav, "audio_temperature": 1.0, "max_new_tokens": 20}
    reply = model.chat(noise(0.5), **options)
    assert reply.wav is not None and reply.codes is not None
    voice = model.decoder.voice(resample(wav, RATE, 24000), model.tokenizer.encode([wav])[0].codes)
    torch.testing.assert_close(reply.wav, model.decoder.decode(reply.codes, voice=voice), atol=1e-4, rtol=0)
    sounds = [event.wav for event in model.stream(noise(0.5), **options) if isinstance(event, AudioEvent)]
    torch.testing.assert_close(torch.cat(sounds), reply.wav, atol=1e-5, rtol=0)


def test_the_best_part_of_a_long_voice(model: SpikeAudio, caplog: pytest.LogCaptureFixture) -> None:
    """This model takes 0.32 s of it. The limit is told, once, and where the part lies."""
    wav = torch.cat([torch.zeros(2 * RATE), noise(0.32), torch.zeros(RATE)])
    spoken = model.speak("Hello there. How are you?", voice=wav, audio_temperature=1.0)
    assert len(caplog.records) == 1
    assert "3.3 seconds" in caplog.text and "seconds 2.0 to 2.3" in caplog.text and "takes 0.32" in caplog.text
    alone = model.speak("Hello there. How are you?", voice=wav[2 * RATE :][:5120], audio_temperature=1.0)
    assert torch.equal(spoken.codes, alone.codes)
    assert len(caplog.records) == 1
    plain = model.speak("Hello there. How are you?", audio_temperature=1.0)
    assert (spoken.wav - alone.wav).abs().max() < (spoken.wav - plain.wav).abs().max()


@pytest.mark.parametrize(
    "voice,message",
    [(noise(0.01), "got 0.01"), (torch.full((4000,), torch.nan), "NaN")],
)
def test_bad_voice(model: SpikeAudio, voice: torch.Tensor, message: str) -> None:
    for job in (model.speak, model.chat):
        with pytest.raises(ValueError, match=message):
            job("hello" if job == model.speak else noise(0.3), voice=voice)


# -- bad files ---------------------------------------------------------------------------------------------------------


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("this is not audio\n" * 20)


def _no_samples(path: Path) -> None:
    soundfile.write(path, np.zeros(0), RATE)


def _nan(path: Path) -> None:
    soundfile.write(path, np.full(100, np.nan), RATE, subtype="FLOAT")


@pytest.mark.parametrize(
    "write,message", [(_empty, "0 bytes"), (_text, "is not audio"), (_no_samples, "no samples"), (_nan, "NaN")]
)
def test_bad_files(model: SpikeAudio, tmp_path: Path, write: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "bad.wav"
    write(path)
    with pytest.raises(ValueError, match=message):
        model.transcribe(path)


def test_missing_file(model: SpikeAudio) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such audio file: nowhere\.wav"):
        model.transcribe("nowhere.wav")
