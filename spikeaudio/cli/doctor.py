"""What `spikeaudio doctor` says: versions, devices, optional parts, and what a checkpoint folder holds."""

import importlib.metadata
import platform
from pathlib import Path

import torch

from spikeaudio.checkpoint import DETOKENIZER, SPEECH_TOKENIZER, VOCODER, missing_parts

_REQUIRED = ("spikeaudio", "torch", "torchaudio", "transformers", "accelerate", "datasets", "librosa", "vocos", "numpy")
_OPTIONAL = {"peft": "lora", "jiwer": "eval", "pocketsphinx": "eval", "mido": "corpus"}
_PARTS = {SPEECH_TOKENIZER: "to hear", DETOKENIZER: "to speak", VOCODER: "to speak"}


def report(checkpoint: Path) -> list[tuple[str, str]]:
    """Rows of (what, what was found); nothing is loaded, so that a broken checkpoint can be looked at too."""
    rows = [("python", f"{platform.python_version()} on {platform.platform()}")]
    rows += [(name, _version(name) or "NOT INSTALLED") for name in _REQUIRED]
    for name, extra in _OPTIONAL.items():
        rows.append((f"{name} (optional)", _version(name) or f"not installed: pip install 'spikeaudio[{extra}]'"))
    rows.append(("cpu", f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"))
    if (accelerator := torch.accelerator.current_accelerator(check_available=True)) is not None:
        rows.append(("accelerator", f"{torch.accelerator.device_count()} x {accelerator.type}"))
    else:
        rows.append(("accelerator", "none"))
    return rows + _checkpoint_rows(checkpoint)


def _checkpoint_rows(folder: Path) -> list[tuple[str, str]]:
    if not (folder / "config.json").is_file():
        return [("checkpoint", f"NOT FOUND: {folder} (--model or SPIKEAUDIO_MODEL names another folder)")]
    megabytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    rows = [("checkpoint", f"{folder}, {megabytes:.1f} MB")]
    missing = missing_parts(folder, *_PARTS)
    rows += [(f"  {part}/", f"MISSING, needed {use}" if part in missing else "found") for part, use in _PARTS.items()]
    return rows


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
