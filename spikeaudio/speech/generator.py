"""Generator: the language model as the verbs of `SpikeAudio` use it, prompt in, ids out."""

from collections.abc import Callable
from typing import Any

import torch
from transformers import BatchFeature

from spikeaudio.lm.generation import SpikeAudioGenerateOutput
from spikeaudio.lm.modeling import SpikeAudioForConditionalGeneration
from spikeaudio.lm.session import Session
from spikeaudio.prompt.processor import SpikeAudioProcessor
from spikeaudio.spiking.layers.cache import cache_for


class Generator:
    """A language model and its processor.

    Args:
        model: the language model.
        processor: texts and recordings to prompts.
        generate: The function that continues a prompt; None: the model's own.
    """

    def __init__(
        self,
        model: SpikeAudioForConditionalGeneration,
        processor: SpikeAudioProcessor,
        generate: Callable[..., Any] | None = None,
    ) -> None:
        self.model = model
        self.processor = processor
        self.generate = generate or model.generate

    def room(self, prompt: BatchFeature, past: int = 0) -> int:
        """Positions left for the answer to a prompt that follows `past` positions.

        Raises:
            ValueError: none are left.
        """
        length, limit = past + prompt["input_ids"].shape[1], self.model.config.max_position_embeddings
        if length >= limit:
            raise ValueError(
                f"the prompt takes {length} positions of 80 ms, but this model has {limit}: "
                "give a shorter recording or text, or fewer messages"
            )
        return limit - length

    @torch.inference_mode()
    def __call__(
        self, prompt: BatchFeature, mode: str, seed: int = 0, **generation: Any
    ) -> tuple[SpikeAudioGenerateOutput, int]:
        """The language model's output on a prompt, and the prompt's length.

        Args:
            prompt: prompt of the processor.
            mode: "text" or "audio".
            seed: seed of every random number.
            generation: keywords for the language model's `generate`, which win over ours.
        """
        room = self.room(prompt)
        if "max_length" not in generation:
            wanted = generation.get("max_new_tokens") or self.model.generation_config.max_new_tokens or room
            generation["max_new_tokens"] = min(wanted, room)
        generation.setdefault("generator", torch.Generator().manual_seed(seed))
        if (cache := cache_for(self.model)) is not None:
            generation.setdefault("past_key_values", cache)
        output = self.generate(
            **prompt.to(self.model.device, dtype=self.model.dtype),
            generation_mode=mode,
            return_dict_in_generate=True,
            **generation,
        )
        assert isinstance(output, SpikeAudioGenerateOutput)
        return output, prompt["input_ids"].shape[1]

    def session(
        self, prompt: BatchFeature, mode: str, seed: int = 0, session: Session | None = None, **generation: Any
    ) -> Session:
        """A session in which a prompt was fed and the first step is next.

        Args:
            prompt: prompt of the processor, one row; or what follows in `session`.
            mode: "text" or "audio".
            seed: Seed of every random number.
            session: a session to go on with; None: a new one.
            generation: keywords for the language model's `generate`, which win over ours.

        Raises:
            ValueError: there is no room for an answer, or a keyword is unknown.
        """
        if session is None:
            session = Session(self.model, cache_for(self.model))
        room = self.room(prompt, len(session))
        if "max_length" not in generation:
            wanted = generation.get("max_new_tokens") or self.model.generation_config.max_new_tokens or room
            generation["max_new_tokens"] = min(wanted, room)
        generation.setdefault("generator", torch.Generator().manual_seed(seed))
        session.feed(**prompt.to(self.model.device, dtype=self.model.dtype), generation_mode=mode, **generation)
        return session
