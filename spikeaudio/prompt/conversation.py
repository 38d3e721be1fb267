"""A conversation as the prompt of the language model, and as a training example.

:mod:`spikeaudio.prompt.layout` says where a turn's ids go in the two streams, :mod:`spikeaudio.prompt.kimi_layout`
says it for Kimi-Audio's weights; which of them a checkpoint wants stands in its config, as ``prompt_format``. Here
turns become a conversation.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikeaudio.lm.configuration import SpikeAudioConfig
from spikeaudio.lm.streams import IGNORED
from spikeaudio.prompt.kimi_layout import KimiPromptLayout
from spikeaudio.prompt.layout import AnswerMode, AssistantTurn, Ids, PromptLayout, PromptStreams, Segment, Turn, join

_FORMATS: dict[str, type[PromptLayout]] = {layout.prompt_format: layout for layout in (PromptLayout, KimiPromptLayout)}


def layout_of(config: SpikeAudioConfig | PromptLayout) -> PromptLayout:
    """The layout of a model's prompts.

    Args:
        config: the model's, whose ``prompt_format`` names the layout; or a layout already.

    Raises:
        ValueError: there is no format of that name.
    """
    if isinstance(config, PromptLayout):
        return config
    return _format(config.prompt_format).of(config)


def read_layout(stored: dict[str, Any]) -> PromptLayout:
    """A layout from what `PromptLayout.to_dict` wrote; without the name of a format it is spikeaudio's own.

    Raises:
        ValueError: an unknown format or field, or a field that is missing.
    """
    ids = dict(stored)
    layout = _format(ids.pop("prompt_format", PromptLayout.prompt_format))
    try:
        return layout(**ids)
    except TypeError as error:
        raise ValueError(f"the layout of the prompts does not hold the fields it must: {error}") from error


def _format(name: str) -> type[PromptLayout]:
    if name not in _FORMATS:
        raise ValueError(f"prompt_format must be one of {', '.join(map(repr, _FORMATS))}, got {name!r}")
    return _FORMATS[name]


@dataclass(frozen=True)
class DecodedAnswer:
    """The text of a generated answer, and the thought that came before it, if any."""

    text: str
    thought: str | None = None


@dataclass(frozen=True)
class LabelledStreams(PromptStreams):
    """Streams of a training example and its targets: unshifted (the model shifts), -100 where nothing is learned."""

    labels: Tensor  # (T,) long, text stream
    audio_labels: Tensor  # (T,) long, audio stream


def build_prompt(
    segments: Sequence[Segment],
    config: SpikeAudioConfig | PromptLayout,
    mode: AnswerMode = "text",
    history: Iterable[Turn] = (),
) -> PromptStreams:
    """Streams of a prompt: past turns, the user's turn, and the start of the assistant's.

    Args:
        segments: pieces of the user's turn in reading order.
        config: gives the special ids, the code offset and the delay.
        mode: "text" for a written answer, "audio" for a written and spoken one.
        history: earlier turns in order.

    Raises:
        ValueError: an empty turn, a code or text id out of range, an unknown mode or kind of segment.
    """
    layout = layout_of(config)
    return join(
        [
            layout.past_answer(turn) if isinstance(turn, AssistantTurn) else layout.user_turn(turn, mode)
            for turn in (*history, segments)
        ]
    )


def build_example(
    segments: Sequence[Segment],
    answer_text_ids: Ids,
    answer_codes: Ids | None,
    think_ids: Ids | None,
    config: SpikeAudioConfig | PromptLayout,
    history: Iterable[Turn] = (),
) -> LabelledStreams:
    """A training example: `build_prompt` followed by the answer, with targets on the answer alone.

    Args:
        segments: pieces of the user's turn.
        answer_text_ids: text ids of the answer, without text_eos.
        answer_codes: codes of the spoken answer, without offset; None for a written answer.
        think_ids: text ids written before the answer; None for none. A model with a ``think_end_token_id`` closes a
            thought before every spoken answer, so there None means an empty one.
        config: gives the special ids, the code offset and the delay.
        history: earlier turns, not learned.

    Returns:
        Streams with `labels` on thought, answer and text_eos, `audio_labels` on codes and the end of the speech.

    Raises:
        ValueError: as `build_prompt`; also a thought for a model without ``think_end_token_id``.
    """
    layout = layout_of(config)
    prompt = build_prompt(segments, layout, "text" if answer_codes is None else "audio", history)
    answer = layout.answer(AssistantTurn(answer_text_ids, answer_codes, think_ids))
    unlearned = torch.full((len(prompt),), IGNORED)
    text, audio = answer.input_ids, answer.audio_input_ids
    speech = audio >= layout.audio_token_offset
    if answer_codes is not None:
        speech |= audio == layout.delay_pattern.stop_token_ids[0]
    whole = join([prompt, answer])
    return LabelledStreams(
        whole.input_ids,
        whole.audio_input_ids,
        whole.audio_feature_mask,
        torch.cat([unlearned, text.masked_fill(text == layout.blank_token_id, IGNORED)]),
        torch.cat([unlearned, audio.masked_fill(~speech, IGNORED)]),
    )


def spoken_text_ids(text_ids: Ids, config: SpikeAudioConfig | PromptLayout) -> list[int]:
    """What the text stream holds while a model reads `text_ids` aloud: end of thought if it has one, text, text_eos."""
    layout = layout_of(config)
    thought = [] if layout.think_end_token_id is None else [layout.think_end_token_id]
    return [*thought, *layout.text_stream(text_ids), layout.text_eos_token_id]


def without_thoughts(ids: Tensor, layout: PromptLayout) -> Tensor:
    """A text stream (T,) without its thoughts: what lies between an end of thought and the blank before it."""
    if layout.think_end_token_id is None:
        return ids
    for end in reversed((ids == layout.think_end_token_id).nonzero().flatten().tolist()):
        silent = (ids[:end] == layout.blank_token_id).nonzero().flatten().tolist()
        ids = torch.cat([ids[: silent[-1] + 1 if silent else 0], ids[end + 1 :]])
    return ids
