"""A conversation as two aligned id streams: the prompt of the language model, and its training example.

Every position of 80 ms carries one id of the text stream X and one of the audio stream A; where a stream is silent it
holds the blank B. With codes shifted by ``audio_token_offset`` and M marking the positions that get features:

    user turn        A: user_start  B * n       media_begin  codes  media_end   mode  msg_end  assistant_start
                     X: B           n text ids  B            B ...  B           B     B        B
                     M:                                      1 ...
    answer, written  A: B * n                           msg_end
                     X: n text ids, ending in text_eos  B
    answer, spoken   the delay pattern of :mod:`spikeaudio.lm.streams`; its end of speech is msg_end

`mode` is ``speech_text`` when the next answer is wanted in writing and ``speech_both`` when it is wanted spoken as
well. A prompt ends with assistant_start, and what follows is what the model generates: a past answer and the answer of
a training example have one layout, so the sequence a model learns is the one it meets when it answers.

Source: Kimi-Audio (arXiv:2504.18425) and its ``prompt_manager.py``. We keep its order and differ in three places: the
mode id closes every user turn (there it appears only when an audio message comes last, so a text-only prompt could not
ask for speech); a past spoken answer keeps its text_eos, as it was generated; and an answer may begin with a thought
(what the model understood) when the model has a ``think_end_token_id``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from spikeaudio.lm.configuration import SpikeAudioConfig
from spikeaudio.lm.streams import IGNORED, DelayPattern

GenerationMode = Literal["text", "audio"]
Ids = Sequence[int] | np.ndarray | Tensor
Segment = tuple[Literal["text", "audio"], Ids]
"""One piece of a user's turn: ("text", text ids) or ("audio", codes without offset)."""


@dataclass(frozen=True)
class PromptLayout:
    """The part of a `SpikeAudioConfig` that a prompt depends on; field by field the config's own."""

    audio_delay: int
    audio_token_offset: int
    num_audio_codes: int
    blank_token_id: int
    text_eos_token_id: int
    media_begin_token_id: int
    media_end_token_id: int
    msg_end_token_id: int
    user_start_token_id: int
    assistant_start_token_id: int
    speech_text_token_id: int
    speech_both_token_id: int
    think_end_token_id: int | None = None

    @classmethod
    def of(cls, config: "SpikeAudioConfig | PromptLayout") -> "PromptLayout":
        """Read the layout off a model's config."""
        return cls(**{field.name: getattr(config, field.name) for field in fields(cls)})

    def mode_token_id(self, mode: GenerationMode) -> int:
        """The id that closes a user's turn and says how the answer is wanted.

        Raises:
            ValueError: `mode` is neither "text" nor "audio".
        """
        if mode not in ("text", "audio"):
            raise ValueError(f"the mode of an answer must be 'text' or 'audio', got {mode!r}")
        return self.speech_text_token_id if mode == "text" else self.speech_both_token_id

    @property
    def delay_pattern(self) -> DelayPattern:
        """How answers lie in the two streams."""
        return DelayPattern(
            self.audio_delay,
            self.audio_token_offset,
            self.num_audio_codes,
            self.blank_token_id,
            self.text_eos_token_id,
            (self.msg_end_token_id,),
            self.think_end_token_id,
        )


@dataclass(frozen=True)
class Answer:
    """One answer of the assistant: text ids, and the codes (without offset) if it was spoken."""

    text_ids: Ids
    codes: Ids | None = None
    think_ids: Ids | None = None


@dataclass(frozen=True)
class DecodedAnswer:
    """The text of a generated answer, and the thought that came before it, if any."""

    text: str
    thought: str | None = None


@dataclass(frozen=True)
class Streams:
    """The two aligned streams of one conversation, T positions of 80 ms."""

    input_ids: Tensor  # (T,) long, text stream
    audio_input_ids: Tensor  # (T,) long, audio stream
    audio_feature_mask: Tensor  # (T,) bool, True where a user's code stands

    def __len__(self) -> int:
        return self.input_ids.shape[0]

    def without_last(self) -> "Streams":
        """All positions but the last one."""
        return Streams(self.input_ids[:-1], self.audio_input_ids[:-1], self.audio_feature_mask[:-1])


@dataclass(frozen=True)
class Example(Streams):
    """Streams of a training example and its targets: unshifted (the model shifts), -100 where nothing is learned."""

    labels: Tensor  # (T,) long, text stream
    audio_labels: Tensor  # (T,) long, audio stream


Turn = Sequence[Segment] | Answer
"""A turn of the past: segments are the user's, an `Answer` is the assistant's."""


def build_prompt(
    segments: Sequence[Segment],
    config: SpikeAudioConfig | PromptLayout,
    mode: GenerationMode = "text",
    history: Iterable[Turn] = (),
) -> Streams:
    """Streams of a prompt: past turns, the user's turn, and the start of the assistant's.

    Args:
        segments: pieces of the user's turn in reading order.
        config: gives the special ids, the code offset and the delay.
        mode: "text" for a written answer, "audio" for a written and spoken one.
        history: earlier turns in order.

    Raises:
        ValueError: an empty turn, a code or text id out of range, an unknown mode or kind of segment.
    """
    layout = PromptLayout.of(config)
    mode_id = layout.mode_token_id(mode)
    turns = [
        _answer(turn, layout) if isinstance(turn, Answer) else _user_turn(turn, layout, mode_id)
        for turn in (*history, segments)
    ]
    return Streams(
        torch.cat([turn.input_ids for turn in turns]),
        torch.cat([turn.audio_input_ids for turn in turns]),
        torch.cat([turn.audio_feature_mask for turn in turns]),
    )


def build_example(
    segments: Sequence[Segment],
    answer_text_ids: Ids,
    answer_codes: Ids | None,
    think_ids: Ids | None,
    config: SpikeAudioConfig | PromptLayout,
    history: Iterable[Turn] = (),
) -> Example:
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
        Streams with `labels` on thought, answer and text_eos, `audio_labels` on codes and msg_end.

    Raises:
        ValueError: as `build_prompt`; also a thought for a model without ``think_end_token_id``.
    """
    layout = PromptLayout.of(config)
    prompt = build_prompt(segments, layout, "text" if answer_codes is None else "audio", history)
    answer = _answer(Answer(answer_text_ids, answer_codes, think_ids), layout)
    unlearned = torch.full((len(prompt),), IGNORED)
    blanks = (layout.blank_token_id,) if answer_codes is not None else (layout.blank_token_id, layout.msg_end_token_id)
    text_targets, audio_targets = (
        ids.masked_fill(torch.isin(ids, torch.tensor(blanks)), IGNORED)
        for ids in (answer.input_ids, answer.audio_input_ids)
    )
    return Example(
        torch.cat([prompt.input_ids, answer.input_ids]),
        torch.cat([prompt.audio_input_ids, answer.audio_input_ids]),
        torch.cat([prompt.audio_feature_mask, answer.audio_feature_mask]),
        torch.cat([unlearned, text_targets]),
        torch.cat([unlearned, audio_targets]),
    )


def spoken_text_ids(text_ids: Ids, config: SpikeAudioConfig | PromptLayout) -> list[int]:
    """What the text stream holds while a model reads `text_ids` aloud: end of thought if it has one, text, text_eos."""
    layout = PromptLayout.of(config)
    thought = [] if layout.think_end_token_id is None else [layout.think_end_token_id]
    return [*thought, *_text_ids(text_ids, layout), layout.text_eos_token_id]


def without_thoughts(ids: Tensor, layout: PromptLayout) -> Tensor:
    """A text stream (T,) without its thoughts: what lies between an end of thought and the blank before it."""
    if layout.think_end_token_id is None:
        return ids
    for end in reversed((ids == layout.think_end_token_id).nonzero().flatten().tolist()):
        silent = (ids[:end] == layout.blank_token_id).nonzero().flatten().tolist()
        ids = torch.cat([ids[: silent[-1] + 1 if silent else 0], ids[end + 1 :]])
    return ids


def _answer(answer: Answer, layout: PromptLayout) -> Streams:
    """An answer on the two streams, msg_end included."""
    think = answer.think_ids
    if think is None and answer.codes is not None and layout.think_end_token_id is not None:
        think = []
    text, audio = layout.delay_pattern.align(
        _text_ids(answer.text_ids, layout),
        None if answer.codes is None else _listed(answer.codes),
        None if think is None else _text_ids(think, layout),
    )
    if answer.codes is None:
        text = torch.cat([text, torch.tensor([layout.blank_token_id])])
        audio = torch.cat([torch.full_like(audio, layout.blank_token_id), torch.tensor([layout.msg_end_token_id])])
    return Streams(text, audio, torch.zeros(len(text), dtype=torch.bool))


def _user_turn(segments: Sequence[Segment], layout: PromptLayout, mode_id: int) -> Streams:
    """A user's turn, from user_start to the assistant_start that hands over."""
    blank = layout.blank_token_id
    text, audio, mask = [blank], [layout.user_start_token_id], [False]
    for kind, ids in segments:
        if kind == "text":
            piece = _text_ids(ids, layout)
            text += piece
            audio += [blank] * len(piece)
            mask += [False] * len(piece)
        elif kind == "audio":
            codes = _audio_ids(ids, layout)
            text += [blank] * (len(codes) + 2)
            audio += [layout.media_begin_token_id, *codes, layout.media_end_token_id]
            mask += [False, *[True] * len(codes), False]
        else:
            raise ValueError(f"a segment must be ('text', ids) or ('audio', codes), got the kind {kind!r}")
    if len(text) == 1:
        raise ValueError("the user's turn is empty: expected at least one piece of text or audio")
    closing = [mode_id, layout.msg_end_token_id, layout.assistant_start_token_id]
    return Streams(
        torch.tensor(text + [blank] * len(closing)),
        torch.tensor(audio + closing),
        torch.tensor(mask + [False] * len(closing)),
    )


def _text_ids(ids: Ids, layout: PromptLayout) -> list[int]:
    listed = _listed(ids)
    if listed and not 0 <= min(listed) <= max(listed) < layout.audio_token_offset:
        raise ValueError(f"text ids must lie in [0, {layout.audio_token_offset}), got {min(listed)} to {max(listed)}")
    return listed


def _audio_ids(codes: Ids, layout: PromptLayout) -> list[int]:
    listed = _listed(codes)
    if listed and not 0 <= min(listed) <= max(listed) < layout.num_audio_codes:
        raise ValueError(f"codes must lie in [0, {layout.num_audio_codes}), got {min(listed)} to {max(listed)}")
    return [code + layout.audio_token_offset for code in listed]


def _listed(ids: Ids) -> list[int]:
    return [int(i) for i in (ids.tolist() if isinstance(ids, np.ndarray | Tensor) else ids)]
