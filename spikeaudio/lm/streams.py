"""The delay pattern: how an answer's text ids and audio codes lie in two streams of equal length.

With blank ``_``, end of text ``E``, end of speech ``S``, delay 2, text abc, codes 1 2 3:

    text   a b c E _ _          and after thoughts  xy, end of thoughts ``T``:   x y T a b c E _ _
    audio  _ _ 1 2 3 S                                                           _ _ _ _ _ 1 2 3 S

Text runs ahead of the speech that says it; the stream that has nothing to say holds blanks. Speech ends its turn,
whatever the text does. Source: Kimi-Audio (arXiv:2504.18425, 4.1.3; fixture ``training.s2s``); thoughts before a
spoken answer are ours. Pure functions of lists and tensors; no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

IGNORED = -100


class Streams(NamedTuple):
    """Two streams of one length: ``text`` and ``audio``, (L,) long, ids of the shared id space."""

    text: Tensor
    audio: Tensor


class Answer(NamedTuple):
    """What two streams say: ``text`` and ``thoughts`` ids (n,) without end marks, ``codes`` (S,) without offset."""

    text: Tensor
    codes: Tensor
    thoughts: Tensor | None


@dataclass(frozen=True)
class DelayPattern:
    """Lay answers out in two streams, and read them back.

    Args:
        delay: steps from the first text id of the answer to the first code, >= 0.
        audio_token_offset: id of code 0.
        num_audio_codes: codes are in [0, num_audio_codes).
        blank_token_id: fills a silent stream.
        text_eos_token_id: follows the text.
        stop_token_ids: follow the codes, in this order; the first one ends the speech.
        think_end_token_id: separates thoughts from text; None where the model does not think.
    """

    delay: int
    audio_token_offset: int
    num_audio_codes: int
    blank_token_id: int
    text_eos_token_id: int
    stop_token_ids: tuple[int, ...]
    think_end_token_id: int | None = None

    def __post_init__(self) -> None:
        if self.delay < 0:
            raise ValueError(f"delay must not be negative, got {self.delay}")
        if not self.stop_token_ids:
            raise ValueError("stop_token_ids must name at least one id that ends the speech")

    def align(
        self,
        text_ids: Sequence[int] | Tensor,
        codes: Sequence[int] | Tensor | None = None,
        thoughts: Sequence[int] | Tensor | None = None,
    ) -> Streams:
        """Streams of one answer.

        Args:
            text_ids: (n,) ids of the answer, without its end mark.
            codes: (S,) codes without offset, or None for an answer in text only (its audio stream is blank).
            thoughts: (m,) ids written before the answer; the delay then counts from the end of the thoughts.

        Raises:
            ValueError: a code out of range; thoughts without a ``think_end_token_id``.
        """
        if thoughts is not None and self.think_end_token_id is None:
            raise ValueError("thoughts need a think_end_token_id, but this pattern has none")
        text: list[int] = []
        if thoughts is not None and self.think_end_token_id is not None:
            text += [*_ints(thoughts), self.think_end_token_id]
        lead = len(text) + self.delay
        text += [*_ints(text_ids), self.text_eos_token_id]
        audio: list[int] = []
        if codes is not None:
            numbers = _ints(codes)
            if numbers and not (0 <= min(numbers) and max(numbers) < self.num_audio_codes):
                raise ValueError(
                    f"codes must lie in [0, {self.num_audio_codes}), got {min(numbers)} to {max(numbers)} "
                    f"(without audio_token_offset)"
                )
            audio = [self.blank_token_id] * lead + [self.audio_token_offset + code for code in numbers]
            audio += self.stop_token_ids
        length = max(len(text), len(audio))
        blank = [self.blank_token_id]
        return Streams(
            torch.tensor(text + blank * (length - len(text)), dtype=torch.long),
            torch.tensor(audio + blank * (length - len(audio)), dtype=torch.long),
        )

    def split(self, text: Tensor, audio: Tensor) -> Answer:
        """Inverse of :meth:`align`; also reads streams cut off before either ended.

        Args:
            text: (L,) long, the assistant's part of the text stream.
            audio: (L,) long, of the audio stream.

        Raises:
            ValueError: the streams are not two vectors of one length.
        """
        if text.dim() != 1 or text.shape != audio.shape:
            raise ValueError(
                f"the two streams must be vectors of one length, got {tuple(text.shape)} and {tuple(audio.shape)}"
            )
        written = _before(text, (self.text_eos_token_id,))
        thoughts: Tensor | None = None
        if self.think_end_token_id is not None:
            ends = (written == self.think_end_token_id).nonzero()
            if len(ends):
                thoughts, written = written[: int(ends[0])], written[int(ends[0]) + 1 :]
        spoken = _before(audio, self.stop_token_ids[:1])
        return Answer(
            text=written[written != self.blank_token_id],
            codes=codes_of(spoken, self.audio_token_offset, self.num_audio_codes),
            thoughts=thoughts,
        )

    def labels(self, streams: Streams) -> Streams:
        """Training targets: the streams' own ids, -100 at blanks, which generation forces and nothing learns."""
        return Streams(*(ids.masked_fill(ids == self.blank_token_id, IGNORED) for ids in streams))


def codes_of(ids: Tensor, audio_token_offset: int, num_audio_codes: int) -> Tensor:
    """The audio codes among `ids`, in order and without offset. (L,) -> (S,)."""
    codes = ids - audio_token_offset
    return codes[(codes >= 0) & (codes < num_audio_codes)]


def _ints(values: Sequence[int] | Tensor) -> list[int]:
    return [int(value) for value in (values.tolist() if isinstance(values, Tensor) else values)]


def _before(ids: Tensor, marks: tuple[int, ...]) -> Tensor:
    """`ids` up to, without, the first of `marks`."""
    found = torch.isin(ids, ids.new_tensor(marks)).nonzero()
    return ids[: int(found[0])] if len(found) else ids
