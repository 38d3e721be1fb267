"""A figure: one metric over all samples of a task, with its interval, its parts and each sample's share in it."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from eval.metrics.count import Count, Metric
from eval.scores import interval


@dataclass(frozen=True)
class Figure:
    """One row of a results table.

    Attributes:
        title: for readers.
        unit: "share", "points" or "seconds".
        better: "lower" or "higher".
        value: micro average: sum of numerators over sum of denominators, or the formula of the sums.
        low: low of the 95 % interval of `value`.
        high: the same.
        macro: mean over samples of each one's own ratio.
        numerator: the sum.
        denominator: the sum.
        n: samples in the figure, failed ones included.
        failed: samples without an answer, counted as the worst one.
        parts: sums of the numerator's parts.
        subset_macro: mean over subsets of their values; None: samples name no subset.
        subsets: the figure over the samples of each subset, without their counts.
        samples: [numerator, denominator] by sample id.
        formula: name of the metric's formula; None: the ratio of sums.
        signature: how it was computed.
        sums: values of the formula, by sample id.
    """

    title: str
    unit: str
    better: str
    value: float
    low: float
    high: float
    macro: float
    numerator: float
    denominator: float
    n: int
    failed: int
    parts: dict[str, float]
    subset_macro: float | None = None
    subsets: dict[str, "Figure"] = field(default_factory=dict)
    samples: dict[str, tuple[float, float]] = field(default_factory=dict)
    formula: str | None = None
    signature: str = ""
    sums: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        metric: Metric,
        counts: Mapping[str, Count],
        failed: frozenset[str] = frozenset(),
        subset_of: Mapping[str, str] | None = None,
        signature: str = "",
    ) -> "Figure":
        """The figure of counts by sample id.

        Args:
            metric: whose counts they are.
            counts: counts of every sample that the metric applies to.
            failed: ids of samples without an answer.
            subset_of: subset by id, of samples that name one.
            signature: how they were counted.

        Raises:
            ValueError: there is no count.
        """
        top, bottom = _column(counts, "numerator"), _column(counts, "denominator")
        if metric.formula is None:
            between = interval.interval if metric.unit == "share" else interval.bootstrap
            value, inside = interval.ratio(top, bottom), between(top, bottom)
        else:
            table = np.array([count.sums for count in counts.values()], dtype=np.float64)
            value, inside = metric.formula.of(table.sum(axis=0)), interval.interval_of(metric.formula.of, table)
        groups: dict[str, dict[str, Count]] = defaultdict(dict)
        for key, count in counts.items():
            if subset_of and key in subset_of:
                groups[subset_of[key]][key] = count
        subsets = {name: cls.of(metric, group, failed).without_samples() for name, group in sorted(groups.items())}
        parts: dict[str, float] = defaultdict(float)
        for count in counts.values():
            for name, part in count.parts.items():
                parts[name] += part
        return cls(
            title=metric.title,
            unit=metric.unit,
            better=metric.better,
            value=value,
            low=inside.low,
            high=inside.high,
            macro=float(np.mean(top / np.where(bottom == 0, 1.0, bottom))),
            numerator=float(top.sum()),
            denominator=float(bottom.sum()),
            n=len(counts),
            failed=len(failed & counts.keys()),
            parts=dict(parts),
            subset_macro=float(np.mean([figure.value for figure in subsets.values()])) if subsets else None,
            subsets=subsets,
            samples={key: (count.numerator, count.denominator) for key, count in counts.items()},
            formula=metric.formula.name if metric.formula else None,
            signature=signature,
            sums={key: count.sums for key, count in counts.items() if count.sums},
        )

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> "Figure":
        """The figure that `to_dict` wrote."""
        subsets = {name: cls.from_dict(subset) for name, subset in row["subsets"].items()}
        samples = {key: (float(top), float(bottom)) for key, (top, bottom) in row["samples"].items()}
        sums = {key: tuple(map(float, values)) for key, values in row.get("sums", {}).items()}
        return cls(**row | {"subsets": subsets, "samples": samples, "sums": sums})

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    def without_samples(self) -> "Figure":
        """The same without each sample's share."""
        return Figure.from_dict(self.to_dict() | {"samples": {}, "sums": {}})

    def worst_first(self) -> list[str]:
        """Sample ids by their own ratio, the worst first; equal ones keep their order."""
        sign = -1.0 if self.better == "lower" else 1.0
        return sorted(self.samples, key=lambda key: sign * self.samples[key][0] / (self.samples[key][1] or 1.0))


def written_value(figure: Figure, value: float | None = None) -> str:
    """A value of the figure for readers, its own unless another is given: "12.3 %", "0.42 s", "3.71"."""
    shown = figure.value if value is None else value
    if figure.unit == "share":
        return f"{100 * shown:.1f} %"
    text = _short(shown)
    return f"{text} s" if figure.unit == "seconds" else text


def written_interval(figure: Figure) -> str:
    """The 95 % interval for readers: "10.1 to 14.9 %" in the figure's unit."""
    low, high = written_value(figure, figure.low), written_value(figure, figure.high)
    unit = low.partition(" ")[2]
    return f"{low.removesuffix(f' {unit}') if unit else low} to {high}"


def _short(number: float) -> str:
    """Three digits or two decimals: "0.00052", "12.50", "310 M"."""
    if 0 < abs(number) < 0.01:
        return f"{number:.3g}"
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= size:
            return f"{number / size:.4g} {prefix}"
    return f"{number:.2f}"


def _column(counts: Mapping[str, Count], name: str) -> interval.Vector:
    return np.array([getattr(count, name) for count in counts.values()], dtype=np.float64)
