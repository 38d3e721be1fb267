"""A packed corpus: one manifest and flat int16 arrays, memory-mapped.

Thousands of small files are slow to open and slow to copy; a corpus of a few hours is one array per sampling
rate and one line of JSON per clip. `recipes/tiny/make_corpus.py` writes the format:

- ``manifest.jsonl``: ``id, text, voice, kind, split, seconds, start_16k, samples_16k[, start_24k, samples_24k]`` and
  whatever else describes the clip;
- ``audio_16k.npy``, ``audio_24k.npy``: (N,) int16.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

_NAMES = {16000: "16k", 24000: "24k"}


class PackedCorpus:
    """Clips of a packed corpus.

    Args:
        folder: folder with ``manifest.jsonl`` and the arrays.

    Raises:
        FileNotFoundError: if the folder holds no manifest.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        manifest = self.folder / "manifest.jsonl"
        if not manifest.is_file():
            raise FileNotFoundError(
                f"no corpus in {self.folder}: manifest.jsonl is missing (recipes/tiny/make_corpus.py writes it)"
            )
        with manifest.open() as file:
            self.rows: list[dict[str, Any]] = [json.loads(line) for line in file]
        self._audio = {
            rate: np.load(path, mmap_mode="r")
            for rate, name in _NAMES.items()
            if (path := self.folder / f"audio_{name}.npy").is_file()
        }

    def select(self, **values: Any) -> list[dict[str, Any]]:
        """Rows whose keys equal the given values; a tuple, list or set means any of them."""

        def fits(row: dict[str, Any]) -> bool:
            return all(
                row.get(key) in value if isinstance(value, (tuple, list, set)) else row.get(key) == value
                for key, value in values.items()
            )

        return [row for row in self.rows if fits(row)]

    def wav(self, row: dict[str, Any], sampling_rate: int = 16000) -> np.ndarray:
        """Samples of one clip, (N,) float32 in [-1, 1].

        Raises:
            ValueError: if the clip is not stored at that rate.
        """
        name = _NAMES.get(sampling_rate, "")
        if f"start_{name}" not in row:
            stored = [rate for rate, name in _NAMES.items() if f"start_{name}" in row]
            raise ValueError(f"clip {row['id']} is not stored at {sampling_rate} Hz; stored: {stored}")
        start = row[f"start_{name}"]
        pcm = self._audio[sampling_rate][start : start + row[f"samples_{name}"]]
        return pcm.astype(np.float32) / 32767.0
