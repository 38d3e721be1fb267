"""Rows of unequal length as one batch of tensors: the one collate of generation, training and calibration."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from spikeaudio.lm.streams import IGNORED
from spikeaudio.prompt.layout import PromptStreams

PaddingSide = Literal["left", "right"]
_FILL = {"labels": IGNORED, "audio_labels": IGNORED, "audio_feature_mask": 0, "attention_mask": 0}


@dataclass(frozen=True)
class HeardRecording:
    """A recording as a model takes it.

    Attributes:
        codes: (S,) long, 12.5 a second.
        inputs: its entries of a batch, made by the model's feature encoder; (P, ...) each.
    """

    codes: Tensor
    inputs: dict[str, Tensor]


@dataclass(frozen=True)
class BatchRow:
    """One row of a batch before it is padded.

    Attributes:
        ids: by name of the model's input, (T,) each; labels included, where there are any.
        inputs: inputs of the feature encoder, for each recording of the row in order.
    """

    ids: dict[str, Tensor]
    inputs: Sequence[dict[str, Tensor]] = ()

    def __len__(self) -> int:
        return len(next(iter(self.ids.values())))

    @classmethod
    def of(cls, streams: PromptStreams, inputs: Sequence[dict[str, Tensor]]) -> "BatchRow":
        """The streams of a conversation, with their labels if they have some, and `inputs` of the recordings in it."""
        return cls({field.name: getattr(streams, field.name) for field in fields(streams)}, inputs)


def collate(rows: Sequence[BatchRow], pad_token_id: int = 0, padding_side: PaddingSide = "right") -> dict[str, Tensor]:
    """One batch.

    Args:
        rows: B rows of one kind.
        pad_token_id: fills ids; labels are filled with -100, masks with 0.
        padding_side: "left" for prompts that are continued, "right" for training. Entries of the feature encoder are
            padded at their end either way.

    Returns:
        The ids of every row (B, T), ``attention_mask`` (B, T) long, and, where any row has a recording, the entries of
        the feature encoder (B, P, ...). The k-th True of a row of ``audio_feature_mask`` is the place of its k-th
        feature; a batch without recordings has no such mask.

    Raises:
        ValueError: `padding_side` is neither "left" nor "right".

    >>> rows = [BatchRow({"input_ids": torch.tensor([5, 6, 7])}), BatchRow({"input_ids": torch.tensor([8])})]
    >>> collate(rows, padding_side="left")["input_ids"].tolist()
    [[5, 6, 7], [0, 0, 8]]
    """
    if padding_side not in ("left", "right"):
        raise ValueError(f"padding_side must be 'left' or 'right', got {padding_side!r}")
    names = sorted({name for row in rows for recording in row.inputs for name in recording})
    length = max(map(len, rows))

    def padded(ids: Tensor, name: str) -> Tensor:
        missing = length - len(ids)
        sides = (missing, 0) if padding_side == "left" else (0, missing)
        return torch.nn.functional.pad(ids, sides, value=_FILL.get(name, pad_token_id))

    batch = {name: torch.stack([padded(row.ids[name], name) for row in rows]) for name in rows[0].ids}
    real = [torch.ones(len(row), dtype=torch.long) for row in rows]
    batch["attention_mask"] = torch.stack([padded(each, "attention_mask") for each in real])
    if not names:
        batch.pop("audio_feature_mask", None)
    return batch | {name: _joined([[each[name] for each in row.inputs] for row in rows]) for name in names}


def _joined(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """Each row's tensors joined along their first axis, and all axes padded at their end with zeros: (B, P, ...)."""
    some = next(item for row in rows for item in row)
    sizes = [max(axis) for axis in zip(*(item.shape[1:] for row in rows for item in row), strict=True)]

    def fitted(item: Tensor) -> Tensor:
        missing = [size - have for size, have in zip(sizes, item.shape[1:], strict=True)]
        return torch.nn.functional.pad(item.cpu(), [side for each in reversed(missing) for side in (0, each)])

    joined = [torch.cat([some.new_zeros(0, *sizes).cpu(), *map(fitted, row)]) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(joined, batch_first=True)
