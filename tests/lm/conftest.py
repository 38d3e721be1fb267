"""A two-stream model of a few thousand parameters, and prompts for it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spikeaudio.lm import SpikeAudioConfig, SpikeAudioForConditionalGeneration

SIZES = {
    "vocab_size": 80,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "num_audio_layers": 2,
    "audio_branch_layer": 1,
    "audio_delay": 3,
    "audio_token_offset": 50,
    "num_audio_codes": 30,
    "audio_feature_dim": 12,
    "blank_token_id": 40,
    "text_eos_token_id": 41,
    "media_begin_token_id": 42,
    "media_end_token_id": 43,
    "msg_end_token_id": 44,
    "user_start_token_id": 45,
    "assistant_start_token_id": 46,
    "speech_text_token_id": 47,
    "speech_both_token_id": 48,
}


@pytest.fixture
def tiny_config() -> Callable[..., SpikeAudioConfig]:
    return lambda **changes: SpikeAudioConfig(**{**SIZES, **changes})


@pytest.fixture
def tiny_model(tiny_config) -> Callable[..., SpikeAudioForConditionalGeneration]:
    """A seeded model; weights large enough that logits differ clearly and rows end at different steps."""

    def build(**changes) -> SpikeAudioForConditionalGeneration:
        torch.manual_seed(changes.pop("seed", 3))
        attention = changes.pop("attn_implementation", "sdpa")
        config = tiny_config(initializer_range=0.3, **changes)
        return SpikeAudioForConditionalGeneration._from_config(config, attn_implementation=attention).eval()

    return build


def one_turn(config: SpikeAudioConfig, codes: int, text: int, seed: int) -> dict[str, Tensor]:
    """One user turn of `text` ids, then `codes` heard codes; (1, T) streams and (1, codes, D) features."""
    g = torch.Generator().manual_seed(seed)
    blank = config.blank_token_id
    heard = (config.audio_token_offset + torch.randint(config.num_audio_codes, (codes,), generator=g)).tolist()
    segment = [config.media_begin_token_id, *heard, config.media_end_token_id] if codes else []
    written = torch.randint(40, (text,), generator=g).tolist()
    audio = [config.user_start_token_id, *[blank] * text, *segment, config.msg_end_token_id]
    audio.append(config.assistant_start_token_id)
    words = [blank, *written, *[blank] * (len(audio) - 1 - text)]
    ids = torch.tensor([audio])
    return {
        "input_ids": torch.tensor([words]),
        "audio_input_ids": ids,
        "audio_feature_mask": (ids >= config.audio_token_offset),
        "audio_features": torch.randn(1, codes, config.audio_feature_dim, generator=g),
        "attention_mask": torch.ones_like(ids),
    }


def pad_left(config: SpikeAudioConfig, prompts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Prompts of unequal length as one batch: streams padded on the left, features on the right."""
    length = max(p["input_ids"].shape[1] for p in prompts)
    fill = {
        "input_ids": config.pad_token_id,
        "audio_input_ids": config.blank_token_id,
        "audio_feature_mask": 0,
        "attention_mask": 0,
    }
    batch = {
        name: torch.cat(
            [torch.nn.functional.pad(p[name], (length - p[name].shape[1], 0), value=value) for p in prompts]
        )
        for name, value in fill.items()
    }
    batch["audio_features"] = torch.nn.utils.rnn.pad_sequence([p["audio_features"][0] for p in prompts], True)
    return batch


@pytest.fixture
def prompt() -> Callable[..., dict[str, Tensor]]:
    return one_turn


@pytest.fixture
def left_padded() -> Callable[..., dict[str, Tensor]]:
    return pad_left
