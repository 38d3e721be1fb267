"""Whether the written answer is right."""

from eval.metrics.case import Case
from eval.metrics.count import Count
from eval.metrics.error_rate import written
from eval.texts.right_answer import is_right


def exact_match(case: Case) -> Count:
    """1 where the written answer equals a reference after normalization; "" is right where nothing is said."""
    answer = written(case)
    return Count(float(answer is not None and is_right(answer, case.sample.references, (), case.language)), 1.0)


def written_accuracy(case: Case) -> Count:
    """1 where the written answer is right; a failed one is wrong."""
    answer = written(case)
    sample = case.sample
    right = answer is not None and is_right(answer, sample.references, sample.choices, case.language)
    return Count(float(right), 1.0)
