"""The training loop: it learns, a killed run resumed equals one that was never killed, and its errors are sentences."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, multiprocessing, nn

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


def test_threads_are_the_callers(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        train(model(), batch, loss, TrainConfig(steps=1, learning_rate=1e-2), tmp_path)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


SHARED = TrainConfig(steps=12, learning_rate=1e-2, warmup_steps=2, log_steps=4)


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 1)


def _train_share(rank: int, folder: Path, port: int) -> None:
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in names.items()} | {"ACCELERATE_USE_CPU": "true"}
    train(linear(), batch, loss, SHARED, folder)
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_what_one_does_on_both_batches(tmp_path: Path) -> None:
    port = 20000 + os.getpid() % 20000
    multiprocessing.spawn(_train_share, (tmp_path / "two", port), nprocs=2)

    def both(step: int) -> tuple[Tensor, Tensor]:
        halves = [batch(2 * step), batch(2 * step + 1)]
        return torch.cat([x for x, _ in halves]), torch.cat([y for _, y in halves])

    train(linear(), both, loss, SHARED, tmp_path / "one")
    one, two = (load_file(tmp_path / name / "state.safetensors") for name in ("one", "two"))
    for name in ("model.weight", "model.bias"):
        torch.testing.assert_close(two[name], one[name], rtol=1e-5, atol=1e-6)
    lines = (tmp_path / "two" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [4, 8, 12]  # written once, not once per process
