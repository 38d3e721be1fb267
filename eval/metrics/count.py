"""What a metric says of one sample, and of all: counts whose sums are divided, or put into a formula."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from eval.metrics.case import Case


class NotMeasurable(Exception):
    """A metric that cannot be computed for a task, whatever was answered; the message says why."""


@dataclass(frozen=True)
class Formula:
    """How the figure of a corpus follows from sums over its samples, where it is no ratio.

    Attributes:
        name: under which scores remember it.
        of: the figure of such sums.
    """

    name: str
    of: Callable[[Sequence[float]], float]


@dataclass(frozen=True)
class Count:
    """One sample's part of a figure.

    Attributes:
        numerator: errors, right answers, points, seconds ...
        denominator: words, answers, seconds of audio ...; not below 0.
        parts: parts of the numerator, such as substitutions.
        sums: value that the metric's formula gives; then numerator and denominator are the sample's own score and 1.
    """

    numerator: float
    denominator: float
    parts: dict[str, float] = field(default_factory=dict)
    sums: tuple[float, ...] = ()


@dataclass(frozen=True)
class Metric:
    """A figure of a results table.

    Attributes:
        title: for readers.
        unit: a share of 1 (printed in percent), points of a scale, or seconds.
        better: which way is good.
        measure: one sample's count. A failed answer counts as the worst one. None: the figure does not apply to the
            sample, for reasons that are in the sample, never in the answer (except for figures of time and cost).
        beside: name of the metric that this one means nothing without; it is always computed along.
        formula: formula of the figure; None: sum of numerators over sum of denominators.
        signature: how it was computed, of any of the task's cases; None: there is nothing to choose.
    """

    title: str
    unit: Literal["share", "points", "seconds"]
    better: Literal["lower", "higher"]
    measure: Callable[[Case], Count | None]
    beside: str | None = None
    formula: Formula | None = None
    signature: Callable[[Case], str] | None = None
