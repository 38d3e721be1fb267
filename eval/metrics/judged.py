"""A judge's grade of the written answer."""

from eval.judges.judge import Judge, judge_answer
from eval.metrics.case import Case
from eval.metrics.count import Count, Metric


def by(judge: Judge) -> Metric:
    """Mean grade of this judge; a failed answer and an unusable reply have the lowest.

    The part "unusable" counts replies that were no score of the scale.
    """

    def grade(case: Case) -> Count:
        if case.failure is not None:
            return Count(float(judge.scale.lowest), 1.0, {"unusable": 0.0})
        reference = "\n".join(case.sample.references)
        question = case.sample.text or case.sample.meta.get("prompt", "")  # what is said aloud may be written in meta
        given = judge_answer(judge, case.judgements, question, reference, case.text)
        return Count(float(given.score), 1.0, {"unusable": float(not given.usable)})

    scale = f"{judge.scale.lowest} to {judge.scale.highest}"
    return Metric(f"grade by {judge.name} {judge.version} ({scale})", "points", "higher", grade)
