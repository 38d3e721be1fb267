"""The record of a run: everything that its figures depend on, written before the first answer.

A run folder belongs to one model, one set of tasks and one choice of settings; continuing it with others is refused,
naming what differs. Code, versions and hardware may change between two starts: every start is written down.
"""

import importlib.metadata
import json
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eval.adapters.adapter import Request
from eval.digest import digest
from eval.run.plan import Settings
from eval.run.run_folder import FORMAT
from eval.run.store import check_format, write_whole
from eval.sample import Sample
from eval.task import Task
from eval.tasks.manifest import checksum

_PACKAGES = ("spikeaudio", "torch", "transformers", "accelerate", "datasets", "numpy", "soundfile", "soxr")
_START = ("date", "commit", "versions", "hardware")
_RESUMED = "resumed"


def make_record(
    model: str,
    suite: str | None,
    tasks: list[tuple[Task, list[Sample]]],
    settings: Settings,
    fingerprint: dict[str, Any],
) -> dict[str, Any]:
    """A record as JSON: what the run is, and how it was started now.

    Raises:
        OSError: a recording cannot be read.
    """
    return {
        "format": FORMAT,
        "model": model,
        "fingerprint": fingerprint,
        "suite": suite,
        "seed": settings.seed,
        "batch": settings.batch,
        "limit": settings.limit,
        "costs": settings.costs,
        "tasks": {task.name: _task(task, samples, settings.seed) for task, samples in tasks},
        **_start(),
        _RESUMED: [],
    }


def open_run(run: Path, record: dict[str, Any], tasks: list[tuple[Task, list[Sample]]]) -> None:
    """Begin a run folder, or continue the one that is there.

    Raises:
        ValueError: the folder belongs to a run of another format or another configuration.
        OSError: it cannot be written.
    """
    path = run / "record.json"
    if path.is_file():
        check_format(run)
        found = json.loads(path.read_text(encoding="utf-8"))
        if differing := _differing(found, record):
            raise ValueError(f"{run} holds another run: {'; '.join(differing)}. Take another --out")
        now = {name: record[name] for name in _START}
        record = found | {_RESUMED: [*found[_RESUMED], now]}
    elif run.is_dir() and any(run.iterdir()):
        raise ValueError(f"{run} is not empty and no run: it has no record.json. Take another --out")
    write_whole(path, json.dumps(record, indent=1, ensure_ascii=False).encode() + b"\n")
    rows = [
        {
            "task": task.name,
            "job": task.job.name,
            "metrics": list(task.figures),
            "language": task.language,
            "sample": sample.to_dict(),
        }
        for task, samples in tasks
        for sample in samples
    ]
    write_whole(run / "samples.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def _task(task: Task, samples: list[Sample], seed: int) -> dict[str, Any]:
    return {
        "job": task.job.name,
        "metrics": list(task.figures),
        "language": task.language,
        "request": task.request,
        "citation": task.citation,
        "samples": len(samples),
        "checksum": checksum(samples),
        "prompts": digest([Request.of(task, sample, seed).text for sample in samples]),
    }


def _start() -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
        "hardware": _hardware(),
    }


def _commit() -> str | None:
    """Commit of this checkout, with "+dirty" where tracked files were changed; None: it is no checkout."""
    here = Path(__file__).resolve().parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return commit + ("+dirty" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _hardware() -> str:
    """One line: processor, threads in use, accelerator."""
    import torch

    line = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    if (accelerator := torch.accelerator.current_accelerator(check_available=True)) is not None:
        line += f", {torch.accelerator.device_count()} x {accelerator.type}"
    return line


def _differing(found: dict[str, Any], record: dict[str, Any]) -> list[str]:
    """What keeps two records from being of one run, in words."""
    out = []
    for name in ("fingerprint", "suite", "seed", "batch", "limit", "costs"):
        if found.get(name) != record[name]:
            out.append(f"{name} was {found.get(name)}, now is {record[name]}")
    for name in sorted(found.get("tasks", {}).keys() | record["tasks"].keys()):
        old, new = found.get("tasks", {}).get(name), record["tasks"].get(name)
        if old is None or new is None:
            out.append(f"the task {name} was {'not there' if old is None else 'there, now is not'}")
            continue
        changed = [key for key in new if old.get(key) != new[key]]
        out += [f"{key} of {name} was {old.get(key)}, now is {new[key]}" for key in changed]
    return out
