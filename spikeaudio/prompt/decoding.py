"""The processor's way back: generated ids to texts, and what transformers' pipelines return."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeaudio.prompt.conversation import DecodedAnswer, without_thoughts
from spikeaudio.prompt.keywords import answer_mode
from spikeaudio.prompt.layout import PromptLayout


class AnswerDecoding:
    """Methods of `SpikeAudioProcessor` that read what a model generated.

    Attributes:
        tokenizer: the text tokenizer.
        layout: special ids and sizes of the model.
    """

    tokenizer: Any
    layout: PromptLayout

    def decode_answer(self, ids: Tensor | Sequence[int]) -> DecodedAnswer:
        """What the generated part of a text stream says, up to its end."""
        ids = torch.as_tensor(ids)
        answer = self.layout.delay_pattern.split(ids, torch.full_like(ids, self.layout.blank_token_id))
        thought = None if answer.thoughts is None else self.text_of(answer.thoughts)
        return DecodedAnswer(self.text_of(answer.text), thought)

    def text_of(self, ids: Tensor | Sequence[int]) -> str:
        """Text of one sequence of ids, without special ones."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def decode(self, token_ids: Any, skip_special_tokens: bool = True, **kwargs: Any) -> str | list[str]:  # type: ignore[override]
        """Text of ids, without special ones by default."""
        return self.tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens, **kwargs)

    def batch_decode(self, sequences: Any, skip_special_tokens: bool = True, **kwargs: Any) -> list[str]:  # type: ignore[override]
        """Texts of several sequences of ids, without special ones by default."""
        return self.tokenizer.batch_decode(sequences, skip_special_tokens=skip_special_tokens, **kwargs)

    def post_process_multimodal_output(  # type: ignore[override]
        self,
        generated_outputs: Any,
        skip_special_tokens: bool = True,
        generation_mode: str | None = None,
        **kwargs: Any,
    ) -> list[str] | list[np.ndarray]:
        """What transformers' any-to-any pipeline returns: texts without thoughts, or waves.

        Args:
            generated_outputs: output of `generate`, or its `sequences`.
            skip_special_tokens: leave special ids out of texts.
            generation_mode: "text" or None for texts, "audio" for waves.
            kwargs: for the text tokenizer.

        Raises:
            ValueError: waves are wanted, but the model that generated had no speech decoder.
        """
        if answer_mode(generation_mode or "text") == "text":
            sequences = getattr(generated_outputs, "sequences", generated_outputs)
            return self.batch_decode(
                [without_thoughts(row, self.layout) for row in sequences],
                skip_special_tokens=skip_special_tokens,
                **kwargs,
            )
        waves = getattr(generated_outputs, "audio", None)
        if waves is None:
            raise ValueError(
                "there is no audio in what was generated: it needs generation_mode='audio' "
                "and a model with detokenizer/ and vocoder/"
            )
        return [wave.float().cpu().numpy() for wave in waves]
