"""Which ids each of the two streams may hold, and which audio ids end an answer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikeaudio.lm.configuration import SpikeAudioConfig


@dataclass(frozen=True)
class LegalTokens:
    """Ids each head may choose: two (V,) bool masks, True = legal. The published code has no such mask."""

    text: Tensor
    audio: Tensor

    @classmethod
    def of(cls, config: SpikeAudioConfig) -> "LegalTokens":
        """Text: every id of text, and those that end it. Audio: codes and the two ids that stop.

        Where the config does not tell text from reserved ids (``num_text_tokens``), every id below the codes is taken
        for text but the structural ones.
        """
        ids = torch.arange(config.vocab_size)
        text = ids < (config.num_text_tokens or config.audio_token_offset)
        says = {config.text_eos_token_id, config.think_end_token_id}
        structural = {*config.special_token_ids.values(), config.pad_token_id, config.bos_token_id} - says - {None}
        text[list(structural)] = False
        text[list(says - {None})] = True
        first = config.audio_token_offset
        audio = (ids >= first) & (ids < first + config.num_audio_codes)
        audio[list(stop_token_ids(config))] = True
        return cls(text, audio)


def stop_token_ids(config: SpikeAudioConfig) -> tuple[int, int]:
    """Audio ids that end a spoken answer."""
    return config.msg_end_token_id, config.media_end_token_id
