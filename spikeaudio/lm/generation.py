"""`generate` of the two-stream model, as in transformers: one call from the prompt to the end of every row.

The steps are those of :class:`~spikeaudio.lm.session.Session`, the choice of ids is :mod:`spikeaudio.lm.turn`'s. Built
as in transformers' Higgs Audio: the text stream is ``input_ids``, so logits processors, stopping criteria,
``prefix_allowed_tokens_fn``, ``do_sample``, ``temperature`` ... act on it as everywhere (they also see rows whose text
has ended, with blanks); the audio stream travels in ``model_kwargs``. Nothing is stored on the model.
"""

# transformers types GenerationMixin's methods for a host class that it declares to another checker only.
# mypy: disable-error-code="arg-type, attr-defined, misc, operator, override, return-value"

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin, LogitsProcessorList, StoppingCriteriaList
from transformers.cache_utils import Cache
from transformers.generation.configuration_utils import GenerationMode
from transformers.utils.generic import ModelOutput

from spikeaudio.lm.configuration import SpikeAudioConfig
from spikeaudio.lm.session import Session, Step
from spikeaudio.lm.turn import STREAM_DEFAULTS

# Arguments of the loop itself, which never reach the model.
LOOP_ARGUMENTS = ("generator", "legal_tokens")


@dataclass
class SpikeAudioGenerateOutput(ModelOutput):
    """What :meth:`SpikeAudioGenerationMixin.generate` returns with ``return_dict_in_generate=True``.

    Args:
        sequences: (B, T), text stream, prompt included; blank where a row had ended.
        audio_sequences: (B, T), audio stream, prompt included, ids of the shared id space.
        audio_codes: per row (S,) long, generated codes without offset and stop id.
        audio: None here; the waves (N,), filled in by whoever owns a detokenizer.
        text_log_probs: (B, n) fp32, log probability of each new text id before any processor; 0 where a row is silent.
        logits, audio_logits: per step (B, V) raw fp32, with ``output_logits=True``.
        scores: per step (B, V) processed scores of the text stream, with ``output_scores=True``.
        attentions, hidden_states: per step, if asked for. past_key_values: the cache after the last step.
    """

    sequences: Tensor | None = None
    audio_sequences: Tensor | None = None
    audio_codes: list[Tensor] | None = None
    audio: list[Tensor] | None = None
    text_log_probs: Tensor | None = None
    logits: tuple[Tensor, ...] | None = None
    audio_logits: tuple[Tensor, ...] | None = None
    scores: tuple[Tensor, ...] | None = None
    attentions: tuple[Any, ...] | None = None
    hidden_states: tuple[Any, ...] | None = None
    past_key_values: Cache | None = None


class SpikeAudioGenerationMixin(GenerationMixin):
    """`generate` of the two-stream model."""

    config: SpikeAudioConfig
    output_modalities = ("audio", "text")  # type: ignore[assignment]
    _supported_generation_modes: ClassVar = [GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE]

    def generate(
        self, inputs: Tensor | None = None, *args: Any, generation_mode: str | None = None, **kwargs: Any
    ) -> SpikeAudioGenerateOutput | Tensor:
        """Continue both streams. Takes transformers' arguments, which act on the text stream, and these keywords:

        - generation_mode: "text": answer in text; "audio": in text and speech.
        - audio_input_ids, audio_feature_mask, and audio_features or the inputs of the model's own encoder: the rest
          of the prompt, as in the model's forward.
        - audio_temperature (0: greedy), audio_top_k, audio_repetition_penalty, audio_repetition_window: the audio
          stream's sampling; it does not look at ``do_sample``.
        - text_repetition_penalty, text_repetition_window: the published windowed penalty, on the text stream.
        - generator: a ``torch.Generator``, or one per row; see :func:`~spikeaudio.lm.sampling.row_generators`.
        - legal_tokens: a `LegalTokens` in place of the config's.
        - streamer: gets the text prompt by ``put``, then each step's ids: both streams through
          ``put_streams(text_ids, audio_ids)``, (B,) each, if it has that method, else the text by ``put``, without
          steps in which no row says anything.

        The sampling settings may also stand in the generation config.

        Returns:
            :class:`SpikeAudioGenerateOutput`, or only its ``sequences`` without ``return_dict_in_generate``.

        Raises:
            ValueError: an unknown mode, prompt streams that do not fit together, or a prompt that leaves no position of
                the model for an answer.
        """
        self.encode_inputs(kwargs)
        return super().generate(inputs, *args, generation_mode=generation_mode, **kwargs)

    @torch.no_grad()
    def encode_inputs(self, inputs: dict[str, Any]) -> None:
        """Put features in place of the inputs of the encoder inside the model: recordings are encoded once.

        Raises:
            ValueError: features are there already, or the model has no encoder.
        """
        features = self.model.take_features(inputs)
        if features is not None:
            inputs["audio_features"] = features

    def _prepare_generation_config(
        self, generation_config: GenerationConfig | None, **kwargs: Any
    ) -> tuple[GenerationConfig, dict[str, Any]]:
        given = {name: kwargs.pop(name) for name in STREAM_DEFAULTS if name in kwargs}
        generation_config, model_kwargs = super()._prepare_generation_config(generation_config, **kwargs)
        for name, default in STREAM_DEFAULTS.items():
            value = given.get(name)
            value = getattr(generation_config, name, None) if value is None else value
            setattr(generation_config, name, default if value is None else value)
        mode = getattr(generation_config, "generation_mode", None)
        if mode not in ("text", "audio"):
            raise ValueError(f'generation_mode must be "text" or "audio", got {mode!r}')
        return generation_config, model_kwargs

    def _validate_model_kwargs(self, model_kwargs: dict[str, Any]) -> None:
        super()._validate_model_kwargs({k: v for k, v in model_kwargs.items() if k not in LOOP_ARGUMENTS})

    def _prepare_attention_mask_for_generation(self, inputs_tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Without a mask nothing is padding: transformers' guess would take a text stream's blanks for it."""
        return inputs_tensor.new_ones(inputs_tensor.shape[:2], dtype=torch.long)

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        next_sequence_length: int | None = None,
        is_first_iteration: bool | None = False,
        audio_input_ids: Tensor | None = None,
        audio_features: Tensor | None = None,
        audio_feature_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        model_inputs = super().prepare_inputs_for_generation(
            input_ids, next_sequence_length=next_sequence_length, is_first_iteration=is_first_iteration, **kwargs
        )
        if model_inputs.get("input_ids") is None:  # a prompt of inputs_embeds holds everything already
            return model_inputs
        device, length = model_inputs["input_ids"].device, model_inputs["input_ids"].shape[1]
        if audio_input_ids is not None:
            model_inputs["audio_input_ids"] = audio_input_ids[:, audio_input_ids.shape[1] - length :].to(device)
        if audio_features is not None and (is_first_iteration or not kwargs.get("use_cache", True)):
            if audio_feature_mask is not None and length < audio_feature_mask.shape[1]:
                audio_features, audio_feature_mask = _last_features(audio_features, audio_feature_mask, length)
            model_inputs["audio_features"] = audio_features.to(device)
            model_inputs["audio_feature_mask"] = (
                audio_feature_mask.to(device) if audio_feature_mask is not None else None
            )
        return model_inputs

    def _sample(
        self,
        input_ids: Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        synced_gpus: bool = False,
        streamer: Any = None,
        **model_kwargs: Any,
    ) -> SpikeAudioGenerateOutput | Tensor:
        session = Session(self)
        session.begin(input_ids, logits_processor, stopping_criteria, generation_config, **model_kwargs)
        while self._has_unfinished_sequences(session.finished, synced_gpus, device=input_ids.device):
            if session.finished:
                session.idle()
                continue
            step = session.step()
            if streamer is not None:
                self._show(streamer, step)
        if streamer is not None:
            streamer.end()
        if not generation_config.return_dict_in_generate:
            return session.input_ids
        return SpikeAudioGenerateOutput(
            sequences=session.input_ids,
            audio_sequences=session.audio_input_ids,
            audio_codes=session.codes,
            text_log_probs=torch.stack(session.text_log_probs, dim=1),
            past_key_values=session.cache,
            **{name: tuple(values) for name, values in session.records.items()},
        )

    def _show(self, streamer: Any, step: Step) -> None:
        """Put one step; a streamer of text alone gets no blanks and no end of the text, which it would print."""
        if hasattr(streamer, "put_streams"):
            streamer.put_streams(step.text.cpu(), step.audio.cpu())
            return
        silent = torch.tensor([self.config.blank_token_id, self.config.text_eos_token_id])
        text = step.text.cpu()
        if not torch.isin(text, silent).all():
            streamer.put(text)


def _last_features(features: Tensor, mask: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Features and mask of the last `length` positions: the earlier ones are in the cache already."""
    skipped = mask[:, :-length].sum(dim=1).tolist()
    counts = mask.sum(dim=1).tolist()
    rest = [features[b, first:last] for b, (first, last) in enumerate(zip(skipped, counts, strict=True))]
    return torch.nn.utils.rnn.pad_sequence(rest, batch_first=True), mask[:, -length:]
