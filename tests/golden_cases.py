"""The files of one golden fixture, case by case."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

GoldenDir = Callable[[str], Path]  # the fixture `golden_dir`


def cases(folder: Path, pattern: str) -> Iterator[tuple[str, dict[str, Tensor], dict]]:
    """(name, tensors, notes) of every fixture file whose name fits; there must be one."""
    found = sorted(folder.glob(f"{pattern}.safetensors"))
    assert found, f"{folder} holds no {pattern}"
    for path in found:
        yield path.stem, load_file(path), json.loads(path.with_suffix(".json").read_text())
