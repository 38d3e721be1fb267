"""Distillation: the divergence by hand, labels decide where, a student comes closer and resumes."""

import copy
from pathlib import Path

import pytest
import torch

from spikeaudio.spiking.config import GIFConfig
from spikeaudio.spiking.conversion import to_spiking
from spikeaudio.training.distillation import distill, distillation_loss, divergence, shuffled
from spikeaudio.training.loop import TrainConfig
from tests.fixtures.tiny_qwen2 import tiny_qwen2


def batches() -> list[dict[str, torch.Tensor]]:
    ids = torch.randint(40, (3, 2, 9), generator=torch.Generator().manual_seed(1))
    return [{"input_ids": rows, "labels": rows.clone()} for rows in ids]


def test_divergence_by_hand() -> None:
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, torch.tensor(3.0).log()]])
    expected = 0.25 * torch.tensor(0.5).log() + 0.75 * torch.tensor(1.5).log()
    torch.testing.assert_close(divergence(student, teacher), expected)
    assert divergence(teacher, teacher) == pytest.approx(0, abs=1e-7)
    assert divergence(torch.zeros(0, 5), torch.zeros(0, 5)) == 0


def test_only_positions_before_targets_count() -> None:
    teacher, [batch, *_] = tiny_qwen2(initializer_range=0.3), batches()
    student = copy.deepcopy(teacher)
    assert distillation_loss(student, teacher, batch)["loss"].item() == pytest.approx(0, abs=1e-6)
    to_spiking(student, GIFConfig())
    batch["labels"][:, :5] = -100
    loss = distillation_loss(student, teacher, batch)["logits"]
    ids = batch["input_ids"]
    expected = divergence(student(ids).logits[:, 4:8].flatten(0, 1), teacher(ids).logits[:, 4:8].flatten(0, 1))
    torch.testing.assert_close(loss, expected.detach())
    with pytest.raises(ValueError, match=r"needs labels or audio_labels, got \['input_ids'\]"):
        distillation_loss(student, teacher, {"input_ids": ids})


def test_two_streams_add_up(tiny_checkpoint: Path) -> None:
    from spikeaudio.lm.modeling import SpikeAudioForConditionalGeneration

    teacher = SpikeAudioForConditionalGeneration.from_pretrained(tiny_checkpoint, dtype=torch.float32).eval()
    student = copy.deepcopy(teacher)
    to_spiking(student, GIFConfig())
    ids = torch.randint(10, 30, (2, 8))
    batch = {"input_ids": ids, "audio_input_ids": ids, "labels": ids, "audio_labels": ids}
    losses = distillation_loss(student, teacher, batch)
    torch.testing.assert_close(losses["loss"].detach(), 4 * losses["logits"] + losses["audio_logits"])
    assert min(losses["logits"], losses["audio_logits"]) > 0


def test_every_round_has_every_batch_in_another_order() -> None:
    rounds = [tuple(shuffled(index, 7) for index in range(first, first + 7)) for first in (0, 7, 14)]
    assert all(sorted(each) == list(range(7)) for each in rounds)
    assert len(set(rounds)) == 3


def test_a_student_comes_closer_and_resumes(tmp_path: Path) -> None:
    teacher = tiny_qwen2(initializer_range=0.3)
    student = copy.deepcopy(teacher)
    to_spiking(student, GIFConfig())
    again = copy.deepcopy(student)
    config = TrainConfig(steps=20, learning_rate=3e-3, warmup_steps=2, weight_decay=0.0, save_seconds=0.0, log_steps=5)
    data = batches()

    def error() -> float:
        return sum(float(distillation_loss(student, teacher, batch)["loss"]) for batch in data)

    before = error()
    distill(student, teacher, data, config, tmp_path / "whole")
    assert error() < 0.7 * before
    assert all(weight.requires_grad for weight in teacher.parameters())  # it is the caller's

    seen: list[int] = []

    class Killed(Exception):
        pass

    class Dying(list):
        def __getitem__(self, index):  # type: ignore[no-untyped-def]
            seen.append(index)
            if len(seen) == 8:
                raise Killed
            return super().__getitem__(index)

    other = copy.deepcopy(again)
    with pytest.raises(Killed):
        distill(again, teacher, Dying(data), config, tmp_path / "killed")
    distill(other, teacher, data, config, tmp_path / "killed")
    for (name, weight), resumed in zip(student.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(weight, resumed), name
    with pytest.raises(ValueError, match="batches is empty"):
        distill(student, teacher, [], config, tmp_path)
