"""Marks between the sentences of a prompt's text, which the model does not see.

A text that is spelled out has no punctuation left, but whoever reads it aloud must know where its sentences end. A pad
stands there. The attention mask hides it, and positions are counted without it, so the model's answer is the same.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import BatchFeature


@dataclass(frozen=True)
class SentenceMarks:
    """How the sentences of one processor's prompts are marked.

    Attributes:
        mark_token_id: The id between two sentences; None where texts are not split.
        blank_token_id: The id of a silent text stream.

    >>> marks = SentenceMarks(mark_token_id=0, blank_token_id=1)
    >>> marks.join([[5, 6], [7]])
    [5, 6, 0, 7]
    >>> marks.split(torch.tensor([0, 0, 1, 5, 6, 0, 7, 1, 1]))
    [[5, 6], [7]]
    """

    mark_token_id: int | None
    blank_token_id: int

    def join(self, sentences: list[list[int]]) -> list[int]:
        """The ids of sentences with the mark between them."""
        marked: list[int] = []
        for ids in sentences:
            if marked and self.mark_token_id is not None:
                marked.append(self.mark_token_id)
            marked += ids
        return marked

    def split(self, ids: Tensor) -> list[list[int]]:
        """The ids of the sentences in the text stream (T,) of a prompt; padding holds none."""
        sentences: list[list[int]] = [[]]
        for token in ids.tolist():
            if token == self.mark_token_id:
                sentences.append([])
            elif token != self.blank_token_id:
                sentences[-1].append(token)
        return [sentence for sentence in sentences if sentence]

    def hide(self, batch: BatchFeature) -> BatchFeature:
        """`batch` with the marks taken out of its ``attention_mask``."""
        if self.mark_token_id is not None:
            batch["attention_mask"] = torch.where(batch["input_ids"] == self.mark_token_id, 0, batch["attention_mask"])
        return batch
