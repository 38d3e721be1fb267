"""A conversation's turns on two aligned id streams, the way spikeaudio's own models are trained.

Every position of 80 ms carries one id of the text stream X and one of the audio stream A. Where a stream is silent it
holds the blank B. With codes shifted by ``audio_token_offset`` and M marking the positions that get features:

    user turn        A: user_start  B * n       media_begin  codes  media_end   mode  msg_end  assistant_start
                     X: B           n text ids  B            B ...  B           B     B        B
                     M:                                      1 ...
    answer, written  A: B * n                           msg_end
                     X: n text ids, ending in text_eos  B
    answer, spoken   the delay pattern of :mod:`spikeaudio.lm.streams`; its end of speech is msg_end

A turn with one recording is laid out texts first, recording last, whatever order its message has: the models were
trained on that order alone (`text_first`). A turn with several recordings keeps the order of its message.

`mode` is ``speech_text`` when the next answer is wanted in writing and ``speech_both`` when it is wanted spoken as
well. A prompt ends with assistant_start, and what follows is what the model generates: a past answer and the answer of
a training example have one layout, so the sequence a model learns is the one it meets when it answers.

Source: Kimi-Audio (arXiv:2504.18425) and its ``prompt_manager.py``. We keep its order and differ in three places: the
mode id closes every user turn (there it appears only when an audio message comes last, so a text-only prompt could not
ask for speech). A past spoken answer keeps its text_eos, as it was generated. And an answer may begin with a thought
(what the model understood) when the model has a ``think_end_token_id``. Kimi-Audio's own weights know their own layout
alone: :class:`spikeaudio.prompt.kimi_layout.KimiPromptLayout`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from spikeaudio.lm.configuration import SpikeAudioConfig
from spikeaudio.lm.streams import DelayPattern

AnswerMode = Literal["text", "audio"]
Ids = Sequence[int] | np.ndarray | Tensor
Segment = tuple[Literal["text", "audio"], Ids]
"""One piece of a user's turn: ("text", text ids) or ("audio", codes without offset)."""


@dataclass(frozen=True)
class AssistantTurn:
    """One answer of the assistant: text ids, the codes (without offset) if it was spoken, and the thought before it."""

    text_ids: Ids
    codes: Ids | None = None
    think_ids: Ids | None = None


Turn = Sequence[Segment] | AssistantTurn
"""A turn of the past: segments are the user's, an `AssistantTurn` is the assistant's."""


@dataclass(frozen=True)
class PromptStreams:
    """The two aligned streams of one conversation, T positions of 80 ms."""

    input_ids: Tensor  # (T,) long, text stream
    audio_input_ids: Tensor  # (T,) long, audio stream
    audio_feature_mask: Tensor  # (T,) bool, True where a user's code stands

    def __len__(self) -> int:
        return self.input_ids.shape[0]

    def without_last(self) -> "PromptStreams":
        """All positions but the last one."""
        return PromptStreams(self.input_ids[:-1], self.audio_input_ids[:-1], self.audio_feature_mask[:-1])


def join(parts: Sequence[PromptStreams]) -> PromptStreams:
    """`parts` one after the other."""
    return PromptStreams(
        torch.cat([part.input_ids for part in parts]),
        torch.cat([part.audio_input_ids for part in parts]),
        torch.cat([part.audio_feature_mask for part in parts]),
    )


@dataclass(frozen=True)
class PromptLayout:
    """Where ids go in the two streams; the fields are those of a `SpikeAudioConfig` that a prompt depends on."""

    prompt_format: ClassVar[str] = "spikeaudio"
    text_first: ClassVar[bool] = True

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
    def of(cls, config: SpikeAudioConfig) -> "PromptLayout":
        """Read the ids off a model's config; `spikeaudio.prompt.conversation.layout_of` also chooses the class."""
        return cls(**{field.name: getattr(config, field.name) for field in fields(cls)})

    def to_dict(self) -> dict[str, Any]:
        """The fields and the name of the format, for ``processor_config.json``."""
        return {"prompt_format": self.prompt_format, **asdict(self)}

    def mode_token_id(self, mode: AnswerMode) -> int:
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

    def marks(self, *ids: int) -> PromptStreams:
        """`ids` in the audio stream over a silent text stream."""
        audio = torch.tensor(ids, dtype=torch.long)
        return PromptStreams(
            torch.full_like(audio, self.blank_token_id), audio, torch.zeros(len(ids), dtype=torch.bool)
        )

    def pieces(self, segments: Sequence[Segment]) -> PromptStreams:
        """What a user said, without the marks around the turn.

        Raises:
            ValueError: a code or text id out of range, or an unknown kind of segment.
        """
        blank = self.blank_token_id
        text: list[int] = []
        audio: list[int] = []
        mask: list[bool] = []
        for kind, ids in segments:
            if kind == "text":
                piece = self.text_stream(ids)
                text += piece
                audio += [blank] * len(piece)
                mask += [False] * len(piece)
            elif kind == "audio":
                codes = self.audio_stream(ids)
                text += [blank] * (len(codes) + 2)
                audio += [self.media_begin_token_id, *codes, self.media_end_token_id]
                mask += [False, *[True] * len(codes), False]
            else:
                raise ValueError(f"a segment must be ('text', ids) or ('audio', codes), got the kind {kind!r}")
        return PromptStreams(torch.tensor(text).long(), torch.tensor(audio).long(), torch.tensor(mask).bool())

    def user_turn(self, segments: Sequence[Segment], mode: AnswerMode) -> PromptStreams:
        """A user's turn, from user_start to the assistant_start that hands over.

        Args:
            segments: its pieces in the order of the message.
            mode: how the answer is wanted.

        Raises:
            ValueError: as `pieces`; or an empty turn, or an unknown mode.
        """
        mode_id = self.mode_token_id(mode)
        segments = self.in_trained_order(segments)
        said = self.pieces(segments)
        if not len(said):
            raise ValueError("the user's turn is empty: expected at least one piece of text or audio")
        closing = [mode_id] if self.names_mode(segments) else []
        closing += [self.msg_end_token_id, self.assistant_start_token_id]
        return join([self.marks(self.user_start_token_id), said, self.marks(*closing)])

    def in_trained_order(self, segments: Sequence[Segment]) -> Sequence[Segment]:
        """The pieces of a turn as the model was trained on them: texts first, where there is one recording."""
        if not self.text_first or sum(kind == "audio" for kind, _ in segments) != 1:
            return segments
        return sorted(segments, key=lambda segment: segment[0] == "audio")

    def names_mode(self, segments: Sequence[Segment]) -> bool:
        """Whether the mode id closes this user's turn: here, every one."""
        return True

    def answer(self, answer: AssistantTurn) -> PromptStreams:
        """An answer as the model generates it and learns it, msg_end included.

        Raises:
            ValueError: a code or text id out of range, or a thought for a model without ``think_end_token_id``.
        """
        think = answer.think_ids
        if think is None and answer.codes is not None and self.think_end_token_id is not None:
            think = []
        text, audio = self.delay_pattern.align(
            self.text_stream(answer.text_ids),
            None if answer.codes is None else _listed(answer.codes),
            None if think is None else self.text_stream(think),
        )
        streams = PromptStreams(text, audio, torch.zeros(len(text), dtype=torch.bool))
        return join([streams, self.marks(self.msg_end_token_id)]) if answer.codes is None else streams

    def past_answer(self, answer: AssistantTurn) -> PromptStreams:
        """An answer of the past, as the prompt of the next one holds it: here, as it was generated."""
        return self.answer(answer)

    def text_stream(self, ids: Ids) -> list[int]:
        """Text ids, checked: they lie below the codes."""
        listed = _listed(ids)
        if listed and not 0 <= min(listed) <= max(listed) < self.audio_token_offset:
            raise ValueError(f"text ids must lie in [0, {self.audio_token_offset}), got {min(listed)} to {max(listed)}")
        return listed

    def audio_stream(self, codes: Ids) -> list[int]:
        """Ids of codes, which are checked: they lie in the codebook."""
        listed = _listed(codes)
        if listed and not 0 <= min(listed) <= max(listed) < self.num_audio_codes:
            raise ValueError(f"codes must lie in [0, {self.num_audio_codes}), got {min(listed)} to {max(listed)}")
        return [code + self.audio_token_offset for code in listed]


def _listed(ids: Ids) -> list[int]:
    return [int(i) for i in (ids.tolist() if isinstance(ids, np.ndarray | Tensor) else ids)]
