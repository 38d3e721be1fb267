"""What the fixture ``kimi_prompt_format`` was made with: a tokenizer of bytes, and recordings with known codes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from spikeaudio.audio import save_audio
from spikeaudio.lm.configuration import SpikeAudioConfig
from spikeaudio.processing import SpikeAudioProcessor
from spikeaudio.tokenizer.speech_tokenizer import SpeechTokens

RATE = 16000
FEATURES = 3  # channels: number of the recording, number of the code in it, the code


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A text is its utf-8 bytes: ids 0 to 255."""
    vocabulary = {character: byte for byte, character in bytes_to_unicode().items()}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


class KnownRecordings:
    """Stands in for the speech tokenizer: recording i is a steady (i + 1) / 64, and its codes are known."""

    def __init__(self, codes: Sequence[Sequence[int]]) -> None:
        self.codes = [torch.tensor(each) for each in codes]

    def wav(self, index: int) -> Tensor:
        """Samples of a recording, as long as its codes say."""
        return torch.full((len(self.codes[index]) * 1280,), (index + 1) / 64)

    def encode(self, wavs: Sequence[Tensor]) -> list[SpeechTokens]:
        """Codes, and features that say whose they are."""
        found = [round(float(wav[0]) * 64) - 1 for wav in wavs]
        return [SpeechTokens(self.codes[index], self.features(index)) for index in found]

    def features(self, index: int) -> Tensor:
        """(S, 3): number of the recording, number of the code, the code."""
        codes = self.codes[index]
        return torch.stack([torch.full_like(codes, index), torch.arange(len(codes)), codes], dim=1).float()


def published_prompt_config(record: dict[str, Any]) -> SpikeAudioConfig:
    """What a prompt depends on, from the fixture's ids."""
    special, offset = record["special_token_ids"], record["kimia_token_offset"]
    num_codes = 1 + max(map(max, record["audio_tokens_before_offset"].values()))
    return SpikeAudioConfig(
        prompt_format="kimi",
        vocab_size=offset + num_codes,
        num_text_tokens=min(special.values()),
        audio_token_offset=offset,
        num_audio_codes=num_codes,
        audio_delay=record["audio_delay"],
        audio_feature_dim=FEATURES,
        pad_token_id=record["pad_id"],
        blank_token_id=special["<|im_kimia_text_blank|>"],
        text_eos_token_id=special["<|im_kimia_text_eos|>"],
        media_begin_token_id=special["<|im_media_begin|>"],
        media_end_token_id=special["<|im_media_end|>"],
        msg_end_token_id=special["<|im_msg_end|>"],
        user_start_token_id=special["<|im_kimia_user_msg_start|>"],
        assistant_start_token_id=special["<|im_kimia_assistant_msg_start|>"],
        speech_text_token_id=special["<|im_kimia_speech_ct_id|>"],
        speech_both_token_id=special["<|im_kimia_speech_ctd_id|>"],
    )


class PromptFixture:
    """The records of ``kimi_prompt_format`` and a processor that reads their messages.

    Args:
        folder: the fixture's.
        recordings: where to write its recordings.
    """

    def __init__(self, folder: Path, recordings: Path) -> None:
        self.record: dict[str, Any] = json.loads((folder / "fixture.json").read_text())
        self.names = list(self.record["audio_tokens_before_offset"])
        self.codes: dict[str, list[int]] = self.record["audio_tokens_before_offset"]
        self.speech = KnownRecordings(list(self.codes.values()))
        self.folder = recordings
        for index, name in enumerate(self.names):
            save_audio(recordings / name, self.speech.wav(index), RATE)
        self.config = published_prompt_config(self.record)
        speech: Any = self.speech
        self.processor = SpikeAudioProcessor.of(self.config, byte_tokenizer(), speech, spell_out=False)

    def features(self, names: Sequence[str]) -> Tensor:
        """Features of recordings given as the fixture does, "FEATURES(u1.wav)" or "WAVEFORM(u1.wav)", in order."""
        found = [self.speech.features(self.names.index(name[name.index("(") + 1 : -1])) for name in names]
        return torch.cat(found) if found else torch.zeros(0, FEATURES)

    def messages(self, published: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Published messages in our form."""
        return [
            {"role": message["role"], "content": self._blocks(message["message_type"], message["content"])}
            for message in published
        ]

    def _blocks(self, kind: str, content: Any) -> list[dict[str, Any]]:
        if kind == "audio-text":
            return [*self._blocks("audio", content[0]), *self._blocks("text", content[1])]
        if kind == "audio":
            return [{"type": "audio", "path": str(self.folder / content)}]
        return [{"type": "text", "text": content}]
