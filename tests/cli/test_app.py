"""The command line on a complete checkpoint with random weights: what is printed, what is written, what is refused."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from spikeaudio.audio.files import load_audio
from tests.fixtures.checkpoint import tiny_checkpoint  # noqa: F401  (a fixture)
from tests.fixtures.command import Run, refused

ROOT = Path(__file__).resolve().parents[2]


# -- results -------------------------------------------------------------------------------------------------------


def test_transcribe(run: Run, clip: Path) -> None:
    code, out, _ = run("transcribe", clip)
    assert code == 0 and out.count("\n") == 1
    code, both, _ = run("transcribe", clip, clip)
    assert both == f"{clip}: {out}" * 2


def test_transcribe_json(run: Run, clip: Path) -> None:
    code, out, _ = run("transcribe", "--json", clip, clip)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(rows) == 2
    assert set(rows[0]) > {"file", "text", "duration_seconds", "rtf", "segments", "score", "no_speech", "uncertain"} - {
        "rtf"
    }
    assert rows[0]["file"] == str(clip) and rows[0]["duration_seconds"] == 1.0 and rows[0]["rtf"] > 0
    assert rows[0]["text"] == rows[1]["text"]


def test_good_files_get_their_result(run: Run, clip: Path, tmp_path: Path) -> None:
    code, out, err = run("transcribe", "--json", tmp_path / "gone.wav", clip)
    assert code == 2 and json.loads(out)["file"] == str(clip)
    assert err == f"spikeaudio: no such audio file: {tmp_path / 'gone.wav'}\n"


def test_ask(run: Run, clip: Path) -> None:
    code, out, _ = run("ask", clip, "which instrument is this")
    assert code == 0 and out.count("\n") == 1


def test_speak(run: Run, tmp_path: Path) -> None:
    outputs = [tmp_path / name for name in ("a.wav", "b.wav", "c.wav")]
    for output, seed in zip(outputs, (0, 0, 1), strict=True):
        code, out, _ = run("speak", "hello world", "-o", output, "--seed", seed)
        assert code == 0 and out.startswith(f"{output}: ")
    assert outputs[0].read_bytes() == outputs[1].read_bytes() != outputs[2].read_bytes()
    assert soundfile.info(outputs[0]).samplerate == 24000
    assert run("speak", "hello world", "-o", outputs[1], "--speed", 2)[0] == 0
    assert soundfile.info(outputs[1]).frames == pytest.approx(soundfile.info(outputs[0]).frames / 2, abs=1)
    refused(run("speak", "hello world", "-o", outputs[1], "--speed", 9), "between 0.25 and 4")


def test_a_voice_to_speak_with(run: Run, clip: Path, tmp_path: Path) -> None:
    voice, plain, voiced = (tmp_path / name for name in ("voice.wav", "plain.wav", "voiced.wav"))
    soundfile.write(voice, soundfile.read(clip)[0][:4000], 16000)
    assert run("speak", "hello", "-o", plain)[0] == 0 == run("speak", "hello", "-o", voiced, "--voice", voice)[0]
    assert plain.read_bytes() != voiced.read_bytes()
    refused(run("speak", "hello", "-o", tmp_path / "a.wav", "--voice", tmp_path / "no.wav"), "no.wav")
    code, _, err = run("speak", "hello", "-o", tmp_path / "a.wav", "--voice", clip)  # the best part of a longer voice
    assert code == 0, err
    assert (tmp_path / "a.wav").read_bytes() != plain.read_bytes()


def test_tokenize_and_detokenize(run: Run, clip: Path, tmp_path: Path) -> None:
    code, out, _ = run("tokenize", clip)
    row = json.loads(out)
    assert code == 0 and len(row["codes"]) == 13 and row["duration_seconds"] == 1.0  # 12.5 a second, rounded up
    (tmp_path / "object.json").write_text(out)
    (tmp_path / "list.json").write_text(json.dumps(row["codes"]))
    for name in ("object", "list"):
        code, out, _ = run("detokenize", tmp_path / f"{name}.json", "-o", tmp_path / f"{name}.wav")
        assert code == 0 and out.startswith(str(tmp_path / f"{name}.wav"))
    assert len(load_audio(tmp_path / "list.wav", 24000)) == 13 * 4 * 480
    assert (tmp_path / "list.wav").read_bytes() == (tmp_path / "object.wav").read_bytes()


def test_chat_with_a_recording(run: Run, clip: Path) -> None:
    code, out, _ = run("chat", clip)
    assert code == 0 and out.count("\n") == 1


def test_chat_aloud(run: Run, clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "answer.wav"
    code, _, err = run("chat", clip, "-o", output)
    if code:  # random weights may end the answer before its first code
        assert err == f"spikeaudio: the answer has no sound, so {output} was not written\n"
    else:
        assert soundfile.info(output).samplerate == 24000


def test_chat_typed(run: Run, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = iter(["say hello", str(clip), "which instrument is this", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    code, out, _ = run("chat", "--memory", 2)
    assert code == 0 and out.count("\n") == 3


def test_demo(run: Run, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import spikeaudio.cli.demo

    samples = tmp_path / "samples"
    samples.mkdir()
    for name in ("digits", "piano", "question"):
        shutil.copy(clip, samples / f"{name}.wav")
    notes = {
        "digits.wav": "three five one",
        "piano.wav": {"question": "which instrument is this", "text": "piano"},
        "question.wav": {"text": "what is two plus two", "answer": "four"},
    }
    (samples / "samples.json").write_text(json.dumps(notes))
    monkeypatch.setattr(spikeaudio.cli.demo, "SENTENCE", "hello world")
    monkeypatch.setattr(spikeaudio.cli.demo.run_demo, "__defaults__", (samples,))
    code, out, _ = run("demo", "--output", tmp_path / "out")
    assert code == 0
    for expected in ("three five one", "piano", "what is two plus two", "four", "hello world", "spoken.png"):
        assert expected in out
    assert (tmp_path / "out" / "spoken.wav").is_file()
    assert (tmp_path / "out" / "spoken.png").read_bytes().startswith(b"\x89PNG")


def test_doctor(run: Run, tmp_path: Path, tiny_checkpoint: Path) -> None:  # noqa: F811
    code, out, _ = run("doctor")
    assert code == 0
    for word in ("python", "torch", "transformers", "accelerator", str(tiny_checkpoint), "speech_tokenizer/"):
        assert word in out
    code, out, _ = run("doctor", model=tmp_path)
    assert code == 0 and "NOT FOUND" in out


# -- bad input -----------------------------------------------------------------------------------------------------


def write_bad(folder: Path, kind: str) -> Path:
    """A file that is no recording, of one kind."""
    path = folder / f"{kind}.wav"
    samples = np.full(1600, 0.1)
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("these are words, not sound\n" * 9)
    elif kind == "none":
        soundfile.write(path, np.zeros(0), 16000)
    elif kind in ("nan", "inf"):
        samples[3] = float(kind)
        soundfile.write(path, samples, 16000, subtype="FLOAT")
    return path


@pytest.mark.parametrize("kind", ["empty", "text", "none", "nan", "inf", "missing"])
def test_bad_recordings_are_one_sentence(run: Run, tmp_path: Path, kind: str) -> None:
    path = write_bad(tmp_path, kind)
    refused(run("transcribe", path), path.name)
    refused(run("tokenize", path), path.name)
    refused(run("ask", path, "which instrument is this"), path.name)
    refused(run("chat", path), path.name)


@pytest.mark.parametrize("kind", ["one sample", "silence", "8 kHz", "48 kHz stereo", "int32", "float", "flac"])
def test_odd_recordings_get_a_result(run: Run, tmp_path: Path, kind: str) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(8000)
    path = tmp_path / ("clip.flac" if kind == "flac" else "clip.wav")
    samples, rate, subtype = {
        "one sample": (np.array([0.5]), 16000, None),
        "silence": (np.zeros(8000), 16000, None),
        "8 kHz": (noise, 8000, None),
        "48 kHz stereo": (np.stack([noise, noise], axis=1), 48000, None),
        "int32": (noise, 16000, "PCM_32"),
        "float": (noise, 16000, "FLOAT"),
        "flac": (noise, 16000, None),
    }[kind]
    soundfile.write(path, samples, rate, subtype=subtype)
    code, out, err = run("transcribe", "--json", path)
    assert code == 0, err
    assert json.loads(out)["duration_seconds"] == pytest.approx(len(samples) / rate, abs=1e-3)
    code, out, err = run("tokenize", path)
    assert code == 0, err
    assert json.loads(out)["codes"]


def test_an_hour_of_silence(run: Run, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "hour.wav", np.zeros(3600 * 1000, np.int16), 1000)
    code, out, err = run("transcribe", "--json", tmp_path / "hour.wav")
    assert code == 0, err
    assert json.loads(out)["duration_seconds"] == 3600 and json.loads(out)["text"] == ""


@pytest.mark.parametrize("text", ["", "   ", "。、"])
def test_nothing_to_say(run: Run, tmp_path: Path, text: str) -> None:
    refused(run("speak", text, "-o", tmp_path / "a.wav"))
    assert not (tmp_path / "a.wav").exists()


def test_outputs_that_cannot_be_written(run: Run, clip: Path, tmp_path: Path) -> None:
    refused(run("speak", "hello", "-o", tmp_path / "no" / "a.wav"), "does not exist")
    refused(run("speak", "hello", "-o", tmp_path / "a"), "audio format")
    refused(run("speak", "hello", "-o", tmp_path / "a.docx"), "audio format")
    refused(run("chat", clip, "-o", tmp_path / "no" / "a.wav"), "does not exist")


@pytest.mark.parametrize(
    ("content", "word"),
    [("", "not JSON"), ("[]", "no codes"), ('{"ids": [1]}', "no codes"), ("[1.5]", "no codes"), ("[99999]", "99999")],
)
def test_bad_codes(run: Run, tmp_path: Path, content: str, word: str) -> None:
    (tmp_path / "codes.json").write_text(content)
    refused(run("detokenize", tmp_path / "codes.json", "-o", tmp_path / "a.wav"), word)


def test_missing_codes(run: Run, tmp_path: Path) -> None:
    refused(run("detokenize", tmp_path / "codes.json", "-o", tmp_path / "a.wav"), "no such file of codes")


def test_bad_checkpoints(run: Run, clip: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:  # noqa: F811
    refused(run("transcribe", clip, model=tmp_path / "nowhere"), "nowhere")
    broken = tmp_path / "broken"
    shutil.copytree(tiny_checkpoint, broken)
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    refused(run("transcribe", clip, model=broken), "broken")
    (broken / "model.safetensors").write_bytes(weights)
    shutil.rmtree(broken / "detokenizer")
    assert run("transcribe", clip, model=broken)[0] == 0
    refused(run("speak", "hello", "-o", tmp_path / "a.wav", model=broken), "detokenizer/")


# -- the program ---------------------------------------------------------------------------------------------------


def test_help_needs_neither_torch_nor_transformers() -> None:
    code = """
import sys
from spikeaudio.cli.app import main
try:
    main(["--help"])
except SystemExit as stop:
    assert not stop.code
heavy = [name for name in ("torch", "transformers", "numpy", "soundfile", "rich", "asyncio") if name in sys.modules]
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for command in ("transcribe", "ask", "speak", "chat", "tokenize", "detokenize", "doctor", "demo"):
        assert command in done.stdout


def test_wrong_usage_is_exit_code_2(run: Run) -> None:
    for arguments in (["transcribe"], ["speak", "hello"], ["sing"], ["speak", "hi", "-o", "a.wav", "--seed", "x"]):
        code, out, err = run(*arguments)
        assert code == 2 and out == "" and "Traceback" not in err


@pytest.mark.slow
def test_program_reads_the_environment(tmp_path: Path) -> None:
    """The whole program in a process of its own: one sentence, exit code 2."""
    environment = {**os.environ, "SPIKEAUDIO_MODEL": str(tmp_path / "elsewhere")}
    done = subprocess.run(
        [sys.executable, "-c", "from spikeaudio.cli.app import main; main()", "ask", "a.wav", "who"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "elsewhere" in done.stderr
