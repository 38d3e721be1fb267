"""A dense checkpoint becomes a spiking one: prepare, train, pack, measure.

    dense --calibrate--> rotated, shifted, spiking --distill--> on the weights' grid --pack--> checkpoint + report

Everything is kept in a work folder beside the destination until it is whole: the same command, given again after a
kill, goes on behind the last finished block and the last saved training step. The report measures the checkpoint as it
was written, loaded again, on examples that neither calibration nor training saw.
"""

import json
import resource
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from spikeaudio.checkpoint import checkpoint_folder, load_part
from spikeaudio.lm.configuration import SpikeAudioConfig
from spikeaudio.loading.kimi.folder import is_published
from spikeaudio.prompt.batch import BatchRow
from spikeaudio.prompt.processor import SpikeAudioProcessor
from spikeaudio.spiking.config import GIFConfig
from spikeaudio.spiking.conversion import spiking_layers
from spikeaudio.spiking.counting import counting
from spikeaudio.spiking.layers.linear import PackedSpikingLinear
from spikeaudio.spiking.preparation.calibration import calibrate, layers_by_input
from spikeaudio.spiking.preparation.conversion_report import ConversionReport
from spikeaudio.spiking.preparation.rounded_weight import attach_rounding, pack_rounded
from spikeaudio.spiking.preparation.settings import Preparation
from spikeaudio.spiking.transforms.outliers import MeanShift
from spikeaudio.training.distillation import distill
from spikeaudio.training.examples import batched, read_examples
from spikeaudio.training.loop import TrainConfig
from spikeaudio.training.perplexity import stream_losses
from spikeaudio.training.spike_report import LayerFiring, SpikeReport, draw

Method = Literal["train", "blocks", "gptq", "round"]
_WEIGHTS: dict[str, Any] = {"train": "real", "blocks": "train", "gptq": "gptq", "round": "round"}  # of `Preparation`
HELD_OUT_EVERY = 10  # one example in so many measures and is seen by nothing else
_MEASURED_TOKENS = 2048  # per batch of the measurement
_NOT_COPIED = (
    *("README.md", "floors.json", "config.json", "generation_config.json", ".git*"),
    *("*.safetensors", "*.index.json", "*.bin", "*.pt", "*.pth"),  # weights, in every form that they come in
)


@dataclass(frozen=True)
class SpikeSettings:
    """How to get there.

    Attributes:
        config: how the layers spike.
        method: "train": round the weights, then learn from the dense model on that grid; "blocks": every block learns
            the dense one's outputs on its grid, in the memory of one block; "gptq" or "round": no training.
        steps: of the method "train".
        learning_rate: its peak.
        passes: over the calibration examples, of the method "blocks".
        weight_rate: learning rate of its weights (:mod:`spikeaudio.spiking.preparation.block_training`).
        batch_tokens: positions of a training batch, padding included.
        calibration_examples: so many of the examples, spread over the file, calibrate; all of them train.
        seed: of rotations and of the order of batches.

    Raises:
        ValueError: an unknown method or a number out of range.
    """

    config: GIFConfig
    method: Method = "train"
    steps: int = 2000
    learning_rate: float = 2e-4  # 5e-4 first spoils what preparation kept
    batch_tokens: int = 1536
    calibration_examples: int = 128
    passes: int = 20
    weight_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {self.method!r}")
        for name in ("steps", "batch_tokens", "calibration_examples", "passes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def spike(source: str | Path, destination: str | Path, data: str | Path, settings: SpikeSettings) -> SpikeReport:
    """Write a spiking checkpoint.

    Args:
        source: dense checkpoint folder: ours, or any decoder that `find_layout` knows.
        destination: folder of the new one; must not exist.
        data: examples (:mod:`spikeaudio.training.examples`); one in ten is held out.
        settings: how.

    Raises:
        FileExistsError: there is something at `destination`.
        FileNotFoundError: no checkpoint or no examples.
        ValueError: a checkpoint that spikes already or cannot, a destination inside of the source, fewer than four
            examples, or another conversion's work folder.
    """
    started = time.perf_counter()
    source, destination = checkpoint_folder(source), Path(destination)
    if destination.exists():
        raise FileExistsError(f"{destination} exists already: give a new folder, or delete it")
    if source.resolve() in destination.resolve().parents:
        raise ValueError(
            f"{destination} lies in the checkpoint {source}, which is to be copied: give a folder beside it"
        )
    if is_published(source):
        raise ValueError(f"{source} has Kimi-Audio's own layout: first `spikeaudio convert kimi {source} DST`")
    work = destination.with_name(f"{destination.name}.work")
    dense = load_model(source)
    if any(True for _ in spiking_layers(dense)):
        raise ValueError(f"{source} spikes already: start from the dense checkpoint")
    layers_by_input(dense, settings.config)  # refuses now what would stop the conversion later
    training, held_out = split(read_examples(data, example_reader(source)))
    measured = batched(held_out, _MEASURED_TOKENS, pad_token_id(dense))
    before = stream_losses(dense, measured)

    model = load_model(source)
    conversion = convert(model, dense, training, settings, work)
    errors = {name: layer.relative_error for name, layer in conversion.layers()}
    _cast(model, AutoConfig.from_pretrained(source).dtype or torch.float32)
    finished = work / "checkpoint"
    shutil.rmtree(finished, ignore_errors=True)
    shutil.copytree(source, finished, ignore=_top_level(source))
    model.save_pretrained(finished)

    model = load_model(finished)
    with counting(model) as count:
        after = stream_losses(model, measured)
    total = count.total
    report = SpikeReport(
        {name: loss.perplexity for name, loss in before.items()},
        {name: loss.perplexity for name, loss in after.items()},
        {name: loss.gap(before[name]) for name, loss in after.items()},
        {name: LayerFiring(each.unary_rate, each.silent_share, errors[name]) for name, each in count.layers.items()},
        total.unary_rate,
        total.silent_share,
        _weight_bytes(source),
        _weight_bytes(finished),
        len(held_out),
        time.perf_counter() - started,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6),
        asdict(settings) | {"config": settings.config.to_dict()},
    )
    (finished / "spiking_report.json").write_text(json.dumps(asdict(report), indent=1) + "\n")
    draw(report, finished / "spiking_report.png")
    finished.rename(destination)
    shutil.rmtree(work)
    return report


def convert(
    model: Any, dense: Any, examples: Sequence[BatchRow], settings: SpikeSettings, work: Path
) -> ConversionReport:
    """Make a model in memory a packed spiking one, in place.

    Args:
        model: a copy of the dense one.
        dense: the teacher; not changed.
        examples: to calibrate and train on.
        settings: how.
        work: folder of what is finished; given again, the conversion goes on there.

    Returns:
        What preparation did to every layer.

    Raises:
        ValueError: as `calibrate` and `distill`.
    """
    pad = pad_token_id(dense)
    calibration = calibration_inputs(examples, settings, pad)
    preparation = Preparation(
        _WEIGHTS[settings.method], passes=settings.passes, weight_rate=settings.weight_rate, seed=settings.seed
    )
    report = calibrate(model, calibration, settings.config, preparation, work / "blocks")
    if settings.method == "train":
        _train(model, dense, batched(examples, settings.batch_tokens, pad), settings, work / "training")
    return report


def calibration_inputs(
    examples: Sequence[BatchRow], settings: SpikeSettings, pad: int
) -> list[dict[str, torch.Tensor]]:
    """Batches without labels of examples spread over all of them."""
    every = max(1, len(examples) // settings.calibration_examples)
    return [
        {name: value for name, value in batch.items() if not name.endswith("labels")}
        for batch in batched(examples[::every][: settings.calibration_examples], settings.batch_tokens, pad)
    ]


def load_model(folder: Path) -> Any:
    """The language model of a checkpoint in float32 and eval mode."""
    return load_part(lambda path: AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32), folder).eval()


def split(examples: Sequence[BatchRow]) -> tuple[list[BatchRow], list[BatchRow]]:
    """Training and held-out examples: every tenth, but two at least, without which there is no standard error.

    Raises:
        ValueError: fewer than four examples.
    """
    if len(examples) < 4:
        raise ValueError(f"need four examples at least, two of them to measure on, got {len(examples)}")
    held = set(range(HELD_OUT_EVERY - 1, len(examples), HELD_OUT_EVERY))
    if len(held) < 2:
        held = {len(examples) - 2, len(examples) - 1}
    return (
        [each for index, each in enumerate(examples) if index not in held],
        [each for index, each in enumerate(examples) if index in held],
    )


def example_reader(folder: Path) -> Any:
    """What reads the examples of this checkpoint."""
    if isinstance(AutoConfig.from_pretrained(folder), SpikeAudioConfig):
        return load_part(SpikeAudioProcessor.from_pretrained, folder)
    return AutoTokenizer.from_pretrained(folder)


def pad_token_id(model: Any) -> int:
    """What fills the ids of a batch; masked, so any id will do where the model names none."""
    pad = model.config.pad_token_id
    return 0 if pad is None else int(pad)


def _train(
    model: Any, dense: Any, batches: list[dict[str, torch.Tensor]], settings: SpikeSettings, run_dir: Path
) -> None:
    """Learn from the dense model on the grid, then pack."""
    attach_rounding(model, settings.config)
    schedule = TrainConfig(
        settings.steps,
        settings.learning_rate,
        warmup_steps=min(50, settings.steps // 10),
        weight_decay=0.0,
        seed=settings.seed,
        threads=torch.get_num_threads(),
        save_seconds=60.0,
    )
    distill(model, dense, batches, schedule, run_dir)
    pack_rounded(model, settings.config)
    model.config.quantization_config.packed = True


@torch.no_grad()
def _cast(model: nn.Module, dtype: torch.dtype) -> None:
    """Everything but the scales of packed weights to the dtype of the dense checkpoint."""
    layers = [layer for _, layer in spiking_layers(model) if isinstance(layer, PackedSpikingLinear)]
    for layer in layers:
        for shift in (part for part in layer.transform.children() if isinstance(part, MeanShift)):
            rounded = shift.mean.to(dtype).float()
            layer.bias.add_(layer.dense_weight() @ (rounded - shift.mean))  # else a large mean would leave its rounding
            shift.mean.copy_(rounded)
    scales = {id(layer.weight_scale) for layer in layers}
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point() and id(tensor) not in scales:
            tensor.data = tensor.data.to(dtype)


def _top_level(source: Path) -> Any:
    """What `shutil.copytree` leaves out: weights, configurations and figures of the dense model itself."""
    ignored = shutil.ignore_patterns(*_NOT_COPIED)
    return lambda folder, names: ignored(folder, names) if Path(folder) == source else set()


def _weight_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
