"""Messages become turns: texts as ids, recordings as tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spikeaudio.prompt.layout import Answer, Segment, Turn
from spikeaudio.prompt.messages import Audio, Block, Messages, read_turns, recording_of
from spikeaudio.tokenizer.speech_tokenizer import SpeechTokens


@dataclass(frozen=True)
class TurnReader:
    """Reads conversations for one model.

    Attributes:
        text_ids: ids of a text; ValueError where it is empty.
        marked_text_ids: as `text_ids`, for what the user writes: with the marks between sentences.
        tokens: tokens of a recording; the second argument is the Hz of samples, None for the model's own.
    """

    text_ids: Callable[[str], list[int]]
    marked_text_ids: Callable[[str], list[int]]
    tokens: Callable[[Audio, int | None], SpeechTokens]

    def turns(
        self, messages: Messages, sampling_rate: int | None = None
    ) -> tuple[list[Turn], list[Segment], list[SpeechTokens]]:
        """Past turns, the user's turn, and the tokens of all that the user let hear, in order.

        Raises:
            ValueError: as `read_turns`, a bad text or recording, or an answer of the past without text.
        """
        heard: list[SpeechTokens] = []
        past: list[Turn] = []
        segments: list[Segment] = []
        for role, blocks in read_turns(messages):
            if role == "assistant":
                past += [segments] if segments else []
                past.append(self.answer(blocks, sampling_rate))
                continue
            segments = []
            for block in blocks:
                if block["type"] == "text":
                    segments.append(("text", self.marked_text_ids(block["text"])))
                else:
                    heard.append(self.tokens(recording_of(block), block.get("sampling_rate", sampling_rate)))
                    segments.append(("audio", heard[-1].codes))
        return past, segments, heard

    def answer(self, blocks: Sequence[Block], sampling_rate: int | None = None) -> Answer:
        """What the assistant said.

        Raises:
            ValueError: no text block or several audio blocks, or a bad text or recording.
        """
        texts, spoken = ([b for b in blocks if b["type"] == kind] for kind in ("text", "audio"))
        if not texts or len(spoken) > 1:
            raise ValueError(
                "an assistant's message holds text and at most one audio block, "
                f"got {len(texts)} text and {len(spoken)} audio blocks"
            )
        codes = None
        if spoken:
            codes = spoken[0].get("codes")
            if codes is None:
                codes = self.tokens(recording_of(spoken[0]), spoken[0].get("sampling_rate", sampling_rate)).codes
        return Answer(self.text_ids(" ".join(block["text"] for block in texts)), codes)
