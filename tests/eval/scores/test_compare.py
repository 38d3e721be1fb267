"""Comparing two runs, paired by sample."""

import argparse
import json
from pathlib import Path

import pytest

from eval.sample import Sample
from eval.scores import compare as verb
from eval.scores.command import score
from eval.scores.compare import compare, markdown
from eval.scores.interval import mcnemar
from tests.fixtures.hand_made_run import HandMadeRun, answer, recognition

SAID = {f"s{i:02d}": "red green blue white" for i in range(30)}
WEAK = {key: "red green blue" for key in SAID}
STRONG = SAID | {"s00": "red green blue"}


def test_a_better_run(tmp_path: Path) -> None:
    weak, strong = (
        score(recognition(tmp_path / "weak", SAID, WEAK)),
        score(recognition(tmp_path / "strong", SAID, STRONG)),
    )
    row = compare(weak, strong)[0]
    assert (row.task, row.metric, row.n, row.left_out) == ("asr", "wer", 30, 0)
    assert (row.first, row.second) == (0.25, 1 / 120) and row.value == pytest.approx(1 / 120 - 0.25)
    assert row.high < 0 and row.p < 0.001 and row.better == "better"
    assert compare(strong, weak)[0].better == "worse" and compare(strong, weak)[0].p == row.p
    table = markdown(compare(weak, strong), weak)
    assert "| asr | wer | 25.0 % | 0.8 % | -24.2 % |" in table and "<0.001 | better | 30 |" in table


def test_the_same_run_twice(tmp_path: Path) -> None:
    weak = score(recognition(tmp_path, SAID, WEAK))
    row = compare(weak, weak)[0]
    assert (row.value, row.low, row.high, row.p, row.better) == (0, 0, 0, 1, "-")


def test_accuracy_is_mcnemar(tmp_path: Path) -> None:
    samples = [Sample(str(i), references=("yes",)) for i in range(12)]
    scores = []
    for name, right in (("first", range(0, 3)), ("second", range(2, 12))):
        run = HandMadeRun(tmp_path / name).task("qa", samples, ("accuracy",), job="aqa")
        run.predict(*(answer("qa", str(i), "yes" if i in right else "no") for i in range(12)))
        scores.append(score(run.path))
    assert compare(*scores)[0].p == mcnemar(9, 2) and compare(*scores)[0].better == "better"


def test_a_failure_is_paired_with_the_answer_it_is_not(tmp_path: Path) -> None:
    whole = score(recognition(tmp_path / "whole", SAID, SAID))
    failing = score(recognition(tmp_path / "failing", SAID, {key: None for key in SAID}))
    row = compare(whole, failing)[0]
    assert (row.n, row.value, row.better) == (30, 1, "worse")


def test_different_samples_are_refused_by_name(tmp_path: Path) -> None:
    whole = score(recognition(tmp_path / "whole", SAID, WEAK))
    part = score(recognition(tmp_path / "part", {key: SAID[key] for key in list(SAID)[:20]}, STRONG))
    with pytest.raises(ValueError, match=r"task asr, wer: only one of the runs has 10 samples: s20, s21.*--shared"):
        compare(whole, part)
    row = compare(whole, part, shared=True)[0]
    assert (row.n, row.left_out) == (20, 10)
    other = score(recognition(tmp_path / "other", SAID | {"s07": "five"}, STRONG))
    for shared in (False, True):  # an equal name is no equal sample
        with pytest.raises(ValueError, match=r"task asr: question, .* domain differ in 1 samples: s07"):
            compare(whole, other, shared)
    stranger = HandMadeRun(tmp_path / "stranger").task("qa", [Sample("1", references=("x",))], ("accuracy",))
    with pytest.raises(ValueError, match="only one of the runs has the tasks asr, qa"):
        compare(whole, score(stranger.path))
    with pytest.raises(ValueError, match="no task, metric and sample in common"):
        compare(whole, score(stranger.path), shared=True)


def test_the_verb_scores_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = recognition(tmp_path / "weak", SAID, WEAK), recognition(tmp_path / "strong", SAID, STRONG)
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    verb.main(parser.parse_args([*map(str, runs), "--json", str(tmp_path / "rows.json")]))
    assert "-24.2 %" in capsys.readouterr().out and (runs[0] / "scores.json").is_file()
    assert json.loads((tmp_path / "rows.json").read_text())[0]["better"] == "better"
