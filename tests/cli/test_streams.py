"""Standard input and output, folders, files of text, devices and types."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tests.fixtures.checkpoint import tiny_checkpoint  # noqa: F401  (a fixture)
from tests.fixtures.command import Run, refused

ROOT = Path(__file__).resolve().parents[2]


def test_standard_input_and_output(clip: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:  # noqa: F811
    """One process transcribes what another spoke, through a pipe; nothing but sound is on its standard output."""
    program = [sys.executable, "-c", "from spikeaudio.cli.app import main; main()"]
    model = ["--model", str(tiny_checkpoint)]
    spoken = subprocess.run(
        [*program, "speak", "-", "-o", "-", *model], input=b"hello world", capture_output=True, cwd=ROOT, timeout=300
    )
    assert spoken.returncode == 0, spoken.stderr
    assert spoken.stdout.startswith(b"RIFF") and b"written to standard output" in spoken.stderr
    heard = subprocess.run(
        [*program, "tokenize", "-", *model], input=spoken.stdout, capture_output=True, cwd=ROOT, timeout=300
    )
    assert heard.returncode == 0 and json.loads(heard.stdout)["codes"], heard.stderr


def test_folders(run: Run, clip: Path, tmp_path: Path) -> None:
    inside = tmp_path / "folder" / "deeper"
    inside.mkdir(parents=True)
    for name in ("b.wav", "a.WAV"):
        shutil.copy(clip, inside / name)
    (inside / "notes.txt").write_text("no recording")
    code, out, _ = run("tokenize", tmp_path / "folder")
    assert code == 0 and [Path(json.loads(line)["file"]).name for line in out.splitlines()] == ["a.WAV", "b.wav"]
    (tmp_path / "empty").mkdir()
    refused(run("tokenize", tmp_path / "empty"), "holds no recordings")


def test_a_file_of_text(run: Run, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes(b"\xef\xbb\xbfhello world\n")
    assert run("speak", "--file", text, "-o", tmp_path / "a.wav")[0] == 0
    assert run("speak", "hello world", "-o", tmp_path / "b.wav")[0] == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    text.write_bytes(b"caf\xe9")
    refused(run("speak", "--file", text, "-o", tmp_path / "a.wav"), "not UTF-8")
    refused(run("speak", "-o", tmp_path / "a.wav"), "either TEXT or --file")


def test_subtitles(run: Run, clip: Path, tmp_path: Path) -> None:
    code, out, _ = run("transcribe", "--format", "vtt", clip)
    assert code == 0 and out.startswith("WEBVTT")
    refused(run("transcribe", "--format", "srt", clip, clip), "--output FOLDER")
    refused(run("transcribe", "--format", "docx", clip), "txt, json, srt, vtt")
    code, out, _ = run("transcribe", "--format", "srt", clip, "-o", tmp_path / "subtitles")
    assert code == 0 and out.strip() == str(tmp_path / "subtitles" / "clip.srt")
    assert (tmp_path / "subtitles" / "clip.srt").is_file()


def test_devices_and_types(run: Run, clip: Path) -> None:
    assert run("tokenize", clip, "--device", "cpu", "--dtype", "bfloat16")[0] == 0
    refused(run("tokenize", clip, "--device", "warp"), "warp")
    refused(run("tokenize", clip, "--dtype", "float7"), "float7", "bfloat16")


def test_version() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from spikeaudio.cli.app import main; main(['--version'])"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0 and done.stdout.startswith("spikeaudio 0.")


def test_no_terminal_loses_a_result(clip: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:  # noqa: F811
    """Names that the terminal cannot show, a name that is no UTF-8, and a reader that has enough after two lines."""
    named = tmp_path / "日本.wav"
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav")
    for path in (named, odd):
        shutil.copy(clip, path)
    program = f"{sys.executable} -c 'from spikeaudio.cli.app import main; main()'"
    recordings = " ".join([shlex.quote(str(named)), shlex.quote(odd), *[str(clip)] * 20])
    done = subprocess.run(
        ["bash", "-c", f"{program} tokenize {recordings} --model {tiny_checkpoint} | head -2"],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        timeout=300,
    )
    assert done.stderr == b"" and len([json.loads(line)["codes"] for line in done.stdout.splitlines()]) == 2


def test_every_option_is_explained_by_a_noun() -> None:
    import typer

    from spikeaudio.cli.app import app

    def options(command: object) -> list[tuple[str, str]]:
        found = [(p.name, getattr(p, "help", None) or "") for p in getattr(command, "params", ())]
        return found + [each for child in getattr(command, "commands", {}).values() for each in options(child)]

    bad = [name for name, text in options(typer.main.get_command(app)) if not text or text.startswith(("Of ", "What "))]
    assert bad == []
