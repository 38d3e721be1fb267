"""The 7B model on the meta device: numbers of parameters, every published key and shape, from configurations alone.

The lists are built here from the published layout's description, not from our tables: index of the language model
(453 keys), Whisper-large-v3's encoder, the DiT, BigVGAN in its weight-norm form (1206 keys), the GLM-4-Voice tokenizer.
"""

import json
import math
from pathlib import Path

import pytest
import torch
import yaml

from spikeaudio.detokenizer.modeling import FlowMatchingDetokenizer
from spikeaudio.lm.audio_encoder import WhisperFeatureEncoder
from spikeaudio.lm.modeling import SpikeAudioForConditionalGeneration
from spikeaudio.loading.kimi import weight_names
from spikeaudio.loading.kimi.configuration import (
    detokenizer_config,
    encoder_config,
    published_config,
    speech_tokenizer_config,
    vocoder_config,
)
from spikeaudio.loading.kimi.weight_names import WeightNames
from spikeaudio.tokenizer.whisper_vq import WhisperVQEncoder
from spikeaudio.vocoder.bigvgan import BigVGAN, fold_weight_norm

ROOT = Path(__file__).resolve().parents[3]
Keys = dict[str, tuple[int, ...]]
ENCODER = {
    "num_mel_bins": 128,
    "d_model": 1280,
    "encoder_layers": 32,
    "encoder_attention_heads": 20,
    "encoder_ffn_dim": 5120,
    "max_source_positions": 1500,
}


def language_model_keys() -> Keys:
    """The published index, its 34 rotary buffers included."""
    width, inner, head, kv, vocabulary = 3584, 18944, 128, 512, 168448
    keys: Keys = {
        "model.embed_tokens.weight": (vocabulary, width),
        "model.norm.weight": (width,),
        "model.mimo_norm.weight": (width,),
        "lm_head.weight": (vocabulary, width),
        "mimo_output.weight": (vocabulary, width),
    }
    for layer in [f"model.layers.{i}." for i in range(28)] + [f"model.mimo_layers.{i}." for i in range(6)]:
        keys |= {f"{layer}{norm}_layernorm.weight": (width,) for norm in ("input", "post_attention")}
        for name, size in {"q": width, "k": kv, "v": kv}.items():
            keys |= {
                f"{layer}self_attn.{name}_proj.weight": (size, width),
                f"{layer}self_attn.{name}_proj.bias": (size,),
            }
        keys[f"{layer}self_attn.o_proj.weight"] = (width, width)
        keys |= {f"{layer}mlp.{name}_proj.weight": (inner, width) for name in ("gate", "up")}
        keys[f"{layer}mlp.down_proj.weight"] = (width, inner)
        keys[f"{layer}self_attn.rotary_emb.inv_freq"] = (head // 2,)
    adaptor = {0: (width, 5120), 3: (width, width), 4: (width,)}
    for index, shape in adaptor.items():
        keys |= {f"model.vq_adaptor.layers.{index}.weight": shape, f"model.vq_adaptor.layers.{index}.bias": (width,)}
    return keys


def whisper_layer_keys(prefix: str, width: int, inner: int) -> Keys:
    linear = {
        "self_attn.q_proj": (width, width),
        "self_attn.v_proj": (width, width),
        "self_attn.out_proj": (width, width),
    }
    linear |= {"fc1": (inner, width), "fc2": (width, inner)}
    keys: Keys = {f"{prefix}self_attn.k_proj.weight": (width, width)}
    for name, shape in linear.items():
        keys |= {f"{prefix}{name}.weight": shape, f"{prefix}{name}.bias": shape[:1]}
    for name in ("self_attn_layer_norm", "final_layer_norm"):
        keys |= {f"{prefix}{name}.weight": (width,), f"{prefix}{name}.bias": (width,)}
    return keys


def encoder_keys(prefix: str, layers: int, positions: int = 1500) -> Keys:
    width, inner = 1280, 5120
    keys: Keys = {
        f"{prefix}conv1.weight": (width, 128, 3),
        f"{prefix}conv1.bias": (width,),
        f"{prefix}conv2.weight": (width, width, 3),
        f"{prefix}conv2.bias": (width,),
        f"{prefix}embed_positions.weight": (positions, width),
    }
    for index in range(layers):
        keys |= whisper_layer_keys(f"{prefix}layers.{index}.", width, inner)
    return keys


def detokenizer_keys() -> Keys:
    """Behind ``speech_model.``."""
    width, inner = 2304, 9216
    linear = {
        "input_linear": (width, 80),
        "t_embedder.mlp.0": (width, 256),
        "t_embedder.mlp.2": (width, width),
        "final_layer.adaLN_modulation.1": (2 * width, width),
        "final_layer.linear": (80, width),
    }
    for index in range(16):
        linear |= {
            f"blocks.{index}.attn.qkv": (3 * width, width),
            f"blocks.{index}.attn.proj": (width, width),
            f"blocks.{index}.mlp.fc1": (inner, width),
            f"blocks.{index}.mlp.fc2": (width, inner),
            f"blocks.{index}.adaLN_modulation.1": (6 * width, width),
        }
    keys: Keys = {"semantic_token_embedding.weight": (16385, width)}
    for name, shape in linear.items():
        keys |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return keys


def vocoder_keys(config: dict) -> Keys:
    """BigVGAN in its published form: pairs of weight norm, filters as buffers."""
    keys: Keys = {}

    def convolution(name: str, shape: tuple[int, ...], bias: int | None) -> None:
        keys[f"{name}.weight_v"] = shape
        keys[f"{name}.weight_g"] = (shape[0], *[1] * (len(shape) - 1))
        if bias is not None:
            keys[f"{name}.bias"] = (bias,)

    def activation(name: str, channels: int) -> None:
        keys.update({f"{name}.act.alpha": (channels,), f"{name}.act.beta": (channels,)})
        keys.update({f"{name}.upsample.filter": (1, 1, 12), f"{name}.downsample.lowpass.filter": (1, 1, 12)})

    channels = config["upsample_initial_channel"]
    convolution("conv_pre", (channels, config["num_mels"], 7), channels)
    for stage, kernel in enumerate(config["upsample_kernel_sizes"]):
        convolution(f"ups.{stage}.0", (channels, channels // 2, kernel), channels // 2)
        channels //= 2
        for block, size in enumerate(config["resblock_kernel_sizes"]):
            name = f"resblocks.{stage * len(config['resblock_kernel_sizes']) + block}"
            for index in range(3):
                convolution(f"{name}.convs1.{index}", (channels, channels, size), channels)
                convolution(f"{name}.convs2.{index}", (channels, channels, size), channels)
            for index in range(6):
                activation(f"{name}.activations.{index}", channels)
    activation("activation_post", channels)
    convolution("conv_post", (1, channels, 7), None)
    return keys


@pytest.fixture(scope="module")
def full_size(tmp_path_factory) -> Path:
    """The configurations of the 7B model, without weights."""
    folder = tmp_path_factory.mktemp("full")
    config = {
        "architectures": ["MoonshotKimiaForCausalLM"],
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_position_embeddings": 8192,
        "vocab_size": 168448,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "kimia_mimo_layers": 6,
        "kimia_mimo_transformer_from_layer_index": 21,
        "kimia_mimo_audiodelaytokens": 6,
        "kimia_token_offset": 152064,
        "kimia_text_output_vocab": 152064,
        "kimia_audio_output_vocab": 16896,
        "kimia_adaptor_input_dim": 5120,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    vocoder = {
        "resblock": "1",
        "upsample_rates": [5, 2, 2, 2, 2, 3, 2],
        "upsample_kernel_sizes": [9, 4, 4, 4, 4, 5, 4],
        "upsample_initial_channel": 2048,
        "resblock_kernel_sizes": [3, 5, 7, 11],
        "resblock_dilation_sizes": [[1, 3, 5]] * 4,
        "use_tanh_at_final": False,
        "use_bias_at_final": False,
        "activation": "snakebeta",
        "snake_logscale": True,
        "num_mels": 80,
        "n_fft": 1024,
        "hop_size": 480,
        "win_size": 1024,
        "sampling_rate": 24000,
        "fmin": 0,
        "fmax": None,
        "segment_size": 24000,
    }
    dit = {
        "input_size": 80,
        "semantic_vocab_size": 16384,
        "hidden_size": 2304,
        "depth": 16,
        "num_heads": 18,
        "mlp_ratio": 4,
        "ffn_type": "vanilla_mlp",
        "use_rope": True,
        "rope_params": {"max_position_embeddings": 4096, "rope_base": 10000, "rope_interpolation_factor": 1},
        "position_embedding_type": "skip",
        "max_seq_len": 4096,
    }
    tokenizer = ENCODER | {"encoder_layers": 32, "quantize_position": 16, "pooling_position": 16}
    for name, values in {
        "": config,
        "vocoder": vocoder,
        "whisper-large-v3": ENCODER,
        "speech_tokenizer": tokenizer,
    }.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "config.json").write_text(json.dumps(values))
    mel = {"normalize_mel": True, "mel_mean": -4.479605, "mel_std": 3.4584913}
    (folder / "config.yaml").write_text(yaml.safe_dump(mel | {"model": {"dit": dit}}))
    return folder


def meta(keys: Keys) -> dict[str, torch.Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in keys.items()}


def on_meta(model_class: type, config: object) -> torch.nn.Module:
    with torch.device("meta"):
        return model_class(config)


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def check(names: WeightNames, published: Keys, model: torch.nn.Module) -> None:
    """Every published key has its place in the model, and every weight of the model comes from one."""
    names.check(names.rename(meta(published), Path("published")), model, Path("published"))


def test_language_model(full_size):
    keys = language_model_keys()
    assert len(keys) == 453 == 419 + 34
    stored = [name for name in keys if not name.endswith("inv_freq")]
    assert sum(math.prod(keys[name]) for name in stored) == 9_766_334_464
    assert sum(2 * math.prod(shape) for shape in keys.values()) == 19_532_673_280  # total_size of the index, bf16
    config = published_config(full_size).to_spikeaudio(None)
    model = on_meta(SpikeAudioForConditionalGeneration, config)
    assert parameters(model) == 9_766_334_464
    check(weight_names.LANGUAGE_MODEL, keys, model)
    assert (config.audio_delay, config.num_audio_codes, config.pad_token_id) == (6, 16384, 152063)
    specials = [config.msg_end_token_id, config.media_begin_token_id, config.media_end_token_id]
    specials += [config.blank_token_id, config.text_eos_token_id, config.user_start_token_id]
    specials += [config.assistant_start_token_id, config.speech_text_token_id, config.speech_both_token_id]
    assert specials == [151645, 151661, 151663, 151666, 151667, 151670, 151671, 151675, 151676]
    assert config.dtype == torch.bfloat16


def test_language_model_with_its_encoder(full_size):
    decoder = {"model.decoder.embed_tokens.weight": (51866, 1280), "proj_out.weight": (51866, 1280)}
    keys = encoder_keys("model.encoder.", 32)
    keys |= {"model.encoder.layer_norm.weight": (1280,), "model.encoder.layer_norm.bias": (1280,)}
    config = published_config(full_size).to_spikeaudio(encoder_config(full_size / "whisper-large-v3"))
    model = on_meta(SpikeAudioForConditionalGeneration, config)
    weights = weight_names.LANGUAGE_MODEL.rename(meta(language_model_keys()), full_size)
    weights |= weight_names.ENCODER.rename(meta(keys | decoder), full_size)
    weight_names.WITH_ENCODER.check(weights, model, full_size)
    assert parameters(model) - 9_766_334_464 == sum(math.prod(shape) for shape in keys.values()) == 636_968_960


def test_speech_tokenizer(full_size):
    keys = encoder_keys("", 16) | {"codebook.weight": (16384, 1280)}
    training = {"embed_positions2.weight": (375, 1280), "ema_count": (16384,), "ema_weight": (16384, 1280)}
    model = on_meta(WhisperVQEncoder, speech_tokenizer_config(full_size / "speech_tokenizer"))
    check(weight_names.SPEECH_TOKENIZER, keys | training, model)


def test_detokenizer(full_size):
    keys = detokenizer_keys()
    assert sum(math.prod(shape) for shape in keys.values()) == 1_584_023_120
    model = on_meta(FlowMatchingDetokenizer, detokenizer_config(full_size / "config.yaml"))
    assert parameters(model) == 1_584_023_120
    check(weight_names.DETOKENIZER, keys, model)


def test_vocoder(full_size):
    path = full_size / "vocoder" / "config.json"
    keys = vocoder_keys(json.loads(path.read_text()))
    assert len(keys) == 1206
    weights = weight_names.VOCODER.rename(fold_weight_norm(meta(keys)), path)
    model = on_meta(BigVGAN, vocoder_config(path))
    weight_names.VOCODER.check(weights, model, path)
    assert round(parameters(model) / 1e6) == 241


def test_a_missing_and_a_strange_key_are_listed_under_their_published_names(full_size):
    keys = detokenizer_keys()
    model = on_meta(FlowMatchingDetokenizer, detokenizer_config(full_size / "config.yaml"))
    del keys["blocks.3.adaLN_modulation.1.bias"]
    with pytest.raises(ValueError, match=r"missing: blocks\.3\.adaLN_modulation\.1\.bias$"):
        check(weight_names.DETOKENIZER, keys, model)
    for index in range(20):
        keys[f"resampler.{index}"] = (1,)
    with pytest.raises(ValueError, match=r"no place in the model: resampler\.0, .* and 12 more$"):
        check(weight_names.DETOKENIZER, keys, model)


def test_the_memory_table_of_the_checkpoints_readme(full_size):
    encoder = encoder_config(full_size / "whisper-large-v3")
    language_model = published_config(full_size)
    sizes = {
        "language model": parameters(on_meta(SpikeAudioForConditionalGeneration, language_model.to_spikeaudio(None))),
        "its Whisper encoder": parameters(on_meta(WhisperFeatureEncoder, encoder)),
        "speech tokenizer (always float32)": sum(
            tensor.numel()
            for tensor in on_meta(WhisperVQEncoder, speech_tokenizer_config(full_size / "speech_tokenizer"))
            .state_dict()
            .values()
        ),
        "detokenizer": parameters(on_meta(FlowMatchingDetokenizer, detokenizer_config(full_size / "config.yaml"))),
        "vocoder": parameters(on_meta(BigVGAN, vocoder_config(full_size / "vocoder" / "config.json"))),
    }
    half = {name: 4 * count if "always" in name else 2 * count for name, count in sizes.items()}
    rows = [(name, count, 4 * count, half[name]) for name, count in sizes.items()]
    rows.append(("all", sum(sizes.values()), 4 * sum(sizes.values()), sum(half.values())))
    readme = (ROOT / "docs" / "kimi_audio.md").read_text()
    for name, count, single, bfloat in rows:
        assert f"| {name} | {count:,} | {single / 1e9:.2f} | {bfloat / 1e9:.2f} |" in readme, name
    cache = 2 * 2 * 34 * language_model.num_key_value_heads * 128  # keys and values, bytes, layers, heads, channels
    assert f"{cache:,} bytes per position" in readme and f"{cache * 8192 / 1e9:.2f} GB for all 8,192" in readme
