"""Translations by sacrebleu: BLEU (Papineni et al. 2002; Post 2018) and chrF (Popović 2015), of whole corpora.

Neither is a mean over sentences: n-grams are counted over the corpus, and the score is a formula of the sums
(`Formula`). So a sample's part is its counts; resampling for intervals adds up counts and applies the formula again,
as sacrebleu's own bootstrap does. What was counted how is sacrebleu's signature, kept with the figure.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from eval.metrics.case import Case
from eval.metrics.count import Count, Formula, Metric
from eval.metrics.error_rate import written
from eval.texts.normalization import COUNTED_BY_CHARACTER

_TOKENS = {"zh": "zh", "ja": "char", "yue": "zh", "th": "char", "lo": "char", "my": "char"}  # else 13a, as WMT has it


def bleu(case: Case) -> Count:
    """n-gram counts of the written translation, 0 to 100 as its own score; a failed one is empty."""
    return _counted(case, "BLEU")


def chrf(case: Case) -> Count:
    """Character n-gram counts of the written translation; as `bleu`."""
    return _counted(case, "CHRF")


def metric(name: str, title: str) -> Metric:
    """BLEU or chrF of a corpus, with its formula and signature."""
    kind = {"bleu": "BLEU", "chrf": "CHRF"}[name]

    def signature(case: Case) -> str:
        scorer = _scorer(kind, case.language)
        scorer.corpus_score(["x"], [["x"]] * max(1, len(case.sample.references)))
        return str(scorer.get_signature())

    measure = bleu if name == "bleu" else chrf
    return Metric(title, "points", "higher", measure, formula=FORMULAS[name], signature=signature)


def _counted(case: Case, kind: str) -> Count:
    scorer = _scorer(kind, case.language)
    hypothesis = written(case) or ""
    references = case.sample.references
    if not references:
        raise ValueError(f"sample {case.sample.id!r} has no translation to compare with")
    (sums,) = scorer._extract_corpus_statistics([hypothesis], [[reference] for reference in references])
    own = scorer.sentence_score(hypothesis, list(references)).score if hypothesis.strip() else 0.0
    return Count(float(own), 1.0, sums=tuple(float(value) for value in sums))


def _score(kind: str, sums: Sequence[float]) -> float:
    """The corpus's score of summed counts; they are whole numbers."""
    return float(_scorer(kind, "en")._compute_score_from_stats([round(value) for value in sums]).score)


@lru_cache
def _scorer(kind: str, language: str) -> Any:
    try:
        from sacrebleu import metrics
    except ImportError as error:
        raise ImportError("BLEU and chrF need sacrebleu: pip install spikeaudio[eval]") from error
    if kind == "CHRF":
        return metrics.CHRF()
    assert set(_TOKENS) == COUNTED_BY_CHARACTER
    # The effective order is for scores of single sentences; sums over a corpus do not know it.
    return metrics.BLEU(tokenize=_TOKENS.get(language, "13a"))


FORMULAS = {
    "bleu": Formula("bleu", lambda sums: _score("BLEU", sums)),
    "chrf": Formula("chrf", lambda sums: _score("CHRF", sums)),
}
