"""Architecture of the two-stream language model, as one flat Hugging Face config.

The model is a Qwen2 decoder, or one of another family (the trunk), with a second, short stack of such layers (the audio
branch) that starts from the residual stream after one of the trunk's layers. One id space serves both streams:

    [0 ........ text ids ........ specials ........][audio_token_offset ... + num_audio_codes)

Source: Kimi-Audio (arXiv:2504.18425), class ``KimiAudioConfig``; the defaults are the published 7B's
values. ``kimia_mimo_layers`` is ``num_audio_layers`` here, ``kimia_mimo_transformer_from_layer_index``
is ``audio_branch_layer``, ``kimia_mimo_audiodelaytokens`` is ``audio_delay``.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig, Qwen2Config

from spikeaudio.checkpoint import refuse_unknown_keys
from spikeaudio.lm.backbone import family_values
from spikeaudio.lm.feature_encoder import encoder_config, feature_encoder


@strict
class SpikeAudioConfig(Qwen2Config):
    """Sizes and special ids of :class:`~spikeaudio.lm.modeling.SpikeAudioForConditionalGeneration`.

    Beside the fields of ``Qwen2Config`` (``hidden_size``, ``num_hidden_layers`` = trunk layers, ...), and those of the
    backbone's own configuration where it is another family (``attention_bias``, ...):

    Args:
        backbone: `model_type` of the family that both stacks' layers are of, such as "qwen2", "llama", "mistral" or
            "qwen3"; see :mod:`spikeaudio.lm.backbone`.
        num_audio_layers: layers of the audio branch, >= 1.
        audio_branch_layer: index of the trunk layer whose output (before any norm) feeds the audio branch.
        audio_delay: steps by which generated audio starts after the text.
        audio_token_offset: id of audio code 0; every text and special id is below it.
        num_audio_codes: size of the speech tokenizer's codebook.
        audio_feature_dim: channels of one 80 ms continuous feature.
        audio_encoder_config: configuration of the encoder inside the model that makes these features (see
            :mod:`spikeaudio.lm.feature_encoder`); a Whisper encoder if it names no `model_type`. None: the features
            are the speech tokenizer's.
        blank_token_id: the id that stands in a stream which is silent at a position.
        text_eos_token_id: end of the assistant's text (also ``eos_token_id``, unless that is given).
        media_begin_token_id, media_end_token_id: brackets of an audio segment, in the audio stream.
        msg_end_token_id, user_start_token_id, assistant_start_token_id: turn marks, in the audio stream.
        speech_text_token_id, speech_both_token_id: after a spoken turn: answer in text, in text and speech.
        think_end_token_id: end of the text written before the answer, or None for a model without it.
        prompt_format: layout of this model's prompts: "spikeaudio", or "kimi" for Kimi-Audio's weights.
        num_text_tokens: ids below it stand for text, those from it to the codes are special and reserved; None: not
            known apart.
        sampling_rate: rate of the speech this model's codes decode to, in Hz.
        tie_word_embeddings: the text head is the embedding's matrix; the audio head is always one of its own.
        text_loss_weight, audio_loss_weight: factors of the two streams' mean cross-entropies in the loss.

    Raises:
        ValueError: an unknown key (the message lists the valid ones), a size or an id outside its range.

    Example:
        >>> from spikeaudio import SpikeAudioConfig
        >>> config = SpikeAudioConfig.from_pretrained("checkpoints/spikeaudio-tiny")
        >>> config.num_hidden_layers, config.num_audio_layers, config.audio_delay
        (5, 2, 6)
    """

    model_type = "spikeaudio"
    default_theta = 1_000_000.0
    sub_configs: ClassVar[dict[str, Any]] = {"audio_encoder_config": AutoConfig}
    base_model_tp_plan: ClassVar[dict[str, Any]] = {
        **Qwen2Config.base_model_tp_plan,
        **{name.replace("layers.", "audio_layers."): how for name, how in Qwen2Config.base_model_tp_plan.items()},
    }
    # The branch leaves the trunk in its middle: a linear pipeline plan would drop it.
    base_model_pp_plan: ClassVar[None] = None  # type: ignore[assignment]

    vocab_size: int = 168448
    hidden_size: int = 3584
    intermediate_size: int = 18944
    num_hidden_layers: int = 28
    num_attention_heads: int = 28
    num_key_value_heads: int | None = 4
    max_position_embeddings: int = 8192
    layer_types: list[str] | None = None
    pad_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    backbone: str = "qwen2"
    num_audio_layers: int = 6
    audio_branch_layer: int = 21
    audio_delay: int = 6
    audio_token_offset: int = 152064
    num_audio_codes: int = 16384
    audio_feature_dim: int = 5120
    audio_encoder_config: PreTrainedConfig | dict[str, Any] | None = None

    blank_token_id: int = 151666
    text_eos_token_id: int = 151667
    media_begin_token_id: int = 151661
    media_end_token_id: int = 151663
    msg_end_token_id: int = 151645
    user_start_token_id: int = 151670
    assistant_start_token_id: int = 151671
    speech_text_token_id: int = 151675
    speech_both_token_id: int = 151676
    think_end_token_id: int | None = None

    prompt_format: str = "spikeaudio"
    num_text_tokens: int | None = None
    sampling_rate: int = 24000
    text_loss_weight: float = 1.0
    audio_loss_weight: float = 1.0

    def __post_init__(self, **kwargs: Any) -> None:
        values = family_values(self.backbone, self, kwargs)
        refuse_unknown_keys(self, kwargs, values)
        kwargs = {**values, **kwargs}
        self.audio_encoder_config = encoder_config(self.audio_encoder_config)
        self._check()
        if self.layer_types is None:
            # One entry per cache layer: the trunk's, then the audio branch's (layer_idx of the modules).
            self.layer_types = ["full_attention"] * (self.num_hidden_layers + self.num_audio_layers)
        if self.pad_token_id is None:
            self.pad_token_id = self.text_eos_token_id  # not the blank: blanks are attended to
        if self.eos_token_id is None:
            self.eos_token_id = self.text_eos_token_id
        super().__post_init__(**kwargs)

    def _check(self) -> None:
        for name in ("num_hidden_layers", "num_audio_layers", "num_audio_codes", "audio_feature_dim", "sampling_rate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.audio_branch_layer < self.num_hidden_layers:
            raise ValueError(
                f"audio_branch_layer is the index of a trunk layer: expected 0 to {self.num_hidden_layers - 1} "
                f"(num_hidden_layers - 1), got {self.audio_branch_layer}"
            )
        if self.audio_delay < 0:
            raise ValueError(f"audio_delay must not be negative, got {self.audio_delay}")
        if not 0 < self.audio_token_offset <= self.vocab_size - self.num_audio_codes:
            raise ValueError(
                f"audio codes take ids {self.audio_token_offset} to "
                f"{self.audio_token_offset + self.num_audio_codes - 1} (audio_token_offset, num_audio_codes), "
                f"but vocab_size is {self.vocab_size}"
            )
        if self.num_text_tokens is not None and not 0 < self.num_text_tokens <= self.audio_token_offset:
            raise ValueError(
                f"num_text_tokens must lie in [1, {self.audio_token_offset}] (audio_token_offset), "
                f"got {self.num_text_tokens}"
            )
        for name, token_id in self.special_token_ids.items():
            if not 0 <= token_id < self.audio_token_offset:
                raise ValueError(f"{name} must be below audio_token_offset ({self.audio_token_offset}), got {token_id}")
        encoder = self.audio_encoder_config
        if isinstance(encoder, PreTrainedConfig):
            width = feature_encoder(encoder.model_type).feature_dim(encoder)
            if self.audio_feature_dim != width:
                raise ValueError(
                    f"audio_feature_dim must be the {width} channels of the audio encoder's features, "
                    f"got {self.audio_feature_dim}"
                )
        if self.use_sliding_window:
            raise ValueError("use_sliding_window is not supported: both stacks attend to the whole past")

    @property
    def inputs_to_logits_ratio(self) -> int:
        """Nothing: transformers' recognition pipeline asks for it before it cuts a recording into chunks.

        Its chunks overlap. It joins what is written for them as it is, so that words come twice.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "chunk_length_s is not supported: leave it out, recordings of any length are cut at their pauses"
        )

    @property
    def special_token_ids(self) -> dict[str, int]:
        """Field name -> id of every special token this config defines (``think_end_token_id`` only if set)."""
        names = (
            "blank_token_id text_eos_token_id media_begin_token_id media_end_token_id msg_end_token_id "
            "user_start_token_id assistant_start_token_id speech_text_token_id speech_both_token_id think_end_token_id"
        ).split()
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def per_layer_config(self) -> Sequence[PreTrainedConfig]:  # type: ignore[override]
        """One config per cache layer, trunk then audio branch: how transformers sizes its caches."""
        return (self,) * (self.num_hidden_layers + self.num_audio_layers)

    def validate_layer_type(self) -> None:
        """Replaces transformers' check of one layer type per trunk layer: the audio branch has entries too."""
        expected = self.num_hidden_layers + self.num_audio_layers
        if self.layer_types != ["full_attention"] * expected:
            raise ValueError(
                f"layer_types must be 'full_attention' for num_hidden_layers + num_audio_layers = {expected} layers, "
                f"got {self.layer_types}"
            )
