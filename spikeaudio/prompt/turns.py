"""Messages become turns: texts as ids, recordings as codes and inputs of the model's feature encoder."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from spikeaudio.prompt.batch import BatchRow, HeardRecording
from spikeaudio.prompt.conversation import LabelledStreams, build_example, build_prompt
from spikeaudio.prompt.layout import AnswerMode, AssistantTurn, PromptLayout, PromptStreams, Segment, Turn
from spikeaudio.prompt.messages import Block, Message, Messages, read_turns, recording_of


@dataclass(frozen=True)
class ReadConversation:
    """A conversation without choices left.

    Attributes:
        past: turns before the user's last one, in order.
        asked: pieces of the user's last turn, in the order of the message.
        heard: all recordings that the user let hear, in order.
        answer: the assistant's turn behind it, if the conversation ends with one.
    """

    past: list[Turn]
    asked: list[Segment]
    heard: list[HeardRecording]
    answer: AssistantTurn | None

    @property
    def inputs(self) -> list[dict[str, Tensor]]:
        """What the feature encoder reads, for each recording."""
        return [each.inputs for each in self.heard]


@dataclass(frozen=True)
class TurnReader:
    """Reads conversations for one model: messages become the rows of a batch.

    Attributes:
        layout: where ids go in the two streams.
        text_ids: ids of a text; ValueError where it is empty.
        hear: reads a recording; the second argument is the Hz of samples, None for the model's own; the third tells
            whether it is speech, rather than a sound that a text beside it is about.
        transcription_request: the text beside a recording whose words are wanted.
    """

    layout: PromptLayout
    text_ids: Callable[[str], list[int]]
    hear: Callable[[Any, int | None, bool], HeardRecording]
    transcription_request: str

    def prompt(
        self, messages: Messages, mode: AnswerMode, sampling_rate: int | None = None, to_generate: bool = True
    ) -> BatchRow:
        """A conversation without labels.

        Args:
            messages: the conversation.
            mode: how the next answer is wanted; not looked at where the conversation ends with one.
            sampling_rate: Hz of recordings given as samples; None: the model's own.
            to_generate: end with the start of the assistant's turn.

        Raises:
            ValueError: as `read`; or the last message is the assistant's, and an answer is to be generated.
        """
        read = self.read(messages, sampling_rate)
        if read.answer is None:
            streams = build_prompt(read.asked, self.layout, mode, read.past)
            return BatchRow.of(streams if to_generate else streams.without_last(), read.inputs)
        if to_generate:
            raise ValueError(
                "the last message of a conversation must be the user's, where an answer is to be generated; "
                "a conversation that ends with the assistant's takes add_generation_prompt=False"
            )
        example = self._labelled(read, read.answer)
        return BatchRow.of(
            PromptStreams(example.input_ids, example.audio_input_ids, example.audio_feature_mask), read.inputs
        )

    def example(self, messages: Messages, sampling_rate: int | None = None) -> BatchRow:
        """A conversation with labels on its last message.

        Args:
            messages: the conversation; the text of its last message may be empty, as for a recording without words.
            sampling_rate: Hz of recordings given as samples; None: the model's own.

        Raises:
            ValueError: as `read`; or the last message is not the assistant's.
        """
        read = self.read(messages, sampling_rate)
        if read.answer is None:
            raise ValueError("the last message of an example must be the assistant's")
        return BatchRow.of(self._labelled(read, read.answer), read.inputs)

    def _labelled(self, read: ReadConversation, said: AssistantTurn) -> LabelledStreams:
        return build_example(read.asked, said.text_ids, said.codes, said.think_ids, self.layout, read.past)

    def read(self, messages: Messages, sampling_rate: int | None = None) -> ReadConversation:
        """Turns and recordings of a conversation.

        Args:
            messages: the user's first; the last one may be the assistant's, and may then hold an empty text.
            sampling_rate: Hz of recordings given as samples; None: the model's own.

        Raises:
            ValueError: as `read_turns`, a bad text or recording, or an answer without text.
        """
        turns = read_turns(messages)
        answer = None
        if turns[-1].role == "assistant":
            answer = self._answer(turns.pop(), sampling_rate, may_be_empty=True)
        heard: list[HeardRecording] = []
        past: list[Turn] = []
        for turn in turns:
            if turn.role == "user":
                past.append(self._segments(turn.blocks, sampling_rate, heard))
            else:
                past.append(self._answer(turn, sampling_rate))
        asked = past.pop()
        assert not isinstance(asked, AssistantTurn)  # `read_turns` joins messages of one role
        return ReadConversation(past, list(asked), heard, answer)

    def _segments(self, blocks: list[Block], sampling_rate: int | None, heard: list[HeardRecording]) -> list[Segment]:
        """Pieces of a user's turn; its recordings are appended to `heard`."""
        segments: list[Segment] = []
        speech = all(block["type"] == "audio" or block.get("text") == self.transcription_request for block in blocks)
        for block in blocks:
            if block["type"] == "text":
                segments.append(("text", self._ids(block)))
            else:
                heard.append(self.hear(recording_of(block), block.get("sampling_rate", sampling_rate), speech))
                segments.append(("audio", heard[-1].codes))
        return segments

    def _answer(self, turn: Message, sampling_rate: int | None, may_be_empty: bool = False) -> AssistantTurn:
        """What the assistant said.

        Raises:
            ValueError: no text block or several audio blocks, or a bad text or recording.
        """
        texts, spoken = ([b for b in turn.blocks if b["type"] == kind] for kind in ("text", "audio"))
        if not texts or len(spoken) > 1:
            raise ValueError(
                "an assistant's message holds text and at most one audio block, "
                f"got {len(texts)} text and {len(spoken)} audio blocks"
            )
        codes = None
        if spoken:
            codes = spoken[0].get("codes")
            if codes is None:
                codes = self.hear(recording_of(spoken[0]), spoken[0].get("sampling_rate", sampling_rate), True).codes
        said = self._ids(texts[0]) if texts[0].get("ids") is not None else self._words(texts, may_be_empty)
        thought = turn.thought
        return AssistantTurn(
            said, codes, None if thought is None else self.text_ids(thought) if thought.strip() else []
        )

    def _words(self, texts: list[Block], may_be_empty: bool) -> list[int]:
        joined = " ".join(block["text"] for block in texts)
        return [] if may_be_empty and not joined.strip() else self.text_ids(joined)

    def _ids(self, block: Block) -> list[int]:
        return list(block["ids"]) if block.get("ids") is not None else self.text_ids(block["text"])
