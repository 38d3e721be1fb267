"""BLEU and chrF: what is scored sample by sample is what sacrebleu says of the corpus, with its signature."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

sacrebleu = pytest.importorskip("sacrebleu", reason="sacrebleu is not installed (spikeaudio[eval])")

from eval.sample import Prediction, Sample  # noqa: E402
from eval.scores.command import score  # noqa: E402
from eval.scores.compare import compare  # noqa: E402
from eval.scores.interval import difference, difference_of, interval_of  # noqa: E402
from eval.scores.scored_run import ScoredRun  # noqa: E402
from tests.fixtures.hand_made_run import HandMadeRun  # noqa: E402

RIGHT = [
    "Das Wetter ist heute sehr schön, und wir gehen an den See.",
    "Der Zug nach Hamburg fährt um zwölf Uhr von Gleis drei ab.",
    "Sie hat das Buch gestern in der alten Bücherei gefunden.",
    "Im Winter fliegen viele Vögel in den warmen Süden.",
]
WROTE = [
    "Das Wetter ist heute schön und wir gehen zum See.",
    "Der Zug nach Hamburg fährt um zwölf Uhr von Gleis drei ab.",
    "Gestern hat sie ein Buch gefunden.",
    "Im Winter fliegen viele Vögel in den Süden.",
]


def run(path: Path, wrote: Sequence[str | None], right: Sequence[Sequence[str]], language: str = "de") -> Path:
    samples = [Sample(str(place), "a.wav", references=tuple(texts)) for place, texts in enumerate(right)]
    fixture = HandMadeRun(path).task("st", samples, ("bleu", "chrf"), "aqa", language)
    for place, text in enumerate(wrote):
        fixture.predict(Prediction("st", str(place), "k", text, error="it raised" if text is None else None))
    return path


def test_equal_to_sacrebleu(tmp_path: Path) -> None:
    figures = score(run(tmp_path, WROTE, [[text] for text in RIGHT])).tasks["st"].metrics
    theirs = sacrebleu.corpus_bleu(WROTE, [RIGHT]), sacrebleu.corpus_chrf(WROTE, [RIGHT])
    assert [figures[name].value for name in ("bleu", "chrf")] == [pytest.approx(one.score, abs=1e-9) for one in theirs]
    version = sacrebleu.__version__
    assert figures["bleu"].signature == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{version}"
    assert figures["chrf"].signature.startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no")
    assert figures["bleu"].low < figures["bleu"].value < figures["bleu"].high
    assert figures["bleu"].macro != pytest.approx(figures["bleu"].value)
    assert ScoredRun.read(tmp_path).tasks["st"].metrics["bleu"] == figures["bleu"]


def test_several_references_and_chinese(tmp_path: Path) -> None:
    other = [text.replace("sehr ", "") for text in RIGHT]
    pairs = [list(pair) for pair in zip(RIGHT, other, strict=True)]
    figure = score(run(tmp_path / "two", WROTE, pairs)).tasks["st"].metrics["bleu"]
    assert figure.value == pytest.approx(sacrebleu.corpus_bleu(WROTE, [RIGHT, other]).score)
    assert figure.signature.startswith("nrefs:2|")
    wrote, right = ["今天天气很好我们去湖边"], ["今天天气非常好我们去湖边"]
    figure = score(run(tmp_path / "zh", wrote, [right], "zh")).tasks["st"].metrics["bleu"]
    assert (
        figure.value == pytest.approx(sacrebleu.corpus_bleu(wrote, [right], tokenize="zh").score) and figure.value > 0
    )
    assert "|tok:zh|" in figure.signature


def test_a_failure_stays_in_the_corpus(tmp_path: Path) -> None:
    references = [[text] for text in RIGHT]
    figures = score(run(tmp_path, [*WROTE[:3], None], references)).tasks["st"].metrics
    assert figures["bleu"].failed == 1
    assert figures["bleu"].value == pytest.approx(sacrebleu.corpus_bleu([*WROTE[:3], ""], [RIGHT]).score)
    assert score(run(tmp_path / "no", [None] * 4, references)).tasks["st"].metrics["bleu"].value == 0


def test_compared_in_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eval.scores.interval.RESAMPLES", 300)  # sacrebleu's formula is the slow part
    monkeypatch.setattr("eval.scores.interval.PERMUTATIONS", 500)
    references = [[text] for text in RIGHT] * 5
    first, second = (score(run(tmp_path / n, w * 5, references)) for n, w in (("a", WROTE), ("b", RIGHT)))
    row = next(row for row in compare(first, second) if row.metric == "bleu")
    assert (row.first, row.second) == (first.tasks["st"].metrics["bleu"].value, pytest.approx(100))
    assert row.value == pytest.approx(row.second - row.first) and row.better == "better" and row.p < 0.01
    assert row.low < row.value < row.high
    assert next(row for row in compare(first, first) if row.metric == "chrf").p == 1
    chinese = score(run(tmp_path / "c", WROTE * 5, references, "zh"))
    with pytest.raises(ValueError, match="task st is in de and in zh"):
        compare(first, chinese)
    several = score(run(tmp_path / "d", WROTE * 5, [[*text, "x"] for text in references]))
    with pytest.raises(ValueError, match=r"task st, bleu: computed as nrefs:1\|.* and as nrefs:2\|"):
        compare(first, several)


def test_a_formula_that_is_a_ratio_gives_the_ratios_interval() -> None:
    draw = np.random.default_rng(3)
    one, two = (np.stack([draw.random(20), 1 + draw.random(20)], axis=1) for _ in range(2))
    paired = difference((one[:, 0], one[:, 1]), (two[:, 0], two[:, 1]))
    found = difference_of(lambda sums: sums[0] / sums[1], one, two)
    assert (found.value, found.interval, found.p) == (pytest.approx(paired.value), paired.interval, paired.p)
    with pytest.raises(ValueError, match="at least one sample"):
        interval_of(sum, one[:0])
