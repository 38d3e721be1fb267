"""A dense checkpoint becomes a spiking one: prepare, train, pack, measure.

    dense --calibrate--> rotated, shifted, spiking --distill--> on the weights' grid --pack--> checkpoint + report

Everything is kept in a work folder beside the destination until it is whole: the same command, given again after a
kill, goes on behind the last finished block and the last saved training step. The report measures the checkpoint as it
was written, loaded again, on examples that neither calibration nor training saw.
"""

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from spikeaudio.checkpoint import checkpoint_folder, load_part
from spikeaudio.lm.configuration import SpikeAudioConfig
from spikeaudio.loading.kimi.folder import is_published
from spikeaudio.prompt.batch import BatchRow
from spikeaudio.prompt.processor import SpikeAudioProcessor
from spikeaudio.spiking.conversion import cast, spiking_layers
from spikeaudio.spiking.counting import counting
from spikeaudio.spiking.preparation.calibration import calibrate
from spikeaudio.spiking.preparation.conversion_report import ConversionReport
from spikeaudio.spiking.preparation.fingerprint import add_batch
from spikeaudio.spiking.preparation.rounded_weight import attach_rounding, pack_rounded
from spikeaudio.spiking.preparation.settings import ConversionSettings
from spikeaudio.spiking.preparation.stacks import stacks_of
from spikeaudio.training.distillation import distill
from spikeaudio.training.examples import batched, read_examples
from spikeaudio.training.loop import TrainConfig
from spikeaudio.training.perplexity import StreamLoss, stream_losses
from spikeaudio.training.spike_report import LayerFiring, SpikeReport, draw

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]

HELD_OUT_EVERY = 10  # one example in so many measures and is seen by nothing else
_MEASURED_TOKENS = 2048  # per batch of the measurement
_NOT_COPIED = (
    *("README.md", "floors.json", "config.json", "generation_config.json", ".git*"),
    *("*.safetensors", "*.index.json", "*.bin", "*.pt", "*.pth"),  # weights, in every form that they come in
)


def spike(source: str | Path, destination: str | Path, data: str | Path, settings: ConversionSettings) -> SpikeReport:
    """Write a spiking checkpoint.

    Args:
        source: dense checkpoint folder: ours, or any decoder that `find_layout` knows.
        destination: folder of the new one; must not exist.
        data: examples (:mod:`spikeaudio.training.examples`); one in ten is held out.
        settings: how to get there.

    Raises:
        FileExistsError: there is something at `destination`.
        FileNotFoundError: no checkpoint or no examples.
        ValueError: a checkpoint that spikes already, cannot spike or holds NaN, a destination inside of the source,
            fewer than four examples, or the work folder of another conversion.

    Example:
        >>> import json, pathlib, tempfile
        >>> from spikeaudio.spiking.preparation.settings import ConversionSettings
        >>> from spikeaudio.spiking.preset import preset
        >>> from spikeaudio.training.spike import spike
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> asked = {"role": "user", "content": "what is two plus two"}
        >>> answers = [{"role": "assistant", "content": f"it is {word}"} for word in ("four", "five", "six", "two")]
        >>> lines = [{"messages": [asked, answer]} for answer in answers]
        >>> _ = (folder / "examples.jsonl").write_text("\\n".join(json.dumps(line) for line in lines))
        >>> settings = ConversionSettings(preset("w4a4"), "round")
        >>> report = spike("checkpoints/spikeaudio-tiny", folder / "spiking", folder / "examples.jsonl", settings)
        >>> sorted(report.spiking), report.bytes_spiking < report.bytes_dense
        (['text'], True)
    """
    started = time.perf_counter()
    source, destination = _free_places(source, destination)
    work = destination.with_name(f"{destination.name}.work")
    dense = load_model(source)
    if any(True for _ in spiking_layers(dense)):
        raise ValueError(f"{source} spikes already: start from the dense checkpoint")
    stacks_of(dense, settings.config)  # refuses now what would stop the conversion later
    examples = read_examples(data, example_reader(source))
    training, held_out = split(examples)
    _same_conversion(work, source, settings, examples)
    measured = batched(held_out, _MEASURED_TOKENS, pad_token_id(dense))
    before = stream_losses(dense, measured)
    model = load_model(source)
    conversion = convert(model, dense, training, settings, work)
    finished = _write(model, source, work / "checkpoint")
    report = _measure(finished, measured, before, conversion, settings, source, len(held_out), started)
    (finished / "spiking_report.json").write_text(json.dumps(asdict(report), indent=1) + "\n")
    draw(report, finished / "spiking_report.png")
    finished.rename(destination)
    shutil.rmtree(work)
    return report


def _free_places(source: str | Path, destination: str | Path) -> tuple[Path, Path]:
    """Both folders, if one can be read and the other one be written."""
    source, destination = checkpoint_folder(source), Path(destination)
    if destination.exists():
        raise FileExistsError(f"{destination} exists already: give a new folder, or delete it")
    if source.resolve() in destination.resolve().parents:
        raise ValueError(
            f"{destination} lies in the checkpoint {source}, which is to be copied: give a folder beside it"
        )
    if is_published(source):
        raise ValueError(f"{source} has Kimi-Audio's own layout: first `spikeaudio convert kimi {source} DST`")
    return source, destination


def _same_conversion(work: Path, source: Path, settings: ConversionSettings, examples: Sequence[BatchRow]) -> None:
    """Note in the work folder what is converted, or refuse one that notes something else.

    Raises:
        ValueError: other settings, examples or weights.
    """
    digest = hashlib.sha256()
    for example in examples:
        for batch in (example.ids, *example.inputs):
            add_batch(digest, batch)
    weights = {path.name: path.stat().st_size for path in sorted(source.glob("*.safetensors"))}
    now = {"settings": settings.to_dict(), "examples": digest.hexdigest(), "weights": weights}
    note = work / "conversion.json"
    if note.is_file():
        stored = json.loads(note.read_text())
        if different := [name for name, value in json.loads(json.dumps(now)).items() if stored.get(name) != value]:
            raise ValueError(
                f"{work} belongs to a conversion with other {' and '.join(different)}: "
                "give those again to go on, or delete the folder"
            )
        return
    work.mkdir(parents=True, exist_ok=True)
    part = note.with_suffix(".part")
    part.write_text(json.dumps(now) + "\n")
    part.rename(note)


def _write(model: Any, source: Path, folder: Path) -> Path:
    """The converted model, in the dtype of the dense one, with everything else that lies beside that one."""
    cast(model, AutoConfig.from_pretrained(source).dtype or torch.float32)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder, ignore=_top_level(source))
    model.save_pretrained(folder)
    return folder


def _measure(
    folder: Path,
    measured: Sequence[dict[str, torch.Tensor]],
    before: dict[str, StreamLoss],
    conversion: ConversionReport,
    settings: ConversionSettings,
    source: Path,
    held_out: int,
    started: float,
) -> SpikeReport:
    """What the written checkpoint is worth, loaded again."""
    model = load_model(folder)
    with counting(model) as count:
        after = stream_losses(model, measured)
    errors = {name: layer.relative_error for name, layer in conversion.layers()}
    return SpikeReport(
        {name: loss.perplexity for name, loss in before.items()},
        {name: loss.perplexity for name, loss in after.items()},
        {name: loss.gap(before[name]) for name, loss in after.items()},
        {name: LayerFiring(each.unary_rate, each.silent_share, errors[name]) for name, each in count.layers.items()},
        count.total.unary_rate,
        count.total.silent_share,
        _weight_bytes(source),
        _weight_bytes(folder),
        held_out,
        time.perf_counter() - started,
        _peak_gigabytes(),
        settings.to_dict(),
    )


def _peak_gigabytes() -> float | None:
    """Largest memory of the process so far; None where the system does not say."""
    if resource is None:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)


def convert(
    model: Any, dense: Any, examples: Sequence[BatchRow], settings: ConversionSettings, work: Path
) -> ConversionReport:
    """Make a model in memory a packed spiking one, in place.

    Args:
        model: a copy of the dense one.
        dense: the teacher; not changed.
        examples: to calibrate and train on.
        settings: how to get there.
        work: folder of what is finished; given again, the conversion goes on there.

    Returns:
        What preparation did to every layer.

    Raises:
        ValueError: as `calibrate` and `distill`.
    """
    pad = pad_token_id(dense)
    calibration = calibration_inputs(examples, settings, pad)
    report = calibrate(model, calibration, settings, work / "blocks")
    if settings.method == "train":
        _train(model, dense, batched(examples, settings.batch_tokens, pad), settings, work / "training")
    return report


def calibration_inputs(
    examples: Sequence[BatchRow], settings: ConversionSettings, pad: int
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
    model: Any, dense: Any, batches: list[dict[str, torch.Tensor]], settings: ConversionSettings, run_dir: Path
) -> None:
    """Learn from the dense model on the grid, then pack."""
    attach_rounding(model, settings.config)
    schedule = TrainConfig(
        settings.steps,
        settings.learning_rate,
        warmup_steps=min(50, settings.steps // 10),
        weight_decay=0.0,
        seed=settings.seed,
        save_seconds=60.0,
    )
    distill(model, dense, batches, schedule, run_dir)
    pack_rounded(model, settings.config)
    model.config.quantization_config.packed = True


def _top_level(source: Path) -> Any:
    """What `shutil.copytree` leaves out: weights, configurations and figures of the dense model itself."""
    ignored = shutil.ignore_patterns(*_NOT_COPIED)
    return lambda folder, names: ignored(folder, names) if Path(folder) == source else set()


def _weight_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
