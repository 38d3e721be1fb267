"""Our own models through the adapter: every job, dense and spiking, and a spiking claim that is empty."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from eval.adapters.adapter import CountingAdapter, Request, Response, Unavailable
from eval.adapters.spikeaudio_model import SpikeAudioAdapter
from eval.run.plan import Settings
from eval.run.store import read_predictions
from eval.task import AQA, ASR, CODEC, CONVERSATION, TTS, Job
from spikeaudio import SpikeAudio
from spikeaudio.audio.files import save_audio
from spikeaudio.spiking.conversion import spiking_layers
from spikeaudio.spiking.neurons.planes import Plane
from spikeaudio.spiking.preparation.settings import ConversionSettings
from spikeaudio.spiking.preset import preset
from spikeaudio.training.spike import spike
from tests.eval.conftest import write_tone
from tests.eval.run.test_command import run


@pytest.fixture(scope="module")
def spiking_checkpoint(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The twin of the tiny checkpoint."""
    folder = tmp_path_factory.mktemp("spiking")
    lines = []
    for name in "abcd":
        save_audio(folder / f"{name}.wav", torch.randn(8000, generator=torch.Generator().manual_seed(1)) * 0.1, 16000)
        asked = [{"type": "text", "text": "say"}, {"type": "audio", "path": f"{name}.wav"}]
        answered = [{"type": "text", "text": "hello"}]
        lines.append({"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]})
    (folder / "examples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    spike(
        tiny_checkpoint, folder / "twin", folder / "examples.jsonl", ConversionSettings(preset("w4a4"), method="round")
    )
    return folder / "twin"


@pytest.fixture(scope="module")
def dense(tiny_checkpoint: Path) -> SpikeAudioAdapter:
    return SpikeAudioAdapter.from_pretrained(str(tiny_checkpoint), "cpu")


def request(job: Job, audio: Path | None = None, text: str | None = None) -> Request:
    return Request(job, None if audio is None else str(audio), text, "en", 0)


def answered(found: list) -> Response:
    (answer,) = found
    assert isinstance(answer, Response), answer
    return answer


def test_answers_are_the_facades(dense: SpikeAudioAdapter, tiny_checkpoint: Path, tmp_path: Path) -> None:
    model = SpikeAudio.from_pretrained(tiny_checkpoint)
    tone = write_tone(tmp_path / "a.wav", 0.7)
    assert dense.jobs == {ASR, AQA, TTS, CONVERSATION, CODEC}
    assert answered(dense.answer([request(ASR, tone)])).text == model.transcribe(str(tone))
    asked = answered(dense.answer([request(AQA, tone, "what is two plus two")]))
    assert asked.text == model.ask(str(tone), "what is two plus two")
    assert asked.measured["audio_seconds"] == 0.7 and asked.measured["seconds"] > 0
    said = answered(dense.answer([request(TTS, None, "hello world")]))
    assert said.text is None and said.sampling_rate == 24000
    np.testing.assert_allclose(said.wav, model.speak("hello world").wav, atol=1e-5)  # streamed
    np.testing.assert_array_equal(said.offline, model.speak("hello world").wav)  # at once, of the same codes
    assert sum(samples for _, samples in said.pieces) == len(said.wav) and said.pieces[0][0] > 0
    assert said.measured["first_audio_seconds"] == said.pieces[0][0]
    assert [there for there, _ in said.pieces] == sorted(there for there, _ in said.pieces)
    assert said.pieces[-1][0] <= said.measured["seconds"]
    reply, expected = answered(dense.answer([request(CONVERSATION, tone)])), model.chat(str(tone))
    assert reply.text == expected.text and expected.wav is not None and reply.wav is not None
    np.testing.assert_allclose(reply.wav, expected.wav, atol=1e-5)  # streamed
    np.testing.assert_array_equal(reply.offline, expected.wav)
    assert 0 < reply.measured["first_audio_seconds"] <= reply.measured["seconds"]
    again = answered(dense.answer([request(CODEC, tone)]))
    assert again.wav is not None and len(again.wav) / 24000 == pytest.approx(0.7, abs=0.1)


def test_two_sentences_at_once_are_those_in_pieces(tiny_checkpoint: Path) -> None:
    model = SpikeAudio.from_pretrained(tiny_checkpoint)
    model.processor.spell_out = True
    said = answered(
        SpikeAudioAdapter(model, tiny_checkpoint).answer([request(TTS, None, "hello. what is two plus two?")])
    )
    assert said.wav is not None and said.offline is not None
    np.testing.assert_allclose(said.wav, said.offline, atol=1e-5)
    np.testing.assert_array_equal(said.offline, model.speak("hello. what is two plus two?").wav)


def test_recordings_of_any_form(dense: SpikeAudioAdapter, tmp_path: Path) -> None:
    forms = [(8000, 1), (48000, 1), (44100, 2)]
    tones = [write_tone(tmp_path / f"{rate}.wav", 0.5, rate, channels) for rate, channels in forms]
    answers = dense.answer([request(ASR, tone) for tone in tones])
    assert all(isinstance(answer, Response) and answer.text is not None for answer in answers)


def test_nan_fails_alone(bundle: Path, tmp_path: Path, dense: SpikeAudioAdapter) -> None:
    soundfile.write(bundle / "audio" / "a.flac", np.zeros(8), 16000)
    wav = np.zeros(4000, np.float32)
    wav[7] = np.nan
    soundfile.write(bundle / "audio" / "b.wav", wav, 16000, subtype="FLOAT")
    run(bundle, tmp_path / "run", dense, only="asr_open")
    found = read_predictions(tmp_path / "run")
    assert "NaN or infinite samples" in (found["bundled_asr_open", "b"].error or "")
    assert found["bundled_asr_open", "a"].text == "" and found["bundled_asr_open", "a"].error is None


def test_costs_are_counted(
    bundle: Path, tmp_path: Path, tiny_checkpoint: Path, spiking_checkpoint: Path, dense: SpikeAudioAdapter
) -> None:
    spiking = SpikeAudioAdapter.from_pretrained(str(spiking_checkpoint), "cpu")
    assert isinstance(spiking, CountingAdapter)
    assert spiking.fingerprint()["spiking"] and not dense.fingerprint()["spiking"]
    assert spiking.fingerprint()["digest"] != dense.fingerprint()["digest"]
    settings = Settings(batch=2, costs=1)
    for name, adapter in (("dense", dense), ("spiking", spiking)):
        for job in ("asr_open", "tts"):
            run(bundle, tmp_path / name / job, adapter, settings, only=job)
    asr = {name: read_predictions(tmp_path / name / "asr_open") for name in ("dense", "spiking")}
    costs = {name: found["bundled_asr_open", "a"].costs for name, found in asr.items()}
    assert not asr["dense"]["bundled_asr_open", "b"].costs
    assert costs["dense"].keys() == costs["spiking"].keys()
    assert costs["dense"]["unary_operations"] == 0 < costs["spiking"]["unary_operations"]
    assert costs["spiking"]["weight_bytes"] < costs["dense"]["weight_bytes"]
    assert costs["dense"]["dense_operations"] == costs["dense"]["unspiking_operations"]
    assert costs["dense"]["picojoules_dense_fp16"] == 1.5 * costs["dense"]["dense_operations"]
    assert costs["spiking"]["audio_seconds"] == pytest.approx(0.4)
    assert all(value > 0 for name, value in costs["spiking"].items()), costs
    tts = read_predictions(tmp_path / "spiking" / "tts")["bundled_tts", "hello world"].costs
    assert tts["unary_events"] > 0 and tts["tokens"] > 0


def test_tokens_are_positions_of_the_trunk(dense: SpikeAudioAdapter, tmp_path: Path) -> None:
    short, long = (
        dense.answer_counted(request(ASR, write_tone(tmp_path / f"{s}.wav", s))).costs["tokens"] for s in (0.4, 2.4)
    )
    assert 20 <= long - short <= 50  # 25 codes more to hear, and at most as many ids more to write


def silent(plane: Plane) -> Plane:
    return replace(plane, counts=torch.zeros_like(plane.counts))


def test_an_empty_claim_is_refused(
    spiking_checkpoint: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = SpikeAudio.from_pretrained(spiking_checkpoint)
    for _, layer in spiking_layers(model.model):
        monkeypatch.setattr(layer, "planes", lambda values, planes=layer.planes: list(map(silent, planes(values))))
    adapter = SpikeAudioAdapter(model, spiking_checkpoint)
    with pytest.raises(Unavailable, match="not one spike fired in its first answer"):
        adapter.answer([request(ASR, write_tone(tmp_path / "a.wav"))])
    claim = SpikeAudio.from_pretrained(tiny_checkpoint)
    claim.model.config.quantization_config = {"quant_method": "gif"}
    with pytest.raises(Unavailable, match="says that it spikes, but it has no spiking layers"):
        SpikeAudioAdapter(claim, tiny_checkpoint)


def test_a_checkpoint_that_cannot_speak(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mute"
    shutil.copytree(tiny_checkpoint, folder, ignore=shutil.ignore_patterns("vocoder"))
    mute = SpikeAudioAdapter.from_pretrained(str(folder), "cpu")
    assert mute.jobs == {ASR, AQA, CONVERSATION}
    reply = answered(mute.answer([request(CONVERSATION, write_tone(tmp_path / "a.wav"))]))
    assert reply.text is not None and reply.wav is None and reply.measured["audio_seconds"] == pytest.approx(0.4)
