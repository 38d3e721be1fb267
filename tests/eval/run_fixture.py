"""A run folder as `python -m eval run` writes it, made by hand."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eval.run_folder import FORMAT
from eval.sample import Prediction, Sample


class HandMadeRun:
    """Collects tasks, then writes a run folder.

    Args:
        path: of the folder; made here.
        model: name in the record.
    """

    def __init__(self, path: Path, model: str = "tiny") -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        record = {"format": FORMAT, "model": model, "suite": "by hand", "seed": 0, "commit": "0" * 40}
        (path / "record.json").write_text(json.dumps(record | {"versions": {"numpy": "2"}, "checksums": {}}))
        (path / "samples.jsonl").write_text("")

    def task(
        self, name: str, samples: Iterable[Sample], metrics: tuple[str, ...], job: str = "asr", language: str = "en"
    ) -> "HandMadeRun":
        """Add a task's samples."""
        with (self.path / "samples.jsonl").open("a") as file:
            for sample in samples:
                row = {"task": name, "job": job, "metrics": metrics, "language": language, "sample": sample.to_dict()}
                file.write(json.dumps(row) + "\n")
        return self

    def predict(self, *predictions: Prediction, rank: int = 0) -> "HandMadeRun":
        """Append predictions of one process."""
        with (self.path / f"predictions-{rank}.jsonl").open("a") as file:
            file.writelines(json.dumps(prediction.to_dict()) + "\n" for prediction in predictions)
        return self


def answer(task: str, id: str, text: str | None = None, **rest: Any) -> Prediction:
    """A prediction under a key of its own."""
    return Prediction(task, id, f"{task}/{id}", text, **rest)


def recognition(path: Path, said: dict[str, str], wrote: dict[str, str | None], **rest: Any) -> Path:
    """A run of one recognition task "asr": words by sample id, and what was written (None: the model raised)."""
    run = HandMadeRun(path).task(
        "asr", [Sample(key, references=(words,)) for key, words in said.items()], ("wer", "cer")
    )
    for key, words in wrote.items():
        run.predict(answer("asr", key, words, error="it raised" if words is None else None, **rest))
    return path
