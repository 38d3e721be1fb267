"""One answer while it is generated: how its ids are chosen, and where each row of the batch stands.

    step i:  t[i] = next text id, blank once the text has ended
             a[i] = blank until the row's audio starts, then a code, until a stop id ends the row

The audio starts at step ``audio_delay``. A row thinks first where ``config.think_end_token_id`` is set and the open
turn of the assistant does not hold that id already. Its audio then starts ``audio_delay`` steps after the step that
follows the end of the thoughts, or of the text if that comes first. In mode "text" the audio stream is blank and the
end of the text ends the row. Rows of a batch end at different steps. An ended row holds blanks.

Source: Kimi-Audio, ``kimia_infer/api/kimia.py``, ``_generate_loop``. It differs where that code is wrong: any batch
size. ``max_new_tokens`` counts in both modes; and neither head can choose an id that is not of its stream.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from spikeaudio.lm.configuration import SpikeAudioConfig
from spikeaudio.lm.legal_tokens import LegalTokens, stop_token_ids
from spikeaudio.lm.sampling import draw, penalize_repetition, row_generators, sample

# Fields of the generation config that transformers does not know, with the published defaults.
STREAM_DEFAULTS: dict[str, Any] = {
    "generation_mode": "text",
    "audio_temperature": 0.0,
    "audio_top_k": 5,
    "audio_repetition_penalty": 1.0,
    "audio_repetition_window": 64,
    "text_repetition_penalty": 1.0,
    "text_repetition_window": 16,
}
_NEVER = torch.iinfo(torch.long).max


@dataclass(frozen=True)
class TextChoice:
    """A text id per row, and how the choice came about."""

    ids: Tensor  # (B,) long
    scores: Tensor  # (B, V), processed
    log_probs: Tensor  # (B,) of the ids, before any processor; 0 where a row is silent


@dataclass(frozen=True)
class TurnSettings:
    """How the ids of one answer are chosen; does not change while it is generated.

    Args:
        config: the model's, for its special ids and the delay.
        generation: transformers' settings, with the fields of ``STREAM_DEFAULTS``.
        text_illegal: (V,) bool, ids that the text stream must not hold.
        audio_illegal: (V,) bool, ids that the audio stream must not hold.
        logits_processor: acts on the text stream.
        criteria: end a row; the end of the text is judged here, not there.
    """

    config: SpikeAudioConfig
    generation: GenerationConfig
    text_illegal: Tensor
    audio_illegal: Tensor
    logits_processor: LogitsProcessorList
    criteria: StoppingCriteriaList

    @classmethod
    def of(
        cls,
        config: SpikeAudioConfig,
        generation: GenerationConfig,
        legal: LegalTokens | None,
        logits_processor: LogitsProcessorList,
        criteria: StoppingCriteriaList,
        device: torch.device,
    ) -> "TurnSettings":
        """Settings from what transformers' `generate` prepares; `legal` None: the config's legal ids."""
        legal = legal or LegalTokens.of(config)
        # The end of the text is ours to judge (it does not end a spoken answer); the user's criteria end a row.
        kept = StoppingCriteriaList(c for c in criteria if not hasattr(c, "eos_token_id"))
        return cls(config, generation, ~legal.text.to(device), ~legal.audio.to(device), logits_processor, kept)

    @property
    def speaks(self) -> bool:
        """Whether the answer is spoken as well."""
        return bool(self.generation.generation_mode == "audio")


@dataclass
class Turn:
    """Where each row of one answer stands; owned by a session, updated by its steps.

    Args:
        settings: how ids are chosen.
        start: positions before the answer.
        thinking: (B,) bool, rows that have not ended their thoughts.
        audio_start: (B,) long, step at which a row's audio starts.
        writing: (B,) bool, rows whose text goes on.
        unfinished: (B,) bool, rows that go on.
        generators: generators of the text and of the audio stream, one per row each.
        step: steps so far.
    """

    settings: TurnSettings
    start: int
    thinking: Tensor
    audio_start: Tensor
    writing: Tensor
    unfinished: Tensor
    generators: tuple[Sequence[Generator], Sequence[Generator]]
    step: int = 0

    @classmethod
    def begin(
        cls,
        settings: TurnSettings,
        input_ids: Tensor,
        audio_input_ids: Tensor,
        generator: Generator | Sequence[Generator] | None,
    ) -> "Turn":
        """An answer to a prompt, (B, T) ids of both streams, of which no step was taken."""
        rows, length = input_ids.shape
        going = torch.ones(rows, dtype=torch.bool, device=input_ids.device)
        thinking = thinks(settings.config, input_ids, audio_input_ids) & settings.speaks
        start = torch.where(thinking, _NEVER, settings.config.audio_delay)
        return cls(settings, length, thinking, start, going, going.clone(), row_generators(generator, rows))

    def clone(self) -> "Turn":
        """An independent copy; its random numbers go on as these would."""
        text, audio = ([g.clone_state() for g in row] for row in self.generators)
        # Tensors are replaced by the steps, never written to.
        return replace(self, generators=(text, audio))

    @property
    def finished(self) -> bool:
        """Whether every row has ended."""
        return not bool(self.unfinished.any())

    def choose_text(self, logits: Tensor, input_ids: Tensor) -> TextChoice:
        """Next text ids.

        Args:
            logits: (B, V) fp32, raw.
            input_ids: (B, T), the text stream so far.
        """
        settings, generation = self.settings, self.settings.generation
        legal = logits.masked_fill(settings.text_illegal, -torch.inf)
        scores = penalize_repetition(
            legal,
            input_ids[:, self.start :],
            generation.text_repetition_penalty,
            generation.text_repetition_window,
        )
        scores = settings.logits_processor(input_ids, scores)
        ids = draw(scores, self.generators[0]) if generation.do_sample else scores.argmax(dim=-1)
        likely = legal.log_softmax(dim=-1).gather(1, ids[:, None]).squeeze(1)
        says = self.writing & self.unfinished
        return TextChoice(
            torch.where(says, ids, settings.config.blank_token_id), scores, torch.where(says, likely, 0.0)
        )

    def choose_audio(self, logits: Tensor, audio_input_ids: Tensor) -> Tensor:
        """Next audio ids, (B,); arguments as of `choose_text`, of the audio stream."""
        settings, generation = self.settings, self.settings.generation
        blank = settings.config.blank_token_id
        if not settings.speaks:
            return torch.full_like(audio_input_ids[:, 0], blank)
        ids = sample(
            logits.masked_fill(settings.audio_illegal, -torch.inf),
            audio_input_ids[:, self.start :],
            self.generators[1],
            temperature=generation.audio_temperature,
            top_k=generation.audio_top_k,
            repetition_penalty=generation.audio_repetition_penalty,
            window=generation.audio_repetition_window,
        )
        return torch.where((self.audio_start <= self.step) & self.unfinished, ids, blank)

    def advance(self, text: Tensor, audio: Tensor) -> None:
        """Take in the ids (B,) that a step chose: where thoughts, texts and spoken answers end."""
        settings, config = self.settings, self.settings.config
        ended = text == config.text_eos_token_id
        self.writing = self.writing & ~ended
        if settings.speaks and config.think_end_token_id is not None:
            concluded = self.thinking & (ended | (text == config.think_end_token_id))
            self.audio_start = self.audio_start.masked_fill(concluded, self.step + 1 + config.audio_delay)
            self.thinking = self.thinking & ~concluded
        stops = torch.tensor(stop_token_ids(config), device=audio.device)
        self.unfinished = self.unfinished & ~(torch.isin(audio, stops) if settings.speaks else ended)
        self.step += 1

    def judge(self, input_ids: Tensor, scores: tuple[Tensor, ...]) -> None:
        """End the rows that the user's criteria end, given the text stream (B, T) with the step's ids."""
        self.unfinished = self.unfinished & ~self.settings.criteria(input_ids, scores)


def thinks(config: SpikeAudioConfig, input_ids: Tensor, audio_input_ids: Tensor) -> Tensor:
    """(B,) bool: rows whose open assistant turn does not hold ``think_end_token_id`` yet."""
    rows, length = input_ids.shape
    if config.think_end_token_id is None:
        return torch.zeros(rows, dtype=torch.bool, device=input_ids.device)
    positions = torch.arange(length, device=input_ids.device)
    starts = audio_input_ids == config.assistant_start_token_id
    turn = torch.where(starts, positions, 0).amax(dim=1, keepdim=True) if length else positions.new_zeros(rows, 1)
    return ~((input_ids == config.think_end_token_id) & (positions >= turn)).any(dim=1)
