"""Reading a text aloud: sentence by sentence, with the words of the text stream given and the codes sampled."""

from typing import Any

from torch import Tensor
from transformers import BatchFeature

from spikeaudio.prompt.conversation import spoken_text_ids
from spikeaudio.prompt.normalization import split_sentences
from spikeaudio.prompt.processor import SpikeAudioProcessor

_CODES_PER_TEXT_ID = 12  # about one second; speech takes a quarter of it


def sentences_of(text: str, processor: SpikeAudioProcessor) -> list[str]:
    """A text in pieces that are read one by one; a model that takes texts as they are gets it whole."""
    return split_sentences(text) if processor.spell_out else [text]


def read_aloud(
    sentence: str, processor: SpikeAudioProcessor, generation: dict[str, Any]
) -> tuple[BatchFeature, dict[str, Any]]:
    """Prompt and keywords of `generate` that have one sentence read aloud.

    Args:
        sentence: what to read.
        processor: of the checkpoint.
        generation: keywords that win over these.

    Raises:
        ValueError: there is nothing in it that can be said.
    """
    ids = processor.text_ids(sentence)
    prompt = processor.read_aloud([ids])
    forced = spoken_text_ids(ids, processor.layout)
    limit = len(forced) * _CODES_PER_TEXT_ID + processor.layout.audio_delay
    words = ForcedText([forced], prompt["input_ids"].shape[1])
    return prompt, {"prefix_allowed_tokens_fn": words, "max_new_tokens": limit, **generation}


class ForcedText:
    """A ``prefix_allowed_tokens_fn`` that lets each row write its given ids and nothing else.

    Args:
        rows: per row the ids, the last one text_eos.
        prompt_length: positions of the prompt.
    """

    def __init__(self, rows: list[list[int]], prompt_length: int) -> None:
        self.rows = rows
        self.prompt_length = prompt_length

    def __call__(self, row: int, ids: Tensor) -> list[int]:
        """The one id that may come next in `row`, whose text stream is `ids` so far."""
        forced = self.rows[row]
        return [forced[min(len(ids) - self.prompt_length, len(forced) - 1)]]
