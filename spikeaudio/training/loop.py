"""One training loop for every part of the model, resumable to the exact step.

AdamW with linear warm-up and cosine decay to zero, gradient clipping, a progress bar, one line of JSON per
`log_steps`. The state (weights, both moments, step) is written atomically every `save_seconds`; running the same
command again continues from it. Because a batch is a pure function of the step and random numbers inside the model
are seeded per step, a killed and resumed run equals an uninterrupted one.

`Accelerator.save_state` is not used for it: it writes pickles, one file after the other, and a kill between two of them
leaves a state that no run ever was in. The learning rate is a function of the step, so no scheduler has a state.
"""

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

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
    betas: tuple[float, float] = (0.9, 0.98)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.learning_rate <= 0:
            raise ValueError(f"need steps >= 1 and learning_rate > 0, got {self.steps} and {self.learning_rate}")

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
    run_dir = Path(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)])
    model, optimizer = accelerator.prepare(model, _optimizer(model, config))
    inner, path = accelerator.unwrap_model(model), run_dir / "state.safetensors"
    start = _load(path, inner, optimizer, config) if path.is_file() else 0
    model.train()
    main, saved = accelerator.is_main_process, time.monotonic()
    bar = tqdm(range(start, config.steps), run_dir.name, config.steps, initial=start, mininterval=5, disable=not main)
    with (run_dir / "log.jsonl").open("a") as file:
        log = _Log(file)
        for step in bar:
            torch.manual_seed(config.seed * 1_000_003 + step)
            values = loss(model, batch(step * accelerator.num_processes + accelerator.process_index))
            if not torch.isfinite(values["loss"]):
                raise FloatingPointError(
                    f"loss is {values['loss'].item()} at step {step}; the checkpoint in {run_dir} is from before it"
                )
            rate = config.learning_rate_at(step)
            log.add(values | {"grad_norm": _update(accelerator, model, optimizer, values["loss"], rate, config)})
            done, last = step + 1, step + 1 == config.steps
            if not main:
                continue
            if last or done % config.log_steps == 0:
                bar.set_postfix(log.write(done, rate), refresh=False)
            if evaluate is not None and (last or done % eval_steps == 0):
                model.eval()
                with torch.no_grad():
                    log.write_evaluation(done, figures := evaluate(inner))
                model.train()
                tqdm.write(f"{run_dir.name} step {done}: {figures}")
            if last or time.monotonic() - saved > config.save_seconds:
                _save(path, inner, optimizer, config, done)
                saved = time.monotonic()
    model.eval()


def _optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW that decays matrices, but not vectors."""
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in learned if parameter.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [parameter for parameter in learned if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, foreach=True)


def _update(
    accelerator: Accelerator, model: nn.Module, optimizer: Any, loss: Tensor, rate: float, config: TrainConfig
) -> Tensor:
    """One step of the optimizer; returns the norm of the gradients before clipping."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    accelerator.backward(loss)
    norm: Tensor = accelerator.clip_grad_norm_(model.parameters(), config.grad_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


class _Log:
    """Lines of ``log.jsonl``: means of what was added since the last one.

    Args:
        file: open for writing.
    """

    def __init__(self, file: TextIO) -> None:
        self._file, self._began = file, time.monotonic()
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, values: dict[str, Tensor]) -> None:
        """Count the scalars of one step."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.item()
        self._count += 1

    def write(self, step: int, rate: float) -> dict[str, float]:
        """Write the means after a step and begin anew; returns them."""
        figures = {name: round(total / self._count, 4) for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        self._line({"step": step, "seconds": round(time.monotonic() - self._began, 1), "lr": rate, **figures})
        return figures

    def write_evaluation(self, step: int, figures: dict[str, float]) -> None:
        """Write what an evaluation found after a step."""
        self._line({"step": step, "eval": figures})

    def _line(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()


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
