"""What the verbs of `SpikeAudio` give back."""

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TranscriptSegment:
    """One utterance of a recording.

    Attributes:
        start: second of the recording at which the utterance begins.
        end: second at which it ends.
        text: the words.
        score: mean log probability of a token of the text, in (-inf, 0]; 0 is certainty.
        no_speech: probability in [0, 1] that nothing is said there, as the model judges it.
    """

    start: float
    end: float
    text: str
    score: float
    no_speech: float


@dataclass(frozen=True)
class Transcript:
    """What is said in a recording, and when.

    >>> first = TranscriptSegment(0.5, 1.5, "how are you", score=-0.1, no_speech=0.0)
    >>> Transcript("how are you", (first,), duration=2.0, score_threshold=-0.5).uncertain
    False

    Attributes:
        text: the words of all segments.
        segments: utterances with words, in their order in time; none in a recording without speech.
        duration: seconds of the recording.
        score_threshold: score below which the checkpoint's transcripts are mostly wrong; None if nobody measured it.
    """

    text: str
    segments: tuple[TranscriptSegment, ...]
    duration: float
    score_threshold: float | None = None

    @property
    def score(self) -> float:
        """Mean of the segments' scores, each weighted by its number of words; 0 without segments."""
        words = [len(segment.text.split()) for segment in self.segments]
        total = sum(segment.score * count for segment, count in zip(self.segments, words, strict=True))
        return total / max(1, sum(words))

    @property
    def no_speech(self) -> bool:
        """Whether no words were found."""
        return not self.segments

    @property
    def uncertain(self) -> bool:
        """Whether the score is so low that the text is likely to be wrong."""
        return self.score < (-math.inf if self.score_threshold is None else self.score_threshold)


@dataclass(frozen=True)
class Speech:
    """A text that was read aloud."""

    wav: Tensor  # (N,) float32
    sampling_rate: int  # Hz
    codes: Tensor  # (S,) long, 12.5 per second
    text: str  # as it was read
    score: float | None = None  # 1 where the model itself hears this text in it, 0 where nothing of it; None: not asked


@dataclass(frozen=True)
class Reply:
    """An answer in a conversation.

    Where the checkpoint declares a least score and this answer is below it, `understood` is False, and `text` and
    `wav` say that the model does not know (:class:`~spikeaudio.prompt.limits.Limits`).
    """

    text: str
    question: str | None  # what the model understood, if it says so
    wav: Tensor | None  # (N,) float32; None for a written answer
    sampling_rate: int | None  # Hz of `wav`
    codes: Tensor | None  # (S,) long
    score: float | None = None  # mean log probability of all that the model wrote, `question` included; 0 is certain
    question_score: float | None = None  # of `question` alone
    understood: bool = True
