"""The prompts that Kimi-Audio's published weights were trained on.

It differs from :class:`~spikeaudio.prompt.layout.PromptLayout` in four places (B the blank, A audio, X text stream):

- the mode id follows the recording that ends a user's turn; a turn of text alone has none, whatever is asked for;
- text behind a recording would leave the turn without that id, an order that the weights do not know: refused;
- a past answer that was spoken holds neither text_eos nor media_end:

      A: B * delay          codes  msg_end
      X: text ids, then B          B

- an answer that is learned ends its speech with media_end, then msg_end, and learns the first of the two.

Source: Kimi-Audio, ``kimia_infer/api/prompt_manager.py`` (later state, with ``audio-text`` messages) and
``finetune_codes/datasets.py``; the learned answer is that of the fixture ``training.s2s``. That code also takes an
assistant's recording for something heard, with features and a mode id, and teaches speech in that form. A prompt of
ours cannot hold that: whoever wants it puts it together from ``marks`` and ``pieces``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from spikeaudio.lm.streams import DelayPattern
from spikeaudio.prompt.layout import AnswerMode, AssistantTurn, PromptLayout, PromptStreams, Segment, join


@dataclass(frozen=True)
class KimiPromptLayout(PromptLayout):
    """Where ids go in the two streams of Kimi-Audio."""

    prompt_format: ClassVar[str] = "kimi"
    text_first: ClassVar[bool] = False  # published prompts keep their order, and the untrained one is refused

    @property
    def delay_pattern(self) -> DelayPattern:
        """How answers lie in the two streams: speech ends with media_end and msg_end."""
        return replace(super().delay_pattern, stop_token_ids=(self.media_end_token_id, self.msg_end_token_id))

    def user_turn(self, segments: Sequence[Segment], mode: AnswerMode) -> PromptStreams:
        """A user's turn, from user_start to the assistant_start that hands over.

        Args:
            segments: its pieces in reading order; the last one is a recording if there is any.
            mode: how the answer is wanted.

        Raises:
            ValueError: as `PromptLayout.user_turn`; or a text behind the last recording.
        """
        if any(kind == "audio" for kind, _ in segments) and segments[-1][0] != "audio":
            raise ValueError(
                "text comes after the last recording of a user's turn: this model was trained on text first, "
                "recording last, so put the text before it"
            )
        return super().user_turn(segments, mode)

    def names_mode(self, segments: Sequence[Segment]) -> bool:
        """Whether the mode id closes this user's turn: only a recording is followed by it."""
        return segments[-1][0] == "audio"

    def past_answer(self, answer: AssistantTurn) -> PromptStreams:
        """An answer of the past, as the prompt of the next one holds it.

        Raises:
            ValueError: as `answer`; or a text longer than the speech that says it, delay included.
        """
        if answer.codes is None or answer.think_ids is not None:  # thoughts are refused there
            return self.answer(answer)
        text, codes = self.text_stream(answer.text_ids), self.audio_stream(answer.codes)
        length = self.audio_delay + len(codes)
        if len(text) > length:
            raise ValueError(
                f"a past answer has {len(text)} text ids for {len(codes)} codes, but this model speaks "
                f"at least one code per text id after a delay of {self.audio_delay}: expected at most {length} text ids"
            )
        blank = self.blank_token_id
        said = PromptStreams(
            torch.tensor(text + [blank] * (length - len(text))),
            torch.tensor([blank] * self.audio_delay + codes),
            torch.zeros(length, dtype=torch.bool),
        )
        return join([said, self.marks(self.msg_end_token_id)])
