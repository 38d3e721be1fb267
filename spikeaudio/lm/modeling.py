"""The two-stream transformer: a trunk for text, a branch off its middle for audio.

    y    = trunk layers 0 .. k applied to the fused embeddings       (k = audio_branch_layer; no norm)
    text  logits = lm_head(norm(trunk layers k + 1 .. (y)))
    audio logits = audio_head(audio_norm(audio layers 0 .. (y)))

Both stacks see the same causal mask and the same positions, and share one cache: audio layer i is cache
layer ``num_hidden_layers + i``. Layers, norm and rotary embedding are transformers' own, of the family that the config
names (:mod:`spikeaudio.lm.backbone`).

Source: Kimi-Audio, ``modeling_kimia.py`` (``mimo_layers``, ``mimo_norm`` and ``mimo_output`` there). It differs
from it where that code is wrong: the published model calls its text logits ``audio_logits`` and the other way
round. Takes one row only when there are features. And drops the text stream where its ids sum to zero.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import slice_logits_to_keep
from transformers.utils.generic import ModelOutput, can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from spikeaudio.lm.backbone import backbone
from spikeaudio.lm.configuration import SpikeAudioConfig
from spikeaudio.lm.embedding import FeatureAdaptor, fuse_features, gather_features
from spikeaudio.lm.feature_encoder import FROM_TOKENIZER, feature_encoder
from spikeaudio.lm.generation import SpikeAudioGenerationMixin


@dataclass
class SpikeAudioModelOutput(ModelOutput):
    """Output of :class:`SpikeAudioModel`.

    Args:
        last_hidden_state: (B, T, D), trunk output after ``norm``: what ``lm_head`` reads.
        audio_hidden_state: (B, T, D), branch output after ``audio_norm``: what ``audio_head`` reads.
        past_key_values: cache of ``num_hidden_layers + num_audio_layers`` layers.
        hidden_states: fused embeddings, then each trunk layer's, then each audio layer's output, before the norms.
        attentions: one tensor per layer in the same order (eager attention only).
    """

    last_hidden_state: Tensor | None = None
    audio_hidden_state: Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class SpikeAudioOutput(ModelOutput):
    """Output of :class:`SpikeAudioForConditionalGeneration`.

    Args:
        loss: (), ``text_loss_weight * text_loss + audio_loss_weight * audio_loss``, when labels were given.
        text_loss, audio_loss: (), mean cross-entropy over the labelled positions; 0 for a stream without any.
        logits: (B, T, V) of the text stream; None where only the loss was asked for (``skip_logits``).
        audio_logits: (B, T, V) of the audio stream.
        past_key_values, hidden_states, attentions: as in :class:`SpikeAudioModelOutput`.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    audio_logits: Tensor | None = None
    text_loss: Tensor | None = None
    audio_loss: Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class SpikeAudioPreTrainedModel(PreTrainedModel):
    """What transformers needs to know of both models. (Its class attributes are declared as the instances'.)"""

    config: SpikeAudioConfig
    config_class = SpikeAudioConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ("audio", "text")  # type: ignore[assignment]
    supports_gradient_checkpointing = True
    _no_split_modules: list[str] = []  # noqa: RUF012  # a model adds its family's layer
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {  # noqa: RUF012
        "hidden_states": GradientCheckpointingLayer,
        "attentions": OutputRecorder(None, index=1, class_name="self_attn"),
    }


class SpikeAudioModel(SpikeAudioPreTrainedModel):
    """Both stacks without their heads. See :class:`SpikeAudioForConditionalGeneration` for the arguments.

    Example:
        >>> import torch
        >>> from spikeaudio import SpikeAudioModel
        >>> model = SpikeAudioModel.from_pretrained("checkpoints/spikeaudio-tiny")
        >>> model(torch.tensor([[5, 6, 7]])).audio_hidden_state.shape
        torch.Size([1, 3, 192])
    """

    def __init__(self, config: SpikeAudioConfig) -> None:
        super().__init__(config)
        trunk, family = config.num_hidden_layers, backbone(config.backbone)
        self._no_split_modules = [family.layer.__name__]
        encoder: Any = config.audio_encoder_config
        encoder_class: Any = feature_encoder(FROM_TOKENIZER if encoder is None else encoder.model_type)
        self.audio_encoder = encoder_class(encoder)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.feature_adaptor = FeatureAdaptor(config.audio_feature_dim, config.hidden_size, config.rms_norm_eps)
        self.layers = nn.ModuleList(family.layer(config, i) for i in range(trunk))
        self.audio_layers = nn.ModuleList(family.layer(config, trunk + i) for i in range(config.num_audio_layers))
        self.norm = family.norm(config.hidden_size, eps=config.rms_norm_eps)
        self.audio_norm = family.norm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = family.rotary(config=config)
        self.gradient_checkpointing = False
        self.post_init()

    def take_features(self, inputs: dict[str, Any]) -> Tensor | None:
        """Continuous features of a batch: as they are given, or made by the model's feature encoder.

        Args:
            inputs: keywords of the model, from which ``audio_features`` and the encoder's inputs are taken out.

        Returns:
            (B, S, audio_feature_dim), or None where the batch has neither.

        Raises:
            ValueError: both are there, or the shapes of the inputs do not fit the encoder.
        """
        given = inputs.pop("audio_features", None)
        names = [name for name in self.audio_encoder.input_names if name != "audio_features"]
        taken = {name: inputs.pop(name, None) for name in names}
        heard = {name: value for name, value in taken.items() if value is not None}
        if not heard:
            return given
        if given is not None:
            raise ValueError(f"pass either {' and '.join(heard)} or audio_features, not both")
        features: Tensor = self.audio_encoder.features(**heard)
        return features

    def embed(
        self,
        input_ids: Tensor,
        audio_input_ids: Tensor | None = None,
        audio_features: Tensor | None = None,
        audio_feature_mask: Tensor | None = None,
    ) -> Tensor:
        """Fused input embeddings, (B, T, D). See :mod:`spikeaudio.lm.embedding` for the equation."""
        if audio_input_ids is None:
            audio_input_ids = torch.full_like(input_ids, self.config.blank_token_id)
        self._check_ids(input_ids, audio_input_ids)
        embeds = self.embed_tokens(audio_input_ids)
        if (audio_features is None) != (audio_feature_mask is None):
            raise ValueError("audio_features and audio_feature_mask belong together: pass both or neither")
        if audio_features is not None and audio_feature_mask is not None:
            self._check_features(input_ids, audio_features, audio_feature_mask)
            features, rows, positions = gather_features(audio_features, audio_feature_mask.bool())
            embeds = fuse_features(embeds, self.feature_adaptor(features), rows, positions)
        return embeds + self.embed_tokens(input_ids)

    def _check_ids(self, input_ids: Tensor, audio_input_ids: Tensor) -> None:
        if input_ids.dim() != 2:
            raise ValueError(f"input_ids must have shape (batch, length), got {tuple(input_ids.shape)}")
        if audio_input_ids.shape != input_ids.shape:
            raise ValueError(
                f"the two streams must have one shape: input_ids has {tuple(input_ids.shape)}, "
                f"audio_input_ids {tuple(audio_input_ids.shape)}"
            )
        if input_ids.device.type != "cpu" or torch.compiler.is_compiling():
            return  # reading the extremes would wait for the device, or break the graph; the embedding checks as well
        for name, ids in (("input_ids", input_ids), ("audio_input_ids", audio_input_ids)):
            if ids.numel() and not (0 <= int(ids.min()) and int(ids.max()) < self.config.vocab_size):
                raise ValueError(
                    f"{name} must lie in [0, {self.config.vocab_size}), got {int(ids.min())} to {int(ids.max())}"
                )

    def _check_features(self, input_ids: Tensor, features: Tensor, mask: Tensor) -> None:
        if features.dim() != 3 or features.shape[2] != self.config.audio_feature_dim:
            raise ValueError(
                f"audio_features must have shape (batch, count, {self.config.audio_feature_dim}), "
                f"got {tuple(features.shape)}"
            )
        if mask.shape != input_ids.shape:
            raise ValueError(
                f"audio_feature_mask must have input_ids' shape {tuple(input_ids.shape)}, got {tuple(mask.shape)}"
            )
        if features.shape[0] != input_ids.shape[0]:
            raise ValueError(
                f"audio_features has {features.shape[0]} rows, but input_ids has {input_ids.shape[0]}; "
                f"a row without audio gets padding"
            )

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_ids: Tensor | None = None,
        audio_input_ids: Tensor | None = None,
        audio_features: Tensor | None = None,
        audio_feature_mask: Tensor | None = None,
        attention_mask: Tensor | dict[str, Tensor] | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> SpikeAudioModelOutput:
        kwargs["audio_features"] = audio_features
        audio_features = self.take_features(kwargs)
        if foreign := [name for name, value in kwargs.items() if isinstance(value, Tensor) and value.dim() > 2]:
            known = dict.fromkeys(("audio_features", *self.audio_encoder.input_names))
            raise ValueError(f"this model has no audio encoder for {', '.join(foreign)}: it takes {' or '.join(known)}")
        if input_ids is not None and inputs_embeds is None:
            inputs_embeds = self.embed(input_ids, audio_input_ids, audio_features, audio_feature_mask)
        elif input_ids is not None or inputs_embeds is None:
            raise ValueError("pass either input_ids (with audio_input_ids) or inputs_embeds, not both and not neither")
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        if position_ids is None:
            position_ids = positions_of(inputs_embeds, attention_mask, past_key_values)
        if isinstance(attention_mask, dict):  # prepared by generate() for a static cache
            causal_mask: Any = attention_mask["full_attention"]
        else:
            causal_mask = create_causal_mask(
                config=self.config,
                inputs_embeds=inputs_embeds,
                attention_mask=attention_mask,
                past_key_values=past_key_values,
                position_ids=position_ids,
            )
        shared = {
            "attention_mask": causal_mask,
            "position_ids": position_ids,
            "past_key_values": past_key_values,
            "use_cache": use_cache,
            "position_embeddings": self.rotary_emb(inputs_embeds, position_ids),
            **kwargs,
        }
        hidden = branch = inputs_embeds
        for index, layer in enumerate(self.layers):
            hidden = layer(hidden, **shared)
            if index == self.config.audio_branch_layer:
                branch = hidden
        for layer in self.audio_layers:
            branch = layer(branch, **shared)
        return SpikeAudioModelOutput(
            last_hidden_state=self.norm(hidden),
            audio_hidden_state=self.audio_norm(branch),
            past_key_values=past_key_values if use_cache else None,
        )


class SpikeAudioForConditionalGeneration(SpikeAudioPreTrainedModel, SpikeAudioGenerationMixin):
    """The two-stream model with its two heads, both over the whole id space.

    Call it with (B, T) streams:

        input_ids: text stream. audio_input_ids: audio stream (default: blanks), ids incl. ``audio_token_offset``.
        audio_features: (B, S, audio_feature_dim), right-padded per row; the k-th True position of row b of
            audio_feature_mask (B, T) gets ``audio_features[b, k]``.
        instead of audio_features, the inputs of the model's own encoder (``config.audio_encoder_config``), such as
            input_features (B, P, mel bins, frames) and input_features_mask (B, P, frames) of a Whisper encoder.
        attention_mask: (B, T) of 0 and 1, left or right padding. position_ids: counted from it by default.
        labels, audio_labels: (B, T), the streams' own ids or -100 where there is nothing to learn; *not* shifted,
            the model predicts ``labels[:, t + 1]`` at t. One of them may be None.
        skip_logits: compute the loss from the labelled positions alone and return no logits. Default: while
            training with labels.
        logits_to_keep: as in transformers, positions from the end whose logits are returned (0: all).

    Raises ValueError on ids outside the vocabulary, streams of unequal shape, features that do not fit their mask.

    Example:
        >>> from spikeaudio import SpikeAudioForConditionalGeneration, SpikeAudioProcessor
        >>> model = SpikeAudioForConditionalGeneration.from_pretrained("checkpoints/spikeaudio-tiny")
        >>> processor = SpikeAudioProcessor.from_pretrained("checkpoints/spikeaudio-tiny")
        >>> prompt = processor("what is the capital of england").to(model.device, dtype=model.dtype)
        >>> ids = model.generate(**prompt, generation_mode="text", max_new_tokens=40)
        >>> processor.decode_answer(ids[0, prompt["input_ids"].shape[1] :]).text
        'the capital of england is london'
    """

    # Where the config ties them.
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012
    _tp_plan = {"lm_head": "colwise_gather_output", "audio_head": "colwise_gather_output"}  # noqa: RUF012
    _fsdp_plan = {"lm_head": "keep_full_weight", "audio_head": "keep_full_weight"}  # noqa: RUF012
    # The loss is a sum of two means with different counts, so Trainer's one token count cannot normalise it.
    accepts_loss_kwargs = False

    def __init__(self, config: SpikeAudioConfig) -> None:
        super().__init__(config)
        self.model = SpikeAudioModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.audio_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        # transformers drops fields it does not know (audio_temperature, ...) when it loads a generation config that is
        # marked as derived from a model config, as the one that it just made is.
        self.generation_config._from_model_config = None
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        audio_input_ids: Tensor | None = None,
        audio_features: Tensor | None = None,
        audio_feature_mask: Tensor | None = None,
        attention_mask: Tensor | dict[str, Tensor] | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        audio_labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        skip_logits: bool | None = None,
        **kwargs: Any,
    ) -> SpikeAudioOutput:
        outputs = self.model(
            input_ids=input_ids,
            audio_input_ids=audio_input_ids,
            audio_features=audio_features,
            audio_feature_mask=audio_feature_mask,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        text, audio = outputs.last_hidden_state, outputs.audio_hidden_state
        loss = text_loss = audio_loss = None
        has_labels = labels is not None or audio_labels is not None
        if has_labels:
            text_loss = next_token_loss(self.lm_head, text, labels, "labels")
            audio_loss = next_token_loss(self.audio_head, audio, audio_labels, "audio_labels")
            loss = self.config.text_loss_weight * text_loss + self.config.audio_loss_weight * audio_loss
        logits = audio_logits = None
        if not (self.training and has_labels if skip_logits is None else skip_logits):
            logits = self.lm_head(slice_logits_to_keep(text, logits_to_keep))
            audio_logits = self.audio_head(slice_logits_to_keep(audio, logits_to_keep))
        return SpikeAudioOutput(
            loss=loss,
            logits=logits,
            audio_logits=audio_logits,
            text_loss=text_loss,
            audio_loss=audio_loss,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def positions_of(
    inputs_embeds: Tensor, attention_mask: Tensor | dict[str, Tensor] | None, cache: Cache | None
) -> Tensor:
    """Position ids (B or 1, T): tokens count from 0 in each row, padding is not counted."""
    length, device = inputs_embeds.shape[1], inputs_embeds.device
    if isinstance(attention_mask, Tensor) and attention_mask.dim() == 2:
        return (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)[:, -length:].to(device)
    past = cache.get_seq_length() if cache is not None else 0
    return (torch.arange(length, device=device) + past).unsqueeze(0)


def next_token_loss(head: nn.Module, hidden: Tensor, labels: Tensor | None, name: str) -> Tensor:
    """Mean cross-entropy of ``labels[:, t + 1]`` predicted from ``hidden[:, t]``, in fp32; 0 without labels.

    The head runs on the labelled positions alone: with a large vocabulary and short answers that is most of the cost.

    Args:
        head: (..., D) -> (..., V).
        hidden: (B, T, D).
        labels: (B, T), -100 is ignored.
        name: name of the labels, for the message.

    Raises:
        ValueError: labels do not have hidden's (B, T).
    """
    if labels is None:
        return hidden.new_zeros((), dtype=torch.float32)
    if labels.shape != hidden.shape[:2]:
        raise ValueError(
            f"{name} must have shape {tuple(hidden.shape[:2])} like the streams, got {tuple(labels.shape)}"
        )
    targets = labels[:, 1:].to(hidden.device)
    learned = targets != -100
    logits = head(hidden[:, :-1][learned]).float()
    total = nn.functional.cross_entropy(logits, targets[learned], reduction="sum")
    return total / learned.sum().clamp(min=1)
