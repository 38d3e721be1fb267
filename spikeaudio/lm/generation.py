"""Generation of two streams: one text id and one audio id per 80 ms step, from one forward pass.

    step i:  t[i] = next text id, blank once the text has ended
             a[i] = blank until the row's audio starts, then a code, until a stop id ends the row
             feed (t[i], a[i])

The audio starts at step ``audio_delay``; in a row that thinks first (``config.think_end_token_id`` is set and the
row's prompt does not already hold that id in the assistant's open turn), ``audio_delay`` steps after the step that
follows the end of the thoughts, or of the text if that comes first. In mode "text" the audio stream is blank and the
end of the text ends the row. Rows of a batch end at different steps; an ended row holds blanks.

Source: Kimi-Audio, ``kimia_infer/api/kimia.py``, ``_generate_loop``. It differs where that code is wrong: any batch
size; ``max_new_tokens`` counts in both modes; the returned codes hold no stop id; and neither head can choose an id
that is not of its stream (:class:`LegalTokens`).

Built as in transformers' Higgs Audio: the text stream is ``input_ids``, so logits processors, stopping criteria,
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
from spikeaudio.lm.sampling import draw, penalize_repetition, row_generators, sample
from spikeaudio.lm.streams import codes_of

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
        logits, audio_logits: per step (B, V) raw fp32, with ``output_logits=True``.
        scores: per step (B, V) processed scores of the text stream, with ``output_scores=True``.
        attentions, hidden_states: per step, if asked for. past_key_values: the cache after the last step.
    """

    sequences: Tensor | None = None
    audio_sequences: Tensor | None = None
    audio_codes: list[Tensor] | None = None
    audio: list[Tensor] | None = None
    logits: tuple[Tensor, ...] | None = None
    audio_logits: tuple[Tensor, ...] | None = None
    scores: tuple[Tensor, ...] | None = None
    attentions: tuple[Any, ...] | None = None
    hidden_states: tuple[Any, ...] | None = None
    past_key_values: Cache | None = None


@dataclass(frozen=True)
class LegalTokens:
    """Ids each head may choose: two (V,) bool masks, True = legal. The published code has no such mask."""

    text: Tensor
    audio: Tensor

    @classmethod
    def of(cls, config: SpikeAudioConfig) -> "LegalTokens":
        """Text: every id of text, and those that end it. Audio: codes and the two ids that stop.

        Where the config does not tell text from reserved ids (``num_text_tokens``), every id below the codes is taken
        for text but the structural ones.
        """
        ids = torch.arange(config.vocab_size)
        text = ids < (config.num_text_tokens or config.audio_token_offset)
        says = {config.text_eos_token_id, config.think_end_token_id}
        structural = {*config.special_token_ids.values(), config.pad_token_id, config.bos_token_id} - says - {None}
        text[list(structural)] = False
        text[list(says - {None})] = True
        first = config.audio_token_offset
        audio = (ids >= first) & (ids < first + config.num_audio_codes)
        audio[list(stop_token_ids(config))] = True
        return cls(text, audio)


def stop_token_ids(config: SpikeAudioConfig) -> tuple[int, int]:
    """Audio ids that end a spoken answer."""
    return config.msg_end_token_id, config.media_end_token_id


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
        - legal_tokens: a :class:`LegalTokens` in place of the config's.
        - streamer: gets the text prompt by ``put``, then each step's ids: both streams through
          ``put_streams(text_ids, audio_ids)``, (B,) each, if it has that method, else the text by ``put``.

        The sampling settings may also stand in the generation config.

        Returns:
            :class:`SpikeAudioGenerateOutput`, or only its ``sequences`` without ``return_dict_in_generate``.

        Raises:
            ValueError: an unknown mode, prompt streams that do not fit together, or a prompt that leaves no position of
                the model for an answer.
        """
        with torch.no_grad():  # encoded once, here: from now on the prompt's features are like any others
            features = self.model.take_features(kwargs)
        if features is not None:
            kwargs["audio_features"] = features
        return super().generate(inputs, *args, generation_mode=generation_mode, **kwargs)

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
        config, device = self.config, input_ids.device
        rows, prompt_length = input_ids.shape
        if prompt_length >= config.max_position_embeddings:
            raise ValueError(
                f"the prompt takes {prompt_length} positions of 80 ms, but this model has "
                f"{config.max_position_embeddings}: give a shorter recording or text, or fewer messages"
            )
        settings = {name: getattr(generation_config, name) for name in STREAM_DEFAULTS}
        speaks = settings["generation_mode"] == "audio"
        blank = input_ids.new_full((rows,), config.blank_token_id)
        stops = torch.tensor(stop_token_ids(config), device=device)
        legal = model_kwargs.pop("legal_tokens", None) or LegalTokens.of(config)
        text_illegal, audio_illegal = ~legal.text.to(device), ~legal.audio.to(device)
        text_generators, audio_generators = row_generators(model_kwargs.pop("generator", None), rows)
        audio_ids = model_kwargs.get("audio_input_ids")
        if audio_ids is None:
            audio_ids = torch.full_like(input_ids, config.blank_token_id)
        model_kwargs["audio_input_ids"] = audio_ids.to(device)
        # The end of the text is ours to judge (it does not end a spoken answer); the user's criteria end a row.
        criteria = StoppingCriteriaList(c for c in stopping_criteria if not hasattr(c, "eos_token_id"))

        thinking = self._thinks(input_ids, model_kwargs["audio_input_ids"]) & speaks
        audio_start = torch.where(thinking, torch.iinfo(torch.long).max, config.audio_delay)  # step, per row
        writing = torch.ones(rows, dtype=torch.bool, device=device)
        unfinished = writing.clone()
        records: dict[str, list[Any]] = {name: [] for name in _RECORDED if getattr(generation_config, _RECORDED[name])}

        forward = self.__call__
        if self._valid_auto_compile_criteria(model_kwargs, generation_config):
            forward = self.get_compiled_call(generation_config.compile_config)
        outputs = self._prefill(input_ids, generation_config, model_kwargs)
        step, finished = 0, False
        while self._has_unfinished_sequences(finished, synced_gpus, device=device):
            if step:
                model_inputs = self.prepare_inputs_for_generation(
                    input_ids, next_sequence_length=1 if model_kwargs["use_cache"] else None, **model_kwargs
                )
                with self._optimize_model_for_decode():
                    outputs = forward(**model_inputs, return_dict=True)
            model_kwargs = self._update_model_kwargs_for_generation(outputs, model_kwargs)
            if synced_gpus and finished:
                step += 1
                continue

            # Copies, so that the prompt's logits are not kept alive.
            logits = outputs.logits[:, -1].to(copy=True, dtype=torch.float32, device=device)
            scores = penalize_repetition(
                logits.masked_fill(text_illegal, -torch.inf),
                input_ids[:, prompt_length:],
                settings["text_repetition_penalty"],
                settings["text_repetition_window"],
            )
            scores = logits_processor(input_ids, scores)
            text = draw(scores, text_generators) if generation_config.do_sample else scores.argmax(dim=-1)
            text = torch.where(writing & unfinished, text, blank)
            ended = text == config.text_eos_token_id
            writing = writing & ~ended

            audio_logits = outputs.audio_logits[:, -1].to(copy=True, dtype=torch.float32, device=device)
            audio = blank
            if speaks:
                audio = sample(
                    audio_logits.masked_fill(audio_illegal, -torch.inf),
                    model_kwargs["audio_input_ids"][:, prompt_length:],
                    audio_generators,
                    temperature=settings["audio_temperature"],
                    top_k=settings["audio_top_k"],
                    repetition_penalty=settings["audio_repetition_penalty"],
                    window=settings["audio_repetition_window"],
                )
                audio = torch.where((audio_start <= step) & unfinished, audio, blank)
                if config.think_end_token_id is not None:
                    concluded = thinking & (ended | (text == config.think_end_token_id))
                    audio_start = audio_start.masked_fill(concluded, step + 1 + config.audio_delay)
                    thinking = thinking & ~concluded

            for name, value in {
                "logits": logits,
                "audio_logits": audio_logits,
                "scores": scores,
                "attentions": outputs.attentions,
                "hidden_states": outputs.hidden_states,
            }.items():
                if name in records and value is not None:
                    records[name].append(value)
            del outputs

            input_ids = torch.cat([input_ids, text[:, None]], dim=1)
            model_kwargs["audio_input_ids"] = torch.cat([model_kwargs["audio_input_ids"], audio[:, None]], dim=1)
            if (mask := model_kwargs.get("audio_feature_mask")) is not None:
                model_kwargs["audio_feature_mask"] = torch.nn.functional.pad(mask, (0, 1))
            if streamer is not None:
                if hasattr(streamer, "put_streams"):
                    streamer.put_streams(text.cpu(), audio.cpu())
                else:
                    streamer.put(text.cpu())
            unfinished = unfinished & ~(torch.isin(audio, stops) if speaks else ended)
            unfinished = unfinished & ~criteria(input_ids, tuple(records.get("scores", ())))
            finished = not bool(unfinished.any())
            step += 1

        if streamer is not None:
            streamer.end()
        if not generation_config.return_dict_in_generate:
            return input_ids
        audio_ids = model_kwargs["audio_input_ids"]
        recorded: dict[str, Any] = {name: tuple(values) for name, values in records.items()}
        return SpikeAudioGenerateOutput(
            sequences=input_ids,
            audio_sequences=audio_ids,
            audio_codes=[
                codes_of(row[prompt_length:], config.audio_token_offset, config.num_audio_codes) for row in audio_ids
            ],
            past_key_values=model_kwargs.get("past_key_values"),
            **recorded,
        )

    def _thinks(self, input_ids: Tensor, audio_input_ids: Tensor) -> Tensor:
        """(B,) bool: rows whose open assistant turn does not hold ``think_end_token_id`` yet."""
        config = self.config
        rows, length = input_ids.shape
        if config.think_end_token_id is None:
            return torch.zeros(rows, dtype=torch.bool, device=input_ids.device)
        positions = torch.arange(length, device=input_ids.device)
        starts = audio_input_ids == config.assistant_start_token_id
        turn = torch.where(starts, positions, 0).amax(dim=1, keepdim=True) if length else positions.new_zeros(rows, 1)
        return ~((input_ids == config.think_end_token_id) & (positions >= turn)).any(dim=1)


# output field -> switch of the generation config
_RECORDED = {
    "logits": "output_logits",
    "audio_logits": "output_logits",
    "scores": "output_scores",
    "attentions": "output_attentions",
    "hidden_states": "output_hidden_states",
}


def _last_features(features: Tensor, mask: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Features and mask of the last `length` positions: the earlier ones are in the cache already."""
    skipped = mask[:, :-length].sum(dim=1).tolist()
    counts = mask.sum(dim=1).tolist()
    rest = [features[b, first:last] for b, (first, last) in enumerate(zip(skipped, counts, strict=True))]
    return torch.nn.utils.rnn.pad_sequence(rest, batch_first=True), mask[:, -length:]
