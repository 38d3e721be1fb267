"""Session: the two-stream model as a conversation that can be continued, stopped and copied, step by step.

    feed(streams)   the positions of a turn run through the model; only the new ones, if there is a cache
    step()          one text id and one audio id per row, 80 ms of the conversation
    cancel()        the answer ends where it is
    clone()         an independent copy: one conversation goes on in two ways
    rewind(n)       back to the first n positions, for an answer that is to stand in the past in another form

`generate` is `begin` and steps until all rows have ended. Nothing is stored on the model, so any number of sessions
share it.
"""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin, LogitsProcessorList, StoppingCriteriaList
from transformers.cache_utils import Cache

from spikeaudio.lm.legal_tokens import LegalTokens
from spikeaudio.lm.streams import Streams, codes_of
from spikeaudio.lm.turn import Turn, TurnSettings

if TYPE_CHECKING:
    from spikeaudio.lm.modeling import SpikeAudioForConditionalGeneration

# Output field of `generate` -> its switch in the generation config.
RECORDED = {
    "logits": "output_logits",
    "audio_logits": "output_logits",
    "scores": "output_scores",
    "attentions": "output_attentions",
    "hidden_states": "output_hidden_states",
}
# Keywords that size a cache which does not exist yet: of no use to a turn that finds one.
_CACHE_KEYWORDS = ("cache_implementation", "max_cache_len")


class Step(NamedTuple):
    """What one step adds to the two streams: (B,) long each."""

    text: Tensor
    audio: Tensor


class _Heads(NamedTuple):
    """What the model says of the next position: (B, V) fp32 each, and what else was asked for."""

    logits: Tensor
    audio_logits: Tensor
    attentions: Any
    hidden_states: Any


class Session:
    """B conversations on one model.

    Args:
        model: the language model; not changed, and free for other sessions.
        cache: an empty cache of keys and values; None: the model's own kind.
        generation: keywords of every answer, as for the model's `generate`, such as ``generation_mode="audio"``.

    Example:
        >>> from transformers import AutoModelForMultimodalLM, AutoProcessor
        >>> import spikeaudio
        >>> folder = "checkpoints/spikeaudio-tiny"
        >>> model, processor = AutoModelForMultimodalLM.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
        >>> session = Session(model)
        >>> session.feed(**processor.apply_chat_template([{"role": "user", "content": "good morning"}]))
        >>> while not session.finished:
        ...     text, audio = session.step()
        >>> processor.decode(session.text_ids[0])
        'good morning good morning to you'
    """

    def __init__(
        self, model: "SpikeAudioForConditionalGeneration", cache: Cache | None = None, **generation: Any
    ) -> None:
        self.model = model
        self.generation = generation
        self.cache = cache
        self.input_ids: Tensor | None = None  # (B, T) long, text stream so far
        self.finished = True
        self.records: dict[str, list[Any]] = {}
        self.text_log_probs: list[Tensor] = []  # (B,) of each step's text ids, as the model gives them
        self._mask: Tensor | None = None  # (B, T), 0 where a row has nothing
        self._turn: Turn | None = None
        self._heads: _Heads | None = None
        self._inputs: dict[str, Any] = {}  # what `generate` calls model_kwargs
        self._forward: Any = None

    def __len__(self) -> int:
        """Positions of the conversation so far, each 80 ms."""
        return 0 if self.input_ids is None else self.input_ids.shape[1]

    # -- the streams so far ----------------------------------------------------------------------------------------

    @property
    def audio_input_ids(self) -> Tensor:
        """(B, T) long, audio stream so far.

        Raises:
            ValueError: nothing was fed yet.
        """
        self._fed()
        ids: Tensor = self._inputs["audio_input_ids"]
        return ids

    @property
    def text_ids(self) -> list[Tensor]:
        """Per row the text ids (n,) of the open answer, thoughts included, without blanks and the end of the text."""
        turn, config = self._fed(), self.model.config
        assert self.input_ids is not None
        silent = torch.tensor([config.blank_token_id, config.text_eos_token_id], device=self.input_ids.device)
        return [row[~torch.isin(row, silent)] for row in self.input_ids[:, turn.start :]]

    @property
    def codes(self) -> list[Tensor]:
        """Per row the codes (S,) of the open answer, without offset and the id that stops."""
        turn, config = self._fed(), self.model.config
        return [
            codes_of(row[turn.start :], config.audio_token_offset, config.num_audio_codes)
            for row in self.audio_input_ids
        ]

    def said(self, row: int = 0) -> Streams:
        """Both streams of a row's open answer, as they were generated, (n,) ids each."""
        turn = self._fed()
        assert self.input_ids is not None
        return Streams(self.input_ids[row, turn.start :], self.audio_input_ids[row, turn.start :])

    # -- turns -----------------------------------------------------------------------------------------------------

    def feed(
        self,
        input_ids: Tensor,
        audio_input_ids: Tensor | None = None,
        audio_features: Tensor | None = None,
        audio_feature_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **generation: Any,
    ) -> None:
        """Show the next turn to the model; its answer can then be stepped.

        Args:
            input_ids: (B, T), T >= 1, text stream of the new positions.
            audio_input_ids: (B, T), their audio stream; None: blanks.
            audio_features: (B, S, D), features of the recordings among them, right-padded per row.
            audio_feature_mask: (B, T), True where there is a feature.
            attention_mask: (B, T), 0 where a row is padded; None: nowhere.
            generation: keywords of this answer alone, as for the model's `generate`; the inputs of the encoder inside
                the model, in place of features, are among them.

        Raises:
            ValueError: as the model's `generate`; or another number of rows than before.
        """
        if self._turn is not None and input_ids.shape[0] != len(self.audio_input_ids):
            raise ValueError(f"this session has {len(self.audio_input_ids)} rows, got a turn of {input_ids.shape[0]}")
        heard = {"audio_features": audio_features, **generation}
        self.model.encode_inputs(heard)
        audio_features, generation = heard.pop("audio_features", None), heard
        if audio_input_ids is None:
            audio_input_ids = torch.full_like(input_ids, self.model.config.blank_token_id)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        streams = {
            "audio_input_ids": self._joined("audio_input_ids", audio_input_ids),
            "attention_mask": attention_mask if self._mask is None else _along(self._mask, attention_mask),
            **self._joined_features(input_ids, audio_features, audio_feature_mask),
        }
        text = input_ids if self.input_ids is None else _along(self.input_ids, input_ids)
        keywords = {**self.generation, **generation}
        if self.cache is not None:
            streams["past_key_values"] = self.cache
            keywords = {name: value for name, value in keywords.items() if name not in _CACHE_KEYWORDS}
        # transformers prepares lengths, processors, criteria and the cache, and then calls `begin`.
        GenerationMixin.generate(self.model, text, custom_generate=self._begin_prepared, **streams, **keywords)

    @torch.no_grad()
    def begin(
        self,
        input_ids: Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        **model_kwargs: Any,
    ) -> None:
        """Take over an answer that transformers' `generate` has prepared; `feed` does it for you.

        Args:
            input_ids: (B, T), the text stream of the whole conversation.
            logits_processor: acts on the text stream.
            stopping_criteria: end a row.
            generation_config: with the fields of ``STREAM_DEFAULTS``.
            model_kwargs: inputs of the model, the rest of the prompt and the cache among them.

        Raises:
            ValueError: the prompt leaves no position for an answer, or does not fit together.
        """
        model, config = self.model, self.model.config
        length = input_ids.shape[1]
        if length >= config.max_position_embeddings:
            raise ValueError(
                f"the prompt takes {length} positions of 80 ms, but this model has "
                f"{config.max_position_embeddings}: give a shorter recording or text, or fewer messages"
            )
        legal: LegalTokens | None = model_kwargs.pop("legal_tokens", None)
        generator = model_kwargs.pop("generator", None)
        audio_ids = model_kwargs.get("audio_input_ids")
        if audio_ids is None:
            audio_ids = torch.full_like(input_ids, config.blank_token_id)
        model_kwargs["audio_input_ids"] = audio_ids.to(input_ids.device)
        settings = TurnSettings.of(
            config, generation_config, legal, logits_processor, stopping_criteria, input_ids.device
        )
        turn = Turn.begin(settings, input_ids, model_kwargs["audio_input_ids"], generator)
        mask = model_kwargs.get("attention_mask")  # transformers drops one that hides nothing
        compiled = model._valid_auto_compile_criteria(model_kwargs, generation_config)
        forward = model.get_compiled_call(generation_config.compile_config) if compiled else model.__call__
        outputs = model._prefill(input_ids, generation_config, model_kwargs)

        self.input_ids, self._inputs, self._turn, self._forward = input_ids, model_kwargs, turn, forward
        self._mask = torch.ones_like(input_ids) if mask is None else mask
        self.records = {name: [] for name, switch in RECORDED.items() if getattr(generation_config, switch)}
        self.text_log_probs = []
        self.finished = False
        self._take(outputs)

    def _begin_prepared(
        self,
        model: "SpikeAudioForConditionalGeneration",
        input_ids: Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        **model_kwargs: Any,
    ) -> None:
        """`begin`, in the form in which transformers calls a ``custom_generate``."""
        self.begin(input_ids, logits_processor, stopping_criteria, generation_config, **model_kwargs)

    @torch.no_grad()
    def step(self) -> Step:
        """The next id of both streams in every row; blanks in a row that has ended.

        Raises:
            ValueError: the answer has ended, or nothing was fed yet.
        """
        turn = self._fed()
        if self.finished:
            raise ValueError("the answer has ended: feed the next turn before the next step")
        if self._heads is None:
            self._run()
        heads, self._heads = self._heads, None
        assert heads is not None and self.input_ids is not None and self._mask is not None
        choice = turn.choose_text(heads.logits, self.input_ids)
        audio = turn.choose_audio(heads.audio_logits, self.audio_input_ids)
        self._record({**heads._asdict(), "scores": choice.scores})
        self.text_log_probs.append(choice.log_probs)
        going = turn.unfinished
        turn.advance(choice.ids, audio)

        self.input_ids = torch.cat([self.input_ids, choice.ids[:, None]], dim=1)
        self._inputs["audio_input_ids"] = torch.cat([self.audio_input_ids, audio[:, None]], dim=1)
        self._mask = torch.cat([self._mask, going[:, None].to(self._mask)], dim=1)
        if (mask := self._inputs.get("audio_feature_mask")) is not None:
            self._inputs["audio_feature_mask"] = torch.nn.functional.pad(mask, (0, 1))
        turn.judge(self.input_ids, tuple(self.records.get("scores", ())))
        self.finished = turn.finished
        return Step(choice.ids, audio)

    def idle(self) -> None:
        """Run the model once more for nothing: other processes of a distributed model wait for it."""
        with torch.no_grad():
            self._run()
        self._heads = None

    def cancel(self) -> None:
        """End the answer where it is; the next turn may follow."""
        self.finished, self._heads = True, None

    def clone(self) -> "Session":
        """An independent copy, cache and random numbers included: both go on as this one would."""
        other = copy.copy(self)
        other.cache = copy.deepcopy(self.cache)
        other._inputs = {**self._inputs, "past_key_values": other.cache} if self._inputs else {}
        other._turn = None if self._turn is None else self._turn.clone()
        other.records = {name: list(values) for name, values in self.records.items()}
        other.text_log_probs = list(self.text_log_probs)
        return other

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` positions; the answer ends, and the next turn may follow.

        Raises:
            ValueError: there are fewer positions, or the cache is of a kind that cannot forget.
        """
        if not 0 <= length <= len(self):
            raise ValueError(f"a session of {len(self)} positions cannot go back to position {length}")
        self.cancel()
        if self.cache is not None and (surplus := self.cache.get_seq_length() - length) > 0:
            if self.cache.is_compileable:
                raise ValueError("a static cache cannot forget positions: use another cache, or a new session")
            self.cache.crop(-surplus)
        if self.input_ids is None or self._mask is None:
            return
        self.input_ids, self._mask = self.input_ids[:, :length], self._mask[:, :length]
        self._inputs["audio_input_ids"] = self.audio_input_ids[:, :length]
        if (mask := self._inputs.get("audio_feature_mask")) is not None:
            self._inputs["audio_feature_mask"] = mask[:, :length]
            most = int(mask[:, :length].sum(dim=1).max())
            self._inputs["audio_features"] = self._inputs["audio_features"][:, :most]

    # -- inside ----------------------------------------------------------------------------------------------------

    def _fed(self) -> Turn:
        if self._turn is None:
            raise ValueError("the session is empty: feed a prompt first")
        return self._turn

    def _run(self) -> None:
        """One forward pass over the newest position, or over all without a cache."""
        assert self.input_ids is not None
        length = 1 if self._inputs["use_cache"] else None
        inputs = self.model.prepare_inputs_for_generation(self.input_ids, next_sequence_length=length, **self._inputs)
        with self.model._optimize_model_for_decode():
            outputs = self._forward(**inputs, return_dict=True)
        self._take(outputs)

    def _take(self, outputs: Any) -> None:
        """Keep what the next step needs of the model's outputs."""
        self._inputs = self.model._update_model_kwargs_for_generation(outputs, self._inputs)
        self.cache = self._inputs.get("past_key_values")
        assert self.input_ids is not None
        # Copies, so that the prompt's logits are not kept alive.
        last = {"copy": True, "dtype": torch.float32, "device": self.input_ids.device}
        self._heads = _Heads(
            outputs.logits[:, -1].to(**last),
            outputs.audio_logits[:, -1].to(**last),
            outputs.attentions,
            outputs.hidden_states,
        )

    def _record(self, values: dict[str, Any]) -> None:
        for name, kept in self.records.items():
            if values[name] is not None:
                kept.append(values[name])

    def _joined(self, name: str, new: Tensor) -> Tensor:
        old = self._inputs.get(name)
        return new if old is None else _along(old, new)

    def _joined_features(self, input_ids: Tensor, features: Tensor | None, mask: Tensor | None) -> dict[str, Tensor]:
        """Features and mask of the whole conversation; the earlier ones wait for a session without a cache."""
        old, old_mask = self._inputs.get("audio_features"), self._inputs.get("audio_feature_mask")
        if features is None and old is None:
            return {}
        if (features is None) != (mask is None):
            raise ValueError("audio_features and audio_feature_mask belong together: pass both or neither")
        if self.input_ids is None:
            assert features is not None and mask is not None
            return {"audio_features": features, "audio_feature_mask": mask}
        if mask is None or features is None:
            mask = torch.zeros_like(input_ids, dtype=torch.bool)
        if old_mask is None:
            old_mask = torch.zeros_like(self.input_ids, dtype=torch.bool)
        parts = [(old, old_mask), (features, mask)]
        rows = [_row_features(parts, row) for row in range(len(mask))]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return {"audio_features": padded, "audio_feature_mask": _along(old_mask.bool(), mask.bool())}


def _along(old: Tensor, new: Tensor) -> Tensor:
    """Two (B, T) tensors, one after the other."""
    return torch.cat([old, new.to(old)], dim=1)


def _row_features(parts: Sequence[tuple[Tensor | None, Tensor]], row: int) -> Tensor:
    """One row's features (S, D) of several turns, without padding."""
    kept = [features[row, : int(mask[row].sum())] for features, mask in parts if features is not None]
    return torch.cat([item.to(kept[0]) for item in kept])
