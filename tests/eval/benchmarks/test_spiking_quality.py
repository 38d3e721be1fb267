"""The benchmark of spiking quality runs, end to end, on a checkpoint with random weights."""

import json
from pathlib import Path

import pytest
import torch

from eval.benchmarks.spiking_quality import WordErrors, main, spoken_examples, table
from spikeaudio.audio.files import save_audio
from spikeaudio.spiking.preparation.settings import ConversionSettings
from spikeaudio.spiking.preset import preset
from spikeaudio.training.spike import spike


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six conversations: two to transcribe, one of them without words, one about a sound, three without recordings."""
    lines = []
    for name, request, words in (("a", "say", "hello"), ("b", "say", ""), ("c", "which instrument is this", "organ")):
        wav = torch.randn(8000, generator=torch.Generator().manual_seed(ord(name))) * 0.1
        save_audio(tmp_path / f"{name}.wav", wav, 16000)
        asked = [{"type": "text", "text": request}, {"type": "audio", "path": f"{name}.wav"}]
        lines.append(conversation(asked, words))
    lines += [conversation([{"type": "text", "text": f"say {word}"}], word) for word in ("how", "are", "you")]
    for line in lines[-2:]:
        line["messages"][1]["content"].append({"type": "audio", "codes": [3, 1, 4, 1, 5]})
    path = tmp_path / "examples.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def conversation(asked: list[dict], words: str) -> dict:
    answered = [{"type": "text", "text": words}]
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]}


def test_recordings_to_transcribe(data: Path) -> None:
    found = spoken_examples(data, "say", None)
    assert [(path.name, words) for path, words in found] == [("a.wav", "hello"), ("b.wav", "")]
    assert spoken_examples(data, "say", 1) == found[:1]


def test_errors_over_another_models() -> None:
    mine, theirs = WordErrors([3, 0, 2, 1], [10, 5, 8, 7]), WordErrors([1, 0, 2, 3], [10, 5, 8, 7])
    assert mine.rate == pytest.approx(20) and mine.over(mine) == (0, 0)
    assert mine.over(theirs)[0] == pytest.approx(0)
    assert mine.over(theirs)[1] == pytest.approx(100 * (8 * 4 / 3) ** 0.5 / 30)  # differences 2, 0, 0, -2
    many = WordErrors([2] * 100 + [0] * 100, [4] * 200), WordErrors([0] * 200, [4] * 200)
    gap, error = many[0].over(many[1])
    assert gap == pytest.approx(25) and error == pytest.approx(100 * 0.25 / 200**0.5, rel=0.01)
    assert WordErrors([], []).over(WordErrors([], [])) == (0, 0)


@pytest.mark.parametrize("outliers", [False, True])
def test_rows_are_measured(
    tiny_checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], outliers: bool
) -> None:
    request = tmp_path / "request.jsonl"  # the fixture's own request to transcribe
    request.write_text(data.read_text().replace('"text": "say"', '"text": "please transcribe the following audio"'))
    arguments = ["--model", str(tiny_checkpoint), "--train", str(data), "--test", str(request), "--steps", "2"]
    for name in ("plain", "w4a4"):
        main([*arguments, "--rows", f"{name}\\b", "--json", str(tmp_path / f"{name}.json")] + ["--outliers"] * outliers)
    printed = capsys.readouterr().out
    assert printed.count("| dense | +0.00 ± 0.00 | +0.00 ± 0.00 |") == 2
    for name in ("plain", "w4a4"):
        dense, row = json.loads((tmp_path / f"{name}.json").read_text())["rows"]
        assert row["unary_rate"] > 0 and row["gaps"]["text"][1] > 0 and dense["unary_rate"] == 0


def test_a_finished_checkpoint_is_a_row(tiny_checkpoint: Path, data: Path, tmp_path: Path) -> None:
    spike(tiny_checkpoint, tmp_path / "twin", data, ConversionSettings(preset("w4a4"), method="round"))
    files = ["--model", str(tiny_checkpoint), "--train", str(data), "--test", str(data)]
    main([*files, "--rows", "none", "--spiking", str(tmp_path / "twin"), "--json", str(tmp_path / "out.json")])
    names = [row["name"] for row in json.loads((tmp_path / "out.json").read_text())["rows"]]
    assert names == ["dense", "twin, as it is"]


def test_rows_have_names_of_their_own() -> None:
    names = [row.name for row in table()]
    assert len(set(names)) == len(names)
