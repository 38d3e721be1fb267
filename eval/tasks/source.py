"""Where a task's samples are from: a folder of the user's, the repository, or a dataset of the Hub.

    DATA/<task>/manifest.jsonl    our own form (eval.tasks.manifest)
    DATA/<task>/*.jsonl           Kimi-Audio-Evalkit
    DATA/<task>/*.lst             seed-tts-eval
    DATA/<task>/*.csv             Open ASR Leaderboard
    DATA/<task>/test.tsv          Common Voice, clips/ beside it; CoVoST 2 (*.test.tsv)
    DATA/<task>/recordings/*.wav  Free Spoken Digit Dataset, for its task
    DATA/<task>/...               Parquet files, or what `datasets` saved to disk

DATA is --data or $SPIKEAUDIO_EVAL_DATA. The first of these forms that is there is read; else the dataset's id, if it
has one, is given to `datasets`, whose cache serves without a network.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from eval.sample import Sample
from eval.task import Job
from eval.tasks.importers import kimi_evalkit, open_asr, seed_tts_eval
from eval.tasks.manifest import read_samples
from eval.tasks.rows import Columns, load_rows, paired_rows, row_samples

Reader = Callable[[Path, Job], list[Sample]]
_READERS: tuple[tuple[str, Reader], ...] = (
    ("manifest.jsonl", read_samples),
    ("*.jsonl", kimi_evalkit),
    ("*.lst", seed_tts_eval),
    ("*.csv", open_asr),
    ("test.tsv", open_asr),
    ("*.test.tsv", open_asr),
)
_SAVED = ("state.json", "dataset_dict.json")
DATA_VARIABLE = "SPIKEAUDIO_EVAL_DATA"
CONVERTED = "refs/convert/parquet"


@dataclass(frozen=True)
class HubDataset:
    """A dataset's id, and what its columns are called.

    Attributes:
        id: id of the Hub.
        config: its configuration; None: the only one.
        split: split of it.
        columns: which column holds what.
        revision: "refs/convert/parquet" where the dataset itself is a script, which `datasets` no longer runs: the
            Hub keeps a converted copy there; None: the newest.
        answers: another configuration, whose column of references is taken, joined by the column "id"; None: none.
    """

    id: str
    config: str | None = None
    split: str = "test"
    columns: Columns = field(default_factory=Columns)
    revision: str | None = None
    answers: str | None = None


@dataclass(frozen=True)
class Source:
    """Samples of one task; calling it reads them.

    Attributes:
        name: name of the task, and of its folder.
        job: job that the samples are for.
        get: how to come by the data, and under which licence, as far as it is known.
        hub: where `datasets` finds them; None: nowhere.
        subset: the rows to keep of a file that holds several sets (by `meta["subset"]`); None: all.
        layout: reads the user's folder as it was published, where none of the files above is in it; None: it has none.
        data: the user's folder; None: $SPIKEAUDIO_EVAL_DATA, if set.
    """

    name: str
    job: Job
    get: str
    hub: HubDataset | None = None
    subset: str | None = None
    layout: Reader | None = None
    data: Path | None = None

    def at(self, data: Path | None) -> "Source":
        """The same source below another folder."""
        return replace(self, data=data)

    @property
    def folder(self) -> Path | None:
        """The user's folder for this task, if there is one."""
        root = self.data or (Path(given) if (given := os.environ.get(DATA_VARIABLE)) else None)
        return root / self.name if root is not None and (root / self.name).is_dir() else None

    @property
    def present(self) -> bool:
        """Whether a folder with the data is there; a cache of `datasets` is not looked into."""
        return self.folder is not None

    def __call__(self) -> list[Sample]:
        """Read the samples.

        Raises:
            FileNotFoundError: they are nowhere; says how to get them.
            ValueError: they are there, but broken.
        """
        samples = self._of_folder(folder) if (folder := self.folder) is not None else self._of_hub()
        kept = [sample for sample in samples if self.subset in (None, sample.meta.get("subset", self.subset))]
        if not kept:
            raise ValueError(f"{self.name}: no sample has the subset {self.subset!r}")
        return kept

    def _of_folder(self, folder: Path) -> list[Sample]:
        for pattern, read in _READERS:
            if files := sorted(folder.glob(pattern)):
                if len(files) > 1:
                    raise ValueError(f"{folder} holds {len(files)} files {pattern}; expected one")
                return read(files[0], self.job)
        if self.layout is not None and next(folder.glob("recordings/*.wav"), None) is not None:
            return self.layout(folder, self.job)
        if next(folder.rglob("*.parquet"), None) is None and not any((folder / name).is_file() for name in _SAVED):
            raise FileNotFoundError(f"{folder} holds no data in a known form. {self._how()}")
        hub = self.hub or HubDataset(str(folder))
        return row_samples(load_rows(folder, None, hub.split), hub.columns, self.job, str(folder / hub.split))

    def _of_hub(self) -> list[Sample]:
        if self.hub is None:
            raise FileNotFoundError(f"no data for the task {self.name}. {self._how()}")
        try:
            dataset = load_rows(self.hub.id, self.hub.config, self.hub.split, self.hub.revision)
            if self.hub.answers is not None:
                right = load_rows(self.hub.id, self.hub.answers, self.hub.split, self.hub.revision)
                dataset = paired_rows(dataset, right, "id", str(self.hub.columns.references))
        except Exception as error:  # offline, unknown, gated or no longer there: datasets has a type for each
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise FileNotFoundError(f"no data for the task {self.name} ({reason}). {self._how()}") from error
        return row_samples(dataset, self.hub.columns, self.job, f"{self.hub.id}:{self.hub.config or self.hub.split}")

    def _how(self) -> str:
        return f"To get it: {self.get} Then put it into DATA/{self.name}/ and give --data DATA or ${DATA_VARIABLE}."


@dataclass(frozen=True)
class ManifestSource:
    """Samples of a manifest that the repository holds; calling it reads them.

    Attributes:
        manifest: its path.
        job: job that the samples are for.
    """

    manifest: Path
    job: Job

    def at(self, data: Path | None) -> "ManifestSource":
        """The same: bundled data lie nowhere else."""
        return self

    @property
    def present(self) -> bool:
        """Whether the manifest is there."""
        return self.manifest.is_file()

    @property
    def get(self) -> str:
        """How to come by the data."""
        return "It is part of a checkout of the repository."

    def __call__(self) -> list[Sample]:
        """Read the samples.

        Raises:
            FileNotFoundError: the manifest is missing.
            ValueError: it is broken.
        """
        if not self.present:
            raise FileNotFoundError(f"no bundled data at {self.manifest.name}. {self.get}")
        return read_samples(self.manifest, self.job)
