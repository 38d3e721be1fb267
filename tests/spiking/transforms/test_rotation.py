"""Fusion, rotations, shifts and injected outliers change no logits of Qwen2 (tied or not), Llama and our model."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)
from transformers.models.qwen2 import modeling_qwen2

from spikeaudio.lm import SpikeAudioConfig, SpikeAudioForConditionalGeneration
from spikeaudio.spiking.transforms.hadamard import (
    OnlineHadamard,
    hadamard_matrix,
    random_signs,
    rotate_inputs,
    rotate_queries_keys,
)
from spikeaudio.spiking.transforms.outliers import BiasedRMSNorm, MeanShift, inject_outliers, shift_inputs
from spikeaudio.spiking.transforms.rotation import (
    end_in_linear,
    find_layout,
    fuse_norms,
    rotate_residual,
    rotate_values,
)

WIDTH, INNER, HEAD, FEATURES, LENGTH = 48, 80, 12, 10, 12
SIZES = {
    "vocab_size": 90,
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
TOKENS = "blank text_eos media_begin media_end msg_end user_start assistant_start speech_text speech_both".split()


def our_model() -> SpikeAudioForConditionalGeneration:
    return SpikeAudioForConditionalGeneration(
        SpikeAudioConfig(
            num_audio_layers=2,
            audio_branch_layer=1,
            audio_token_offset=60,
            num_audio_codes=30,
            audio_feature_dim=FEATURES,
            **{f"{name}_token_id": 40 + i for i, name in enumerate(TOKENS)},
            **SIZES,
        )
    )


MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=False)),
    "qwen2-tied": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=HEAD)),
    "phi3": lambda: Phi3ForCausalLM(Phi3Config(**SIZES, pad_token_id=0)),
    "two streams": our_model,
}


def build(name: str) -> PreTrainedModel:
    """A model whose gains, biases and logits are far from zero, so that an error shows."""
    torch.manual_seed(1)
    model = MODELS[name]().eval()
    with torch.no_grad():
        for path, weight in model.named_parameters():
            if weight.dim() == 1:
                weight.copy_(torch.randn_like(weight) + ("norm.weight" in path))
            else:
                weight.normal_(std=1.0 if "embed" in path else weight.shape[1] ** -0.5)
    return model


def signs(size: int) -> Tensor:
    return random_signs(size, torch.Generator().manual_seed(size))


def fuse_and_rotate_residual(model: PreTrainedModel) -> None:
    fuse_norms(model)
    rotate_residual(model, hadamard_matrix(WIDTH, signs(WIDTH)))


def rotate_each_layers_values(model: PreTrainedModel) -> None:
    layers = len(find_layout(model).blocks)
    rotate_values(model, torch.stack([hadamard_matrix(HEAD, signs(HEAD).roll(i)) for i in range(layers)]))


def rotate_down(model: PreTrainedModel) -> None:
    for layer in [module for module in model.modules() if hasattr(module, "down_proj")]:
        rotate_inputs(layer.down_proj, signs(INNER))
        layer.down_proj = nn.Sequential(OnlineHadamard(INNER, signs(INNER)), layer.down_proj)


def shift(model: PreTrainedModel) -> None:
    """Shift the inputs of every value and down projection."""
    for module in list(model.modules()):
        for name in ("v_proj", "down_proj"):
            if hasattr(module, name):
                linear = getattr(module, name)
                mean = torch.randn(linear.in_features)
                shift_inputs(linear, mean)
                setattr(module, name, nn.Sequential(MeanShift(mean), linear))


def inject(model: PreTrainedModel) -> None:
    inject_outliers(model, share=0.1, generator=torch.Generator().manual_seed(5))


STAGES: dict[str, tuple[Callable[[PreTrainedModel], None], ...]] = {
    "fuse": (fuse_norms,),
    "R1": (fuse_and_rotate_residual,),
    "R2": (rotate_each_layers_values,),
    "R4": (rotate_down,),
    "shift": (shift,),
    "all": (fuse_and_rotate_residual, rotate_each_layers_values, rotate_down),
    "inject": (inject,),
    "inject, all": (inject, fuse_and_rotate_residual, rotate_each_layers_values, rotate_down),
    "fuse, inject, fuse, R1, shift": (fuse_norms, inject, fuse_and_rotate_residual, shift),
}


def prompt(model: PreTrainedModel) -> dict[str, Tensor]:
    """Two rows, the second padded on the left; for our model with heard codes and their features."""
    rng = torch.Generator().manual_seed(2)
    inputs = {
        "input_ids": torch.randint(40, (2, LENGTH), generator=rng),
        "attention_mask": torch.ones(2, LENGTH).long(),
    }
    inputs["attention_mask"][1, :2] = 0
    if isinstance(model, SpikeAudioForConditionalGeneration):
        inputs["audio_input_ids"] = torch.randint(60, 90, (2, LENGTH), generator=rng)
        inputs["audio_feature_mask"] = torch.zeros(2, LENGTH, dtype=torch.bool)
        inputs["audio_feature_mask"][:, 3:7] = True
        inputs["audio_features"] = torch.randn(2, 4, FEATURES, generator=rng)
    return inputs


@torch.no_grad()
def logits(model: PreTrainedModel, **inputs: object) -> Tensor:
    """(B, T, V), or (2, B, T, V) of a model with two heads."""
    outputs = model(**inputs)
    return torch.stack([outputs.logits, outputs.audio_logits]) if "audio_logits" in outputs else outputs.logits


def decoded(model: PreTrainedModel, prefill: int = 8) -> Tensor:
    """The same logits from a prefill and single steps on a cache."""
    cache = DynamicCache(config=model.config)
    inputs, steps = prompt(model), []
    for start, end in [(0, prefill), *((i, i + 1) for i in range(prefill, LENGTH))]:
        part = {name: value[:, start:end] for name, value in inputs.items() if name != "audio_features"}
        part["attention_mask"] = inputs["attention_mask"][:, :end]
        if "audio_features" in inputs and start == 0:
            part["audio_features"] = inputs["audio_features"]
        elif "audio_features" in inputs:
            del part["audio_feature_mask"]
        steps.append(logits(model, **part, past_key_values=cache, use_cache=True))
    return torch.cat(steps, dim=-2)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", MODELS)
def test_logits_stay(name: str, stage: str) -> None:
    model = build(name)
    real = prompt(model)["attention_mask"].bool()
    expected = logits(model, **prompt(model))
    weights = copy.deepcopy(model.state_dict())
    assert expected.std() > 0.5
    for step in STAGES[stage]:
        step(model)
    assert any(not torch.equal(value, weights.get(key, value[:0])) for key, value in model.state_dict().items())
    bound = 1e-3 if "inject" in stage else 1e-4
    assert (logits(model, **prompt(model)) - expected)[..., real, :].abs().max() <= bound
    assert (decoded(model) - expected)[..., real, :].abs().max() <= bound


@pytest.mark.parametrize("name", ["qwen2", "two streams"])
def test_rotated_queries_and_keys(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """R3, with rotated keys in the cache, on top of everything else."""
    model = build(name)
    expected = logits(model, **prompt(model))
    for step in STAGES["all"]:
        step(model)
    rope = modeling_qwen2.apply_rotary_pos_emb
    seen = []

    def rotated(*args: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(args[0].shape[-1])
        return rotate_queries_keys(*rope(*args))

    monkeypatch.setattr(modeling_qwen2, "apply_rotary_pos_emb", rotated)
    real = prompt(model)["attention_mask"].bool()
    assert (decoded(model) - expected)[..., real, :].abs().max() < 1e-4
    assert set(seen) == {HEAD}


def test_any_orthogonal_matrix_rotates() -> None:
    model = build("two streams")
    expected = logits(model, **prompt(model))
    learned = torch.linalg.qr(torch.randn(WIDTH, WIDTH, dtype=torch.float64))[0]
    fuse_norms(model)
    rotate_residual(model, learned.float())
    rotate_values(model, torch.linalg.qr(torch.randn(HEAD, HEAD, dtype=torch.float64))[0])
    assert (logits(model, **prompt(model)) - expected).abs().max() < 1e-4


def test_our_layout() -> None:
    model = build("two streams")
    layout = find_layout(model)
    inner = model.model
    assert layout.embedding is inner.embed_tokens
    assert layout.adaptors == (inner.feature_adaptor,)
    assert [block.down_proj for block in layout.blocks] == [
        layer.mlp.down_proj for layer in (*inner.layers, *inner.audio_layers)
    ]
    assert [(reader.norm, *reader.linears) for reader in layout.heads] == [
        (inner.norm, model.lm_head),
        (inner.audio_norm, model.audio_head),
    ]


def test_rotation_spreads_what_the_residual_stream_holds() -> None:
    model = build("qwen2")
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 5] = 100
    fuse_and_rotate_residual(model)
    assert model.model.embed_tokens.weight.abs().max() < 100 * WIDTH**-0.5 + 6


def test_an_untied_model_saves_and_loads(tmp_path: Path) -> None:
    model = build("qwen2-tied")
    expected = logits(model, **prompt(model))
    fuse_and_rotate_residual(model)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert (logits(loaded, **prompt(loaded)) - expected).abs().max() < 1e-4


def test_our_rotated_weights_load_after_end_in_linear() -> None:
    model = build("two streams")
    fuse_and_rotate_residual(model)
    fresh = our_model().eval()
    for adaptor in find_layout(fresh).adaptors:
        end_in_linear(adaptor, WIDTH)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(logits(fresh, **prompt(fresh)), logits(model, **prompt(model)))
    assert end_in_linear(fresh.model.feature_adaptor, WIDTH) is fresh.model.feature_adaptor.norm[1]


def test_injected_outliers_are_where_they_should_be() -> None:
    model = build("two streams")
    layers = len(find_layout(model).blocks)
    inject(model)
    biases = torch.stack([module.bias for module in model.modules() if isinstance(module, BiasedRMSNorm)])
    assert len(biases) == 2 * layers + 2
    assert biases[biases != 0].abs().min() >= 10 and biases.abs().max() <= 35
    assert (biases != 0).all(0).sum() == (biases != 0).any(0).sum() == round(0.1 * WIDTH)
    assert biases.min() < 0 < biases.max()


def test_injecting_twice_adds_up() -> None:
    model = build("qwen2")
    expected = logits(model, **prompt(model))
    inject(model)
    once = model.model.norm.bias.clone()
    inject(model)
    torch.testing.assert_close(model.model.norm.bias, 2 * once)
    assert (logits(model, **prompt(model)) - expected).abs().max() < 2e-3


def test_bfloat16_weights_keep_their_dtype() -> None:
    model = build("two streams").bfloat16()
    for step in STAGES["all"]:
        step(model)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert logits(model, **prompt(model)).isfinite().all()


def test_unknown_parts_are_refused() -> None:
    model = build("qwen2")
    model.model.positions = nn.Embedding(4, WIDTH)
    with pytest.raises(ValueError, match=r"model\.positions \(Embedding\) of Qwen2ForCausalLM is no known part"):
        find_layout(model)
    model = build("qwen2")
    model.model.layers[1].extra_norm = nn.LayerNorm(WIDTH)
    with pytest.raises(ValueError, match=r"layers\.1 must consist of .*got \['extra_norm'"):
        find_layout(model)
    with pytest.raises(ValueError, match="one head per final norm, got 3 layers"):
        find_layout(build("qwen2").model)
    model = build("qwen2")
    rotate_down(model)
    with pytest.raises(ValueError, match=r"mlp\.down_proj of Qwen2ForCausalLM must be a linear layer, got Seq"):
        fuse_norms(model)


def test_other_architectures_are_named() -> None:
    experts = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16, "head_dim": HEAD}
    model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZES, **experts))
    with pytest.raises(ValueError, match="Qwen3MoeForCausalLM"):
        find_layout(model)
    model = build("two streams")
    model.model.vision_encoder = nn.Linear(3, WIDTH)
    assert find_layout(model).encoders[-1] is model.model.vision_encoder
    model = build("qwen2")
    model.model.vision_encoder = nn.Linear(3, WIDTH)
    with pytest.raises(ValueError, match=r"Qwen2ForCausalLM has an encoder, but no module named \.\.\.adaptor"):
        find_layout(model)


def test_errors() -> None:
    model = build("qwen2")
    with pytest.raises(ValueError, match="call fuse_norms first"):
        rotate_residual(model, hadamard_matrix(WIDTH))
    with pytest.raises(ValueError, match=r"expected a rotation of shape \(48, 48\), got \(12, 12\)"):
        rotate_residual(model, hadamard_matrix(HEAD))
    with pytest.raises(ValueError, match="must be orthonormal"):
        rotate_values(model, 2 * hadamard_matrix(HEAD))
    with pytest.raises(ValueError, match=r"mean must have shape \(48,\), got \(12,\)"):
        shift_inputs(model.lm_head, torch.zeros(HEAD))
    with pytest.raises(ValueError, match=r"a share in \(0, 1\]"):
        inject_outliers(model, share=0)
    inject(model)
    with torch.no_grad():
        model.model.norm.weight.zero_()
    with pytest.raises(ValueError, match="whose gain is 0"):
        fuse_norms(model)
