"""One training loop for every part of the model, resumable to the exact step.

AdamW with linear warm-up and cosine decay to zero, gradient clipping, a progress bar, one line of JSON per
`log_steps`. The state (weights, both moments, step) is written atomically every `save_seconds`; running the same
command again continues from it. Because a batch is a pure function of the step and random numbers inside the model
are seeded per step, a killed and resumed run equals an uninterrupted one.
"""

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainConfig:
    """What a run does, apart from model and data.

    Args:
        steps: optimizer steps of the whole run; the learning rate reaches zero there.
        learning_rate: peak of the schedule.
        warmup_steps: linear warm-up.
        weight_decay: AdamW's, for tensors of two or more dimensions only.
        grad_clip: largest global gradient norm.
        save_seconds: wall-clock time between checkpoints.
        log_steps: steps between lines of ``log.jsonl``.
        seed: seeds the model's own randomness, per step.
        threads: CPU threads; two single-threaded runs beat one with two threads.
        betas: AdamW's.
    """

    steps: int
    learning_rate: float
    warmup_steps: int = 200
    weight_decay: float = 0.01
    grad_clip: float = 1.0
    save_seconds: float = 120.0
    log_steps: int = 50
    seed: int = 0
    threads: int = 1
    betas: tuple[float, float] = (0.9, 0.98)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.learning_rate <= 0 or self.threads < 1:
            raise ValueError(
                "need steps >= 1, learning_rate > 0 and threads >= 1, "
                f"got {self.steps}, {self.learning_rate}, {self.threads}"
            )

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of step 0 <= step < steps."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        return self.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))


def train(
    model: nn.Module,
    batch: Callable[[int], Any],
    loss: Callable[[nn.Module, Any], dict[str, Tensor]],
    config: TrainConfig,
    run_dir: str | Path,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    eval_steps: int = 1000,
) -> None:
    """Train `model` in place, from the newest checkpoint in `run_dir` if there is one.

    Args:
        model: every parameter with ``requires_grad`` is trained; buffers are saved too.
        batch: index -> batch; must depend on nothing but the index. The index is the step, or, with several processes
            (``accelerate launch``; on CPUs ``ACCELERATE_USE_CPU=true torchrun``), ``step * processes + rank``.
        loss: (model, batch) -> scalars; ``"loss"`` is minimised, the others are logged.
        config: schedule.
        run_dir: gets ``state.safetensors``, ``state.json`` inside it as metadata, and ``log.jsonl``.
        evaluate: called every `eval_steps` and at the end in eval mode without gradients; its figures are logged.
        eval_steps: steps between evaluations.

    Raises:
        ValueError: if the checkpoint in `run_dir` belongs to another configuration or model.
        FloatingPointError: if the loss becomes NaN or infinite.
    """
    torch.set_num_threads(config.threads)
    run_dir = Path(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)])
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=config.learning_rate,
        betas=config.betas,
        foreach=True,
    )
    model, optimizer = accelerator.prepare(model, optimizer)
    inner = accelerator.unwrap_model(model)
    state_path = run_dir / "state.safetensors"
    start = _load(state_path, inner, optimizer, config) if state_path.is_file() else 0
    model.train()
    saved, began = time.monotonic(), time.monotonic()
    sums: dict[str, float] = {}
    count = 0
    bar = tqdm(
        range(start, config.steps),
        initial=start,
        total=config.steps,
        desc=run_dir.name,
        mininterval=5,
        disable=not accelerator.is_main_process,
    )
    with (run_dir / "log.jsonl").open("a") as log:
        for step in bar:
            torch.manual_seed(config.seed * 1_000_003 + step)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate_at(step)
            values = loss(model, batch(step * accelerator.num_processes + accelerator.process_index))
            if not torch.isfinite(values["loss"]):
                raise FloatingPointError(
                    f"loss is {values['loss'].item()} at step {step}; the checkpoint in {run_dir} is from before it"
                )
            accelerator.backward(values["loss"])
            norm = accelerator.clip_grad_norm_(model.parameters(), config.grad_clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            for key, value in (values | {"grad_norm": norm}).items():
                sums[key] = sums.get(key, 0.0) + value.item()
            count += 1
            done = step + 1
            if accelerator.is_main_process and (done % config.log_steps == 0 or done == config.steps):
                figures = {key: round(value / count, 4) for key, value in sums.items()}
                bar.set_postfix(figures, refresh=False)
                record = {
                    "step": done,
                    "seconds": round(time.monotonic() - began, 1),
                    "lr": config.learning_rate_at(step),
                    **figures,
                }
                log.write(json.dumps(record) + "\n")
                log.flush()
                sums, count = {}, 0
            if (
                evaluate is not None
                and accelerator.is_main_process
                and (done % eval_steps == 0 or done == config.steps)
            ):
                model.eval()
                with torch.no_grad():
                    figures = evaluate(inner)
                model.train()
                log.write(json.dumps({"step": done, "eval": figures}) + "\n")
                log.flush()
                tqdm.write(f"{run_dir.name} step {done}: {figures}")
            if accelerator.is_main_process and (time.monotonic() - saved > config.save_seconds or done == config.steps):
                _save(state_path, inner, optimizer, config, done)
                saved = time.monotonic()
    model.eval()


def _save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, config: TrainConfig, step: int) -> None:
    """Write weights and optimizer moments; the rename makes the new file appear whole or not at all."""
    tensors = {
        f"model.{name}": tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()
    }
    for index, moments in optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value).detach().cpu().contiguous().clone()
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata={"step": str(step), "config": json.dumps(asdict(config))})
    part.rename(path)


def _load(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, config: TrainConfig) -> int:
    """Restore `_save`'s file; returns the number of steps already done."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    stored, current = json.loads(metadata["config"]), json.loads(json.dumps(asdict(config)))
    decisive = ("steps", "learning_rate", "warmup_steps", "weight_decay", "seed")
    different = {key: (stored[key], current[key]) for key in decisive if stored[key] != current[key]}
    if different:
        raise ValueError(
            f"{path} was written by another configuration (stored, asked): {different}; "
            "give another run folder or the stored values"
        )
    tensors = load_file(path)
    model.load_state_dict({name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")})
    state = optimizer.state_dict()
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            moments.setdefault(int(index), {})[key] = tensor
    state["state"] = moments
    optimizer.load_state_dict(state)
    logger.info("resumed %s at step %s", path, metadata["step"])
    return int(metadata["step"])
