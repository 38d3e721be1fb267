"""The training loop: it learns, a killed run resumed equals one that was never killed, and its errors are sentences."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from spikeaudio.training.loop import TrainConfig, train


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.2), nn.Tanh(), nn.Linear(16, 1))


def batch(step: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(step))
    return x, x.sum(1, keepdim=True)


def loss(module: nn.Module, pair: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    x, y = pair
    return {"loss": (module(x) - y).square().mean()}


def test_learns_and_logs(tmp_path: Path) -> None:
    train(model(), batch, loss, TrainConfig(steps=200, learning_rate=1e-2, warmup_steps=5, log_steps=20), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(20, 201, 20))
    assert lines[-1]["loss"] < 0.3 * lines[0]["loss"]


def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    config = TrainConfig(steps=30, learning_rate=1e-2, warmup_steps=5, save_seconds=0.0)
    whole = model()
    train(whole, batch, loss, config, tmp_path / "whole")

    def dies_at_17(step: int) -> tuple[Tensor, Tensor]:
        if step == 17:
            raise KeyboardInterrupt
        return batch(step)

    with pytest.raises(KeyboardInterrupt):
        train(model(), dies_at_17, loss, config, tmp_path / "killed")
    resumed = model()
    steps: list[int] = []
    train(resumed, lambda step: steps.append(step) or batch(step), loss, config, tmp_path / "killed")
    assert steps[0] == 17
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    train(model(), batch, loss, TrainConfig(steps=3, learning_rate=1e-2), tmp_path)
    with pytest.raises(ValueError, match="steps"):
        train(model(), batch, loss, TrainConfig(steps=4, learning_rate=1e-2), tmp_path)


def test_nan_loss_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="step 0"):
        train(
            model(),
            batch,
            lambda m, b: {"loss": m(b[0]).mean() * float("nan")},
            TrainConfig(steps=2, learning_rate=1e-2),
            tmp_path,
        )


def test_schedule_warms_up_and_reaches_zero() -> None:
    config = TrainConfig(steps=100, learning_rate=1.0, warmup_steps=10)
    assert config.learning_rate_at(0) == pytest.approx(0.1)
    assert config.learning_rate_at(10) > 0.95
    assert config.learning_rate_at(99) < 0.001


def test_bad_configuration() -> None:
    with pytest.raises(ValueError, match="steps >= 1"):
        TrainConfig(steps=0, learning_rate=1.0)
