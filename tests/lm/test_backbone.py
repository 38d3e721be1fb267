"""Families of layers: Llama's by name, others from outside of the package, and what each keeps of transformers' own."""

import pytest
import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm, LlamaRotaryEmbedding

from spikeaudio.lm import SpikeAudioConfig, SpikeAudioForConditionalGeneration
from spikeaudio.lm.backbone import Backbone, register_backbone

SIZES = {"backbone": "llama", "attention_bias": True, "rope_theta": 5000.0, "rms_norm_eps": 1e-5}


@strict
class ScaledConfig(LlamaConfig):
    """A family of this test's own: what a layer adds is scaled."""

    model_type = "scaled_llama_of_a_test"
    layer_scale: float = 0.5


class ScaledLayer(LlamaDecoderLayer):
    def __init__(self, config: ScaledConfig, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        self.scale = config.layer_scale

    def forward(self, hidden_states: Tensor, **kwargs) -> Tensor:
        return hidden_states + self.scale * (super().forward(hidden_states, **kwargs) - hidden_states)


register_backbone(ScaledConfig, Backbone(ScaledLayer, LlamaRMSNorm, LlamaRotaryEmbedding))


def test_the_trunk_is_transformers_llama(tiny_model) -> None:
    """With an embedding of zero for the blank, a silent audio stream leaves the text logits of LlamaForCausalLM."""
    model = tiny_model(**SIZES)
    config = model.config
    names = set(LlamaConfig.__dataclass_fields__) - {"layer_types"}
    plain = LlamaConfig(**{name: getattr(config, name) for name in names})
    llama = LlamaForCausalLM(plain).eval()
    missing = llama.load_state_dict(model.state_dict(), strict=False).missing_keys
    assert not missing
    ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
    with torch.no_grad():
        model.model.embed_tokens.weight[config.blank_token_id] = 0
        torch.testing.assert_close(model(ids).logits, llama(ids).logits, rtol=0, atol=1e-5)
        assert model.model.layers[0].self_attn.q_proj.bias is not None


@pytest.mark.parametrize("backbone", ["llama", "mistral", "qwen3", "scaled_llama_of_a_test"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_family_trains_generates_and_is_saved(tiny_model, prompt, tmp_path, backbone, tied) -> None:
    model = tiny_model(backbone=backbone, tie_word_embeddings=tied)
    inputs = prompt(model.config, codes=3, text=2, seed=0)
    labels = {"labels": inputs["input_ids"], "audio_labels": inputs["audio_input_ids"]}
    before = [parameter.clone() for parameter in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(**inputs, **labels).loss.backward()
    optimizer.step()
    changed = [not torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True)]
    assert sum(changed) > 0.9 * len(changed)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    assert model.audio_head.weight is not model.model.embed_tokens.weight
    how = {"generation_mode": "audio", "max_new_tokens": 8, "return_dict_in_generate": True, "output_logits": True}
    out = model.generate(**inputs, **how)
    uncached = model.generate(**inputs, **how, use_cache=False)
    assert torch.equal(out.audio_sequences, uncached.audio_sequences)
    model.save_pretrained(tmp_path)
    again = SpikeAudioForConditionalGeneration.from_pretrained(tmp_path)
    assert type(again.model.layers[0]) is type(model.model.layers[0])
    assert again.config.to_dict() | {"dtype": None} == model.config.to_dict() | {
        "dtype": None,
        "architectures": again.config.architectures,
        "_name_or_path": again.config.to_dict().get("_name_or_path"),
    }
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    same = again.generate(**inputs, **how)
    torch.testing.assert_close(torch.stack(same.logits), torch.stack(out.logits), rtol=0, atol=1e-5)
    assert torch.equal(same.audio_sequences, out.audio_sequences)


def test_a_familys_own_fields(tiny_config) -> None:
    assert tiny_config().backbone == "qwen2"
    config = tiny_config(backbone="llama")
    assert (config.mlp_bias, config.head_dim, config.rope_parameters["rope_theta"]) == (False, 8, 10_000.0)
    assert tiny_config(backbone=ScaledConfig.model_type, layer_scale=0.1).layer_scale == 0.1
    assert tiny_config(backbone="llama", head_dim=12).head_dim == 12
    for backbone, key in (("qwen2", "layer_scale"), ("llama", "layer_scale")):
        with pytest.raises(ValueError, match=r"unknown keys \['layer_scale'\]"):
            tiny_config(backbone=backbone, **{key: 0.1})


def test_what_is_no_backbone(tiny_config, tiny_model) -> None:
    with pytest.raises(ValueError, match=r"llama, mistral, qwen2, qwen3.*got 'lama'"):
        tiny_config(backbone="lama")
    with pytest.raises(ValueError, match="'gpt2' cannot be a backbone"):
        tiny_model(backbone="gpt2")
    with pytest.raises(ValueError, match="there is a backbone 'llama' already"):
        register_backbone(LlamaConfig, Backbone(LlamaDecoderLayer, LlamaRMSNorm, LlamaRotaryEmbedding))


def test_compiling_breaks_no_graph(tiny_model, prompt) -> None:
    """The check of ids, whose outcome is a number in Python, is not part of the graph of the two stacks."""
    model = tiny_model()
    ids = torch.tensor([[3, 1, 4]])
    explained = torch._dynamo.explain(model.model)(input_ids=ids, audio_input_ids=ids, use_cache=False)
    assert explained.graph_break_count == 0
    torch._dynamo.reset()


def test_a_config_of_before(tiny_config) -> None:
    """A config.json without the key is a Qwen2 model's."""
    stored = tiny_config().to_dict()
    del stored["backbone"]
    assert SpikeAudioConfig(**stored).backbone == "qwen2"
