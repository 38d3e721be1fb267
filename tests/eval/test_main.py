"""The command line, in processes of their own: killed for good, shared out, and wrong input."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from eval.__main__ import main
from eval.run.store import read_predictions
from tests.eval.conftest import write_tone

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """DATA with digits as the FSDD task wants them, 6 of them, and two texts of seed-tts-eval."""
    lines = ["audio_filepath,text"]
    for index in range(6):
        write_tone(tmp_path / "data" / "fsdd" / f"{index}.wav", 0.2 + index / 20, 8000, hertz=200 + 50 * index)
        lines.append(f"{index}.wav,one")
    (tmp_path / "data" / "fsdd" / "test.csv").write_text("\n".join(lines))
    (tmp_path / "data" / "seed_tts_eval_en").mkdir()
    (tmp_path / "data" / "seed_tts_eval_en" / "meta.lst").write_text("1|p|p.wav|hello world\n2|p|p.wav|how are you\n")
    return tmp_path / "data"


def command(model: Path, data: Path, out: Path) -> list[str]:
    arguments = ["--model", str(model), "--tasks", "fsdd,seed_tts_eval_en", "--data", str(data), "--out", str(out)]
    return ["run", *arguments, "--batch", "2"]


def lasting(out: Path) -> dict:
    return {name: replace(found, measured={}, pieces=()) for name, found in read_predictions(out).items()}


# Kills its own process while the fourth answer reaches the disk, and leaves half of its line.
KILLED = """
import os, signal, sys
from eval.__main__ import main
flush, lines = os.fsync, []
def half(number):
    if "predictions" in os.readlink(f"/proc/self/fd/{number}"):
        lines.append(number)
        if len(lines) == 4:
            os.ftruncate(number, os.fstat(number).st_size - 20)
            os.kill(os.getpid(), signal.SIGKILL)
    flush(number)
os.fsync = half
main(sys.argv[1:])
"""


def test_killed_it_ends_the_same(tiny_checkpoint: Path, data: Path, tmp_path: Path) -> None:
    main(command(tiny_checkpoint, data, tmp_path / "once"))
    arguments = command(tiny_checkpoint, data, tmp_path / "often")
    file = tmp_path / "often" / "predictions-0.jsonl"
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=ROOT, stderr=subprocess.DEVNULL)
    assert killed.returncode == -signal.SIGKILL
    assert len(lasting(tmp_path / "often")) == 3 and not file.read_bytes().endswith(b"\n")
    main(arguments)
    assert lasting(tmp_path / "often") == lasting(tmp_path / "once") and len(lasting(tmp_path / "once")) == 8
    assert file.read_bytes().count(b"\n") == 8
    audio = [{path.name for path in (tmp_path / name / "audio").iterdir()} for name in ("once", "often")]
    assert audio[0] == audio[1] and len(audio[0]) == 2


def test_record(tiny_checkpoint: Path, data: Path, tmp_path: Path) -> None:
    main([*command(tiny_checkpoint, data, tmp_path / "run"), "--limit", "1", "--seed", "3", "--costs", "1"])
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert {"model", "suite", "tasks", "seed", "limit", "fingerprint", "commit", "versions", "date", "format"} <= set(
        record
    )
    assert record["seed"] == 3 and record["tasks"]["fsdd"]["samples"] == 1
    assert len(record["tasks"]["fsdd"]["checksum"]) == len(record["fingerprint"]["digest"]) == 64
    assert record["versions"]["torch"] and str(ROOT) not in json.dumps(record)
    assert all(found.costs for found in read_predictions(tmp_path / "run").values())


@pytest.mark.parametrize(
    "change,message",
    [
        (["--tasks", "wsj"], "no tasks called ['wsj']"),
        (["--limit", "0"], "expected batch >= 1, limit >= 1"),
        (["--model", "gone"], "no checkpoint folder at 'gone'"),
        (["--tasks", "common_voice"], "no data for the task common_voice. To get it: from datacollective"),
        (["--adapter", "openai"], "set OPENAI_BASE_URL"),
    ],
)
def test_wrong_input_is_one_sentence(
    tiny_checkpoint: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(SystemExit) as stopped:
        main([*command(tiny_checkpoint, data, tmp_path / "run"), *change])
    assert stopped.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: ") and message in said
    assert not (tmp_path / "run").exists()


def test_ls(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["ls", "--data", str(data)])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert " present " in lines["fsdd"] and " missing " in lines["meld"] and "affective-meld" in lines["meld"]
    assert "suite" in lines


def test_help_needs_no_library() -> None:
    code = (
        "import sys\nfrom eval.__main__ import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n"
        "    sys.exit(int(bool({'torch', 'numpy', 'transformers'} & set(sys.modules))))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0
