"""A spiking model learns to answer like the dense one that it comes from.

    loss = sum over streams of  weight  mean over its targets of  KL(softmax(teacher logits) | softmax(student logits))

Knowledge distillation (Hinton et al. 2015) at temperature 1: the teacher's distribution says more than one correct id
does, and what the student forgets of it is exactly the quality that spikes cost. Neurons and rounded weights let
gradients pass straight through.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeaudio.training.loop import TrainConfig, train

Batch = Mapping[str, Tensor]
STREAMS = {"logits": "labels", "audio_logits": "audio_labels"}  # logits of a model's output and their targets
WEIGHTS = {"logits": 4.0, "audio_logits": 1.0}  # text positions diverge several times less, but each one is a word


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean KL(teacher | student) over positions: twice (N, V) logits -> scalar, nats; 0 without positions."""
    if not len(student):
        return student.sum()
    target = teacher.float().log_softmax(-1)
    return functional.kl_div(student.float().log_softmax(-1), target, reduction="batchmean", log_target=True)


def distillation_loss(student: nn.Module, teacher: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Divergence of both streams at the positions before their targets.

    Args:
        student: a causal language model, or its wrapper; gets gradients.
        teacher: one with the same vocabulary, in eval mode.
        batch: model inputs with ``labels`` and, for a second stream, ``audio_labels``: (B, T), -100 is no target.

    Returns:
        ``loss``, and the divergence of every stream that has labels, unweighted, by the name of its logits.

    Raises:
        ValueError: there are no labels.
    """
    labels = {name: batch[label] for name, label in STREAMS.items() if label in batch}
    if not labels:
        raise ValueError(f"a batch needs {' or '.join(STREAMS.values())}, got {sorted(batch)}")
    inputs = {name: value for name, value in batch.items() if name not in STREAMS.values()} | {"use_cache": False}
    with torch.no_grad():
        wanted = teacher(**inputs)
    out = student(**inputs)
    losses = {}
    for name, targets in labels.items():
        learned = targets[:, 1:] != -100
        losses[name] = divergence(getattr(out, name)[:, :-1][learned], getattr(wanted, name)[:, :-1][learned])
    loss = torch.stack([WEIGHTS[name] * each for name, each in losses.items()]).sum()
    return {"loss": loss, **{name: each.detach() for name, each in losses.items()}}


def shuffled(index: int, number: int, seed: int = 0) -> int:
    """Which of `number` batches comes at a place of an endless sequence that holds all of them in every round."""
    order = torch.randperm(number, generator=torch.Generator().manual_seed(seed * 1_000_003 + index // number))
    return int(order[index % number])


def distill(
    student: nn.Module, teacher: nn.Module, batches: "list[dict[str, Any]]", config: TrainConfig, run_dir: str | Path
) -> None:
    """Train `student` in place; called again after a kill, it goes on where it was.

    Args:
        student: a spiking model; every parameter with ``requires_grad`` learns.
        teacher: the dense model, put in eval mode.
        batches: as `distillation_loss` takes them; seen in another order in every round.
        config: schedule; a few hundred steps are enough.
        run_dir: gets checkpoints and log (:mod:`spikeaudio.training.loop`).

    Raises:
        ValueError: no batches, or another run's folder.
        FloatingPointError: the loss becomes NaN or infinite.
    """
    if not batches:
        raise ValueError("batches is empty: a student needs examples")
    teacher.eval()
    train(
        student,
        lambda index: batches[shuffled(index, len(batches), config.seed)],
        lambda model, batch: distillation_loss(model, teacher, batch),
        config,
        run_dir,
    )
