"""Sizes: from the published files' keys to our configurations.

A key that ``config.json`` leaves out means what the published class, ``KimiAudioConfig``, takes for it; some of those
defaults do not fit the 7B model (delay 5, rope_theta 1e4), whose file names its own. The detokenizer's file and the
vocoder's describe their training as well; of these two only what the network needs is read.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from huggingface_hub.dataclasses import strict
from transformers import Qwen2Config, WhisperConfig

from spikeaudio.detokenizer.configuration import DetokenizerConfig
from spikeaudio.lm.configuration import SpikeAudioConfig
from spikeaudio.loading.kimi.folder import read_json
from spikeaudio.loading.kimi.special_tokens import SpecialTokens
from spikeaudio.tokenizer.configuration import WhisperVQConfig
from spikeaudio.vocoder.configuration import BigVGANConfig

# What transformers passes or stores beside a configuration's fields, and keys of the published file that say nothing
# about the network.
_KNOWN_KEYS = frozenset(
    "_attn_implementation_internal _commit_hash _experts_implementation_internal _name_or_path attn_implementation "
    "auto_map eos_token_ids experts_implementation model_type name_or_path num_labels output_attentions "
    "per_layer_config quantization_config rope_scaling rope_theta torch_dtype whisper_model_name".split()
)
_SHARED = (
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads hidden_act "
    "initializer_range rms_norm_eps rope_parameters max_position_embeddings attention_dropout use_cache "
    "tie_word_embeddings use_sliding_window dtype"
).split()


@strict
class KimiAudioConfig(Qwen2Config):
    """``config.json`` as published; `to_spikeaudio` translates it.

    Beside the fields of ``Qwen2Config``:

    Args:
        kimia_mimo_layers: layers of the audio branch.
        kimia_mimo_audiodelaytokens: steps by which audio starts after text.
        kimia_mimo_transformer_from_layer_index: trunk layer whose output the branch takes.
        kimia_token_offset: id of audio code 0.
        kimia_adaptor_input_dim: channels of one continuous feature.
        num_base_tokens: ids below it are text, those from it to the codes are special.
        kimia_media_begin, kimia_media_end: two of the special ids.
        use_whisper_feature: must be True: features come from the Whisper encoder.
        kimia_audio_output_vocab, kimia_text_output_vocab, num_audio_special_tokens: unused, as in the published code.

    Raises:
        ValueError: an unknown key; the message lists it.
    """

    model_type = "moonshot_kimia"
    default_theta = 10_000.0

    vocab_size: int = 163840
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None

    kimia_mimo_layers: int = 6
    kimia_mimo_audiodelaytokens: int = 5
    kimia_mimo_transformer_from_layer_index: int = 21
    kimia_audio_output_vocab: int = 16896
    kimia_text_output_vocab: int = 152064
    num_audio_special_tokens: int = 512
    num_base_tokens: int = 151643
    kimia_token_offset: int = 152064
    use_whisper_feature: bool = True
    kimia_adaptor_input_dim: int = 5120
    kimia_media_begin: int = 151661
    kimia_media_end: int = 151663

    def __post_init__(self, **kwargs: Any) -> None:
        if unknown := sorted(set(kwargs) - _KNOWN_KEYS):
            own = sorted(field.name for field in fields(self) if field.name.startswith(("kimia_", "num_")))
            raise ValueError(f"unknown keys {unknown} in Kimi-Audio's config.json; it has Qwen2's keys and {own}")
        super().__post_init__(**kwargs)

    @property
    def special_tokens(self) -> SpecialTokens:
        """Ids between text and codes.

        Raises:
            ValueError: the file's own media_begin and media_end lie elsewhere.
        """
        tokens = SpecialTokens(self.num_base_tokens, self.kimia_token_offset - self.num_base_tokens)
        ids = (tokens.id_of("<|im_media_begin|>"), tokens.id_of("<|im_media_end|>"))
        if ids != (self.kimia_media_begin, self.kimia_media_end):
            raise ValueError(
                f"kimia_media_begin and kimia_media_end must be {ids[0]} and {ids[1]} behind num_base_tokens = "
                f"{self.num_base_tokens}, got {self.kimia_media_begin} and {self.kimia_media_end}"
            )
        return tokens

    def to_spikeaudio(self, encoder: WhisperConfig | None) -> SpikeAudioConfig:
        """Our configuration of the same model.

        Args:
            encoder: sizes of the Whisper encoder inside it; None: without one.

        Raises:
            ValueError: sizes or ids that do not fit together.
        """
        if not self.use_whisper_feature:
            raise ValueError("use_whisper_feature must be true: the published weights were trained with its features")
        special = self.special_tokens
        return SpikeAudioConfig(
            **{name: getattr(self, name) for name in _SHARED},
            num_audio_layers=self.kimia_mimo_layers,
            audio_branch_layer=self.kimia_mimo_transformer_from_layer_index,
            audio_delay=self.kimia_mimo_audiodelaytokens,
            audio_token_offset=self.kimia_token_offset,
            num_audio_codes=self.vocab_size - self.kimia_token_offset,
            audio_feature_dim=self.kimia_adaptor_input_dim,
            audio_encoder_config=encoder,
            prompt_format="kimi",
            num_text_tokens=self.num_base_tokens,
            pad_token_id=special.pad_id,
            bos_token_id=special.id_of("[BOS]"),
            blank_token_id=special.id_of("<|im_kimia_text_blank|>"),
            text_eos_token_id=special.id_of("<|im_kimia_text_eos|>"),
            media_begin_token_id=special.id_of("<|im_media_begin|>"),
            media_end_token_id=special.id_of("<|im_media_end|>"),
            msg_end_token_id=special.id_of("<|im_msg_end|>"),
            user_start_token_id=special.id_of("<|im_kimia_user_msg_start|>"),
            assistant_start_token_id=special.id_of("<|im_kimia_assistant_msg_start|>"),
            speech_text_token_id=special.id_of("<|im_kimia_speech_ct_id|>"),
            speech_both_token_id=special.id_of("<|im_kimia_speech_ctd_id|>"),
        )


def published_config(root: Path) -> KimiAudioConfig:
    """``config.json`` of a download, whether or not it names a ``model_type``.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no JSON, has unknown keys, or values that are not valid.
    """
    values = read_json(root / "config.json")
    return KimiAudioConfig.from_dict({key: value for key, value in values.items() if key != "model_type"})


def encoder_config(folder: Path) -> WhisperConfig:
    """Sizes of the Whisper encoder; those of its decoder are not kept.

    Raises:
        FileNotFoundError: there is no config.json.
        ValueError: a size is missing, or it is no JSON.
    """
    values = read_json(folder / "config.json")
    names = "num_mel_bins d_model encoder_layers encoder_attention_heads encoder_ffn_dim max_source_positions".split()
    if missing := [name for name in names if name not in values]:
        raise ValueError(f"{folder / 'config.json'} has no {', '.join(missing)}")
    names += "activation_function dropout attention_dropout activation_dropout scale_embedding init_std".split()
    return WhisperConfig(**{name: values[name] for name in names if name in values}, decoder_layers=0)


def speech_tokenizer_config(folder: Path) -> WhisperVQConfig:
    """Sizes of the GLM-4-Voice tokenizer, whose file calls itself a Whisper.

    Raises:
        FileNotFoundError: there is no config.json.
        ValueError: it is no JSON, has unknown keys, or sizes that contradict each other.
    """
    values = read_json(folder / "config.json")
    return WhisperVQConfig.from_dict({key: value for key, value in values.items() if key != "model_type"})


def detokenizer_config(path: Path) -> DetokenizerConfig:
    """The detokenizer of ``config.yaml``, with the release's schedule.

    Chunks of 30 codes, 12 codes of look-ahead, 900 frames of context, 29 Euler steps, no guidance.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it lacks a key, or describes another network.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} is not complete: it has no {path.name}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        dit = values["model"]["dit"]
        rope = dit["rope_params"]
        expected = {
            "normalize_mel": (values["normalize_mel"], True),
            "ffn_type": (dit["ffn_type"], "vanilla_mlp"),
            "use_rope": (dit["use_rope"], True),
            "position_embedding_type": (dit["position_embedding_type"], "skip"),
            "rope_interpolation_factor": (rope["rope_interpolation_factor"], 1),
        }
        sizes = {
            "num_codes": dit["semantic_vocab_size"],
            "hidden_size": dit["hidden_size"],
            "depth": dit["depth"],
            "num_heads": dit["num_heads"],
            "mlp_ratio": float(dit["mlp_ratio"]),
            "num_mels": dit["input_size"],
            "mel_mean": float(values["mel_mean"]),
            "mel_std": float(values["mel_std"]),
            "rope_base": float(rope["rope_base"]),
            "max_positions": rope["max_position_embeddings"],
        }
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    except KeyError as error:
        raise ValueError(f"{path} has no key {error}, which Kimi-Audio's detokenizer needs") from error
    except TypeError as error:
        raise ValueError(f"{path} does not hold the nested keys of Kimi-Audio's detokenizer: {error}") from error
    if wrong := {key: got for key, (got, wanted) in expected.items() if got != wanted}:
        wanted = {key: expected[key][1] for key in wrong}
        raise ValueError(f"{path} describes another network than the released one: expected {wanted}, got {wrong}")
    return DetokenizerConfig(
        **sizes, chunk_tokens=30, look_ahead_tokens=12, max_kv_frames=900, ode_steps=29, cfg_scale=1.0
    )


def vocoder_config(path: Path) -> BigVGANConfig:
    """The vocoder of ``config.json``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no JSON, or sizes do not fit together.
    """
    values = read_json(path)
    names = set(BigVGANConfig.__annotations__)
    needed = names - {"fmin", "fmax", "model_type"}
    if missing := sorted(needed - set(values)):
        raise ValueError(f"{path} has no {', '.join(missing)}, which Kimi-Audio's vocoder needs")
    return BigVGANConfig(**{name: values[name] for name in sorted(names & set(values))})
