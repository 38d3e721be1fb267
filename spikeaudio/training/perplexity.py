"""How surprised a model is by examples: per stream, and against another model on the same examples.

    perplexity = exp(sum over examples of nll / sum of targets)
    gap = perplexity / perplexity of the other - 1,   standard error from the paired differences of the examples

Two models answer the same examples, so what makes an example hard cancels in the difference (delta method on the ratio
of sums; the error of the gap is that of the mean log difference times 1 + gap).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeaudio.training.distillation import STREAMS

_NAMES = {"logits": "text", "audio_logits": "audio"}


@dataclass(frozen=True)
class StreamLoss:
    """One stream of N examples.

    Attributes:
        nll: (N,) float64, nats of every example.
        targets: (N,) float64, how many ids each was to predict; 0 where the stream is silent.
    """

    nll: Tensor
    targets: Tensor

    @property
    def mean(self) -> float:
        """Nats per target."""
        return float(self.nll.sum() / self.targets.sum())

    @property
    def perplexity(self) -> float:
        return math.exp(self.mean)

    def gap(self, other: "StreamLoss") -> tuple[float, float]:
        """Relative gap of this perplexity to another model's on the same examples, and its standard error.

        Raises:
            ValueError: the other loss is of other examples.
        """
        if not torch.equal(self.targets, other.targets):
            raise ValueError("a paired gap needs the same examples in the same order")
        total, number = self.targets.sum(), len(self.targets)
        difference = self.nll - other.nll
        mean = difference.sum() / total
        residual = difference - mean * self.targets
        variance = residual.square().sum() * number / max(1, number - 1) / total.square()
        gap = math.expm1(float(mean))
        return gap, float(variance.sqrt()) * (1 + gap)


@torch.no_grad()
def stream_losses(model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> dict[str, StreamLoss]:
    """Losses of "text" and, where there are audio targets, "audio".

    Args:
        model: a causal language model in eval mode.
        batches: its inputs with ``labels`` and perhaps ``audio_labels``, (B, T), -100 is no target.

    Raises:
        ValueError: there is no target at all.
    """
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for batch in batches:
        inputs = {name: value for name, value in batch.items() if name not in STREAMS.values()}
        out = model(**inputs, use_cache=False)
        for name, label in STREAMS.items():
            if label not in batch:
                continue
            targets = batch[label][:, 1:]
            logits = getattr(out, name)[:, :-1].float()
            nll = functional.cross_entropy(logits.transpose(1, 2), targets, ignore_index=-100, reduction="none")
            parts.setdefault(_NAMES[name], []).append((nll.double().sum(1), (targets != -100).double().sum(1)))
    losses = {
        name: StreamLoss(*(torch.cat(each) for each in zip(*pairs, strict=True))) for name, pairs in parts.items()
    }
    losses = {name: loss for name, loss in losses.items() if loss.targets.sum() > 0}
    if not losses:
        raise ValueError("no example has a target: nothing can be measured")
    return losses
