"""Prompts of unequal length as one batch of tensors: ids padded on the left, features on the right."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import BatchFeature

from spikeaudio.prompt.layout import Streams
from spikeaudio.tokenizer.speech_tokenizer import SpeechTokens

Row = tuple[Streams, Sequence[SpeechTokens]]
"""A prompt, and the tokens of the recordings in it, in order."""


def batch_prompts(rows: Sequence[Row], pad_token_id: int) -> BatchFeature:
    """One batch of `rows`.

    Args:
        rows: B prompts with their recordings.
        pad_token_id: fills both streams in front of shorter prompts.

    Returns:
        input_ids, audio_input_ids, attention_mask (B, T) long, and where there is a recording audio_features (B, S, D)
        fp32 and audio_feature_mask (B, T) bool: the k-th True of a row is the place of its k-th feature. Recordings
        with log-mel pieces give input_features (B, P, mels, frames) and input_features_mask (B, P, frames) in place
        of audio_features.

    Raises:
        ValueError: a recording does not have one feature per code.
    """
    for tokens in (item for _, recordings in rows for item in recordings):
        if len(tokens.features) != len(tokens.codes):
            raise ValueError(
                f"a recording has {len(tokens.codes)} codes, but {len(tokens.features)} features: "
                f"expected one feature per code"
            )
    length = max(len(streams) for streams, _ in rows)

    def padded(ids: Tensor, value: int) -> Tensor:
        return torch.nn.functional.pad(ids, (length - len(ids), 0), value=value)

    data = {
        "input_ids": torch.stack([padded(streams.input_ids, pad_token_id) for streams, _ in rows]),
        "audio_input_ids": torch.stack([padded(streams.audio_input_ids, pad_token_id) for streams, _ in rows]),
        "attention_mask": torch.stack([padded(torch.ones_like(streams.input_ids), 0) for streams, _ in rows]),
    }
    if any(tokens for _, tokens in rows):
        data["audio_feature_mask"] = torch.stack([padded(streams.audio_feature_mask, False) for streams, _ in rows])
        pieces = [[item.pieces for item in tokens if item.pieces is not None] for _, tokens in rows]
        if any(pieces):
            data["input_features"] = _stacked([[piece.mel for piece in row] for row in pieces])
            data["input_features_mask"] = _stacked([[piece.mask for piece in row] for row in pieces])
        else:
            data["audio_features"] = _stacked([[item.features for item in tokens] for _, tokens in rows])
    return BatchFeature(data)


def _stacked(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """Each row's tensors joined, and padded at their end with zeros to the length of the longest row."""
    some = next(item for row in rows for item in row)
    joined = [torch.cat(list(row)).cpu() if row else some.new_zeros(0, *some.shape[1:]).cpu() for row in rows]
    return torch.nn.utils.rnn.pad_sequence(joined, batch_first=True)
