"""Reports: tables, the model index, published figures, and a page that holds everything and runs nothing."""

import argparse
import csv
import html.parser
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub.repocard_data import model_index_to_eval_results

from eval.pages import command as verb
from eval.pages.command import report
from eval.pages.page import page
from eval.pages.plots import error_by_task
from eval.pages.published_table import PublishedTable
from eval.run.finished_run import FinishedRun, newest_of_every_model
from eval.sample import Sample
from eval.scores.command import score
from eval.scores.model_index import model_index
from eval.scores.scored_run import ScoredRun
from spikeaudio.audio.files import save_audio
from tests.fixtures.hand_made_run import HandMadeRun, answer

ATTACK = "<script>alert('x')</script>"


def scored_run(path: Path, model: str = "tiny", costs: float = 1.0) -> Path:
    """Two tasks with recordings, a failure, subsets, costs, and markup in every text."""
    run = HandMadeRun(path, model)
    save_audio(path / "said.wav", torch.sin(torch.arange(24000) / 20) * 0.1, 24000)
    samples = [
        Sample("a", str(path / "said.wav"), None, ("the cat sat",), meta={"subset": "x"}),
        Sample("b", str(path / "missing.wav"), None, ("on the mat",), meta={"subset": "y"}),
        Sample("c", None, None, ("",)),
    ]
    run.task("librispeech_clean", samples, ("wer", "whisper_wer"))
    counted = {"audio_seconds": 1.0, "tokens": 12.5, "unary_operations": 1e6 * costs, "picojoules_unary": 5e5 * costs}
    run.predict(answer("librispeech_clean", "a", f"the {ATTACK} sat", costs=counted))
    run.predict(answer("librispeech_clean", "b", error=f"ValueError: {ATTACK}"))
    questions = [Sample(str(i), text=ATTACK, references=("yes",), choices=("yes", ATTACK)) for i in range(3)]
    run.task("meld", questions, ("accuracy",), job="aqa").task(ATTACK, [Sample("1", text="hello")], (), job="tts")
    run.predict(answer("meld", "0", "Yes."), answer(ATTACK, "1", audio="said.wav"))
    score(path)
    return path


class Reader(html.parser.HTMLParser):
    """Tags of a page, and whether each one is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"


def read_page(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert not reader.open
    return reader


def test_all_files(tmp_path: Path) -> None:
    runs = [scored_run(tmp_path / "dense"), scored_run(tmp_path / "w4a4", costs=0.25)]
    text = report(runs, tmp_path / "out", PublishedTable.load("kimi-audio"))
    assert "| task | metric | dense | w4a4 |" in text
    assert "| librispeech_clean | wer | 83.3 %" in text and "2 failed" in text
    assert "| task | run | n | tokens | unary_operations | picojoules_unary |" in text
    assert "| librispeech_clean | w4a4 | 1 | 12.50 | 250 k | 125 k |" in text
    rows = list(csv.DictReader((tmp_path / "out" / "report.csv").read_text().splitlines()))
    assert {(row["run"], row["metric"], row["subset"]) for row in rows} >= {("dense", "wer", ""), ("w4a4", "wer", "y")}
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["dense"]["tasks"]["meld"]["metrics"]["accuracy"]["n"] == 3
    assert (tmp_path / "out" / "model-index-w4a4.yaml").is_file()


def test_the_page_holds_everything_and_runs_nothing(tmp_path: Path) -> None:
    runs = [scored_run(tmp_path / "dense"), scored_run(tmp_path / "w4a4")]
    report(runs, tmp_path, PublishedTable.load("kimi-audio"))
    content = (tmp_path / "index.html").read_text()
    reader = read_page(tmp_path / "index.html")
    assert "<script" not in content.lower() and "&lt;script&gt;" in content
    for tag, attributes in reader.tags:
        assert tag not in ("script", "link", "iframe", "object") and not any(
            name.startswith("on") for name in attributes
        )
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("data:", "#"))
        if tag == "img":
            assert attributes["alt"]
        if tag == "audio":
            assert attributes["aria-label"] and "controls" in attributes
    assert sum(tag == "audio" for tag, _ in reader.tags) == 3  # heard by both (one card), said by each
    assert "prefers-color-scheme: dark" in content and "width=device-width" in content and "url(" not in content
    assert "by plain-en" in content and "by whisper-en" in content  # which rules made texts comparable
    assert "is not at hand" in content and "dense: 2 of 3 samples failed" in content
    links = {attributes["href"] for tag, attributes in reader.tags if tag == "a"}
    assert links <= {f"#{attributes['id']}" for _, attributes in reader.tags if attributes.get("id")}


def test_speech_that_came_in_pieces(tmp_path: Path) -> None:
    run = HandMadeRun(tmp_path / "run").task("tts", [Sample("a", text="hello")], (), job="tts")
    save_audio(run.path / "said.wav", torch.sin(torch.arange(24000) / 20) * 0.1, 24000)
    run.predict(answer("tts", "a", audio="said.wav", offline="said.wav", pieces=((0.5, 12000), (1.25, 12000))))
    score(run.path)
    text = report([run.path], tmp_path)
    names = "playback_stalls | stalled_seconds | longest_gap_seconds | seam_distance | seam_distance_elsewhere"
    assert f"| task | run | n | {names} | seam_peak | seam_peak_elsewhere | join_flux |" in text
    assert "| tts | run | 1 | 1.00 | 0.25 s | 0.75 s | 0.00 | 0.00 | 0.00 | 0.00 |" in text
    seams = score(run.path).tasks["tts"].measured["seam_peak"]
    assert (seams.low, seams.high) == (0, 0)  # no share of yes and no, though it is 0
    content = (tmp_path / "index.html").read_text()
    read_page(tmp_path / "index.html")
    assert "Speech that came in pieces" in content and "stalls of a player, per answer" in content
    report([scored_run(tmp_path / "whole")], tmp_path)
    assert "Speech that came in pieces" not in (tmp_path / "index.html").read_text()


def test_a_figure_outside_of_its_interval_is_drawn(tmp_path: Path) -> None:
    scores = score(scored_run(tmp_path / "run"))
    for task in scores.tasks.values():
        task.metrics.update({name: replace(each, low=each.value + 0.1) for name, each in task.metrics.items()})
    assert error_by_task({"run": scores})


def test_a_full_page_says_so(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run")
    text = page({"run": (FinishedRun.load(run), ScoredRun.read(run))}, room=10)
    assert "finds no room left on this page" in text and "<audio" not in text
    assert "0 recordings are on this page" in text


def test_worst_samples_come_first(tmp_path: Path) -> None:
    said = {f"s{i:02d}": "red green blue" for i in range(40)}
    run = HandMadeRun(tmp_path).task("asr", [Sample(key, references=(words,)) for key, words in said.items()], ("wer",))
    run.predict(*(answer("asr", key, "wrong" if key == "s31" else words) for key, words in said.items()))
    score(tmp_path)
    report([tmp_path], tmp_path / "out", per_task=4)
    cards = re.findall(r"<h4>(s\d+) <small>\((.*?)\)", (tmp_path / "out" / "index.html").read_text())
    assert cards[0] == ("s31", "among the worst") and len(cards) == 4 and cards[3][1] == "drawn at random"
    assert "4 of 40" in (tmp_path / "out" / "index.html").read_text()


def test_the_worst_of_every_run_are_shown(tmp_path: Path) -> None:
    for name, worst in (("one", "s03"), ("two", "s05")):
        samples = [Sample(f"s{i:02d}", references=("red",)) for i in range(9)]
        run = HandMadeRun(tmp_path / name).task("asr", samples, ("wer",))
        run.predict(*(answer("asr", sample.id, "wrong" if sample.id == worst else "red") for sample in samples))
        score(run.path)
    report([tmp_path / "one", tmp_path / "two"], tmp_path / "out", per_task=4)
    cards = re.findall(r"<h4>(s\d+) ", (tmp_path / "out" / "index.html").read_text())
    assert cards[:2] == ["s03", "s05"] and len(cards) == 4


def test_model_index_is_read_by_huggingface_hub(tmp_path: Path) -> None:
    scores = score(scored_run(tmp_path))
    name, results = model_index_to_eval_results(model_index("tiny", scores))
    figures = {(result.dataset_type, result.metric_type): result for result in results}
    one = figures["librispeech_clean", "wer"]
    assert name == "tiny" and one.task_type == "automatic-speech-recognition"
    assert one.metric_value == pytest.approx(500 / 6, abs=1e-4) and one.metric_args["failed"] == 2
    report([tmp_path], tmp_path / "out")
    block = yaml.safe_load((tmp_path / "out" / "model-index.yaml").read_text())
    assert block["model-index"] == model_index("tiny", scores)


def test_published_figures_stand_beside_ours(tmp_path: Path) -> None:
    table = PublishedTable.load("kimi-audio")
    text = table.markdown({"tiny": score(scored_run(tmp_path))})
    assert re.search(
        r"\| LibriSpeech test-clean \| 83\.3 % \([^|]*\) \| 1\.74 \| 3\.02 \| 3\.19 \| 2\.37 \| 1\.28 \|", text
    )
    assert "| AISHELL-1 | - | 1.52 | 1.93 | 2.14 | 1.13 | 0.60 |" in text  # not run here
    assert "| MELD | 33.3 % (" in text and "arXiv:2504.18425" in text
    with pytest.raises(ValueError, match="no published table 'gpt'; there are kimi-audio"):
        PublishedTable.load("gpt")


def test_the_verb_takes_the_newest_run_of_every_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for age, (name, model) in enumerate((("new", "dense"), ("spiking", "w4a4"), ("old", "dense"))):
        run = scored_run(tmp_path / "runs" / name, model)
        os.utime(run / "record.json", ns=(0, 10**18 - age * 10**9))
    monkeypatch.chdir(tmp_path)
    assert [run.name for run in newest_of_every_model(Path("runs"))] == ["spiking", "new"]
    (tmp_path / "runs" / "new" / "scores.json").unlink()
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    verb.main(parser.parse_args(["--against", "kimi-audio"]))
    out = capsys.readouterr().out
    assert "| task | metric | spiking | new |" in out and "| AISHELL-1 | - | - |" in out
    assert (tmp_path / "runs" / "new" / "report" / "index.html").is_file()
    with pytest.raises(FileNotFoundError, match="no run under"):
        newest_of_every_model(tmp_path / "nowhere")
