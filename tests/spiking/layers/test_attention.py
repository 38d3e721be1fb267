"""Spiking attention: close to the dense one, causal, and one with its cache of counts."""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import DynamicCache, Qwen2ForCausalLM

from spikeaudio.spiking.config import GIFConfig
from spikeaudio.spiking.conversion import to_dense, to_spiking
from spikeaudio.spiking.kernels.execution import event_driven
from spikeaudio.spiking.layers.attention import NAME, attention_products, code_states
from spikeaudio.spiking.layers.cache import SpikingCache, cache_for, decode_states, encode_states
from spikeaudio.spiking.preparation.calibration import calibrate
from spikeaudio.spiking.preparation.settings import ConversionSettings
from spikeaudio.spiking.transforms.hadamard import rotate_queries_keys
from tests.fixtures.tiny_qwen2 import tiny_qwen2

IDS = torch.tensor([[1, 5, 9, 3, 7, 2, 8, 4]])


@pytest.fixture
def model() -> Qwen2ForCausalLM:
    return tiny_qwen2(hidden_size=64, attn_implementation=NAME, initializer_range=0.3)


def test_products_are_close_to_the_dense_ones() -> None:
    q, k, v = (torch.randn(2, 3, 12, 32) for _ in range(3))
    mask = torch.full((12, 12), -1e9).triu(1)[None, None]
    q, k = rotate_queries_keys(q, k)
    out, weights, _ = attention_products(q, k, v, mask, 32**-0.5)
    scores = q @ k.transpose(2, 3) * 32**-0.5 + mask
    expected = scores.softmax(-1)
    assert (weights - expected).abs().max() < 0.15
    assert (out - expected @ v).norm() / (expected @ v).norm() < 0.2  # 4-bit queries, keys and values
    assert not weights.masked_select(mask.expand_as(weights) < 0).any()


def test_products_are_integer_accumulations() -> None:
    q, k, v = (torch.randn(1, 1, 5, 16) for _ in range(3))
    out, _, planes = attention_products(q, k, v, None, 0.25)
    w, v_counts = planes[3], planes[2].counts
    sums = event_driven(w, v_counts[0, 0].T.to(torch.int8).contiguous())
    assert torch.equal(out, sums * w.scale)


def test_queries_share_heads() -> None:
    q, k, v = torch.randn(2, 6, 5, 16), torch.randn(2, 2, 5, 16), torch.randn(2, 2, 5, 16)
    out, weights, planes = attention_products(q, k, v, None, 0.25)
    repeated = attention_products(q, *(states.repeat_interleave(3, 1) for states in (k, v)), None, 0.25)
    assert torch.equal(out, repeated[0]) and torch.equal(weights, repeated[1])
    assert [plane.counts.shape[1] for plane in planes] == [6, 6, 6, 6]


def test_gradients_pass_through_what_is_computed() -> None:
    q, k, v = torch.randn(1, 4, 5, 16), torch.randn(1, 2, 5, 16), torch.randn(1, 2, 5, 16)
    mask = torch.full((5, 5), torch.finfo(torch.float32).min).triu(1)[None, None]
    out, weights, _ = attention_products(q, k, v, mask, 0.25)
    for states in (q, k, v):
        states.requires_grad_()
    trained, trained_weights, _ = attention_products(q, k, v, mask, 0.25)
    torch.testing.assert_close(trained, out, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(trained_weights, weights, rtol=1e-5, atol=1e-5)
    wanted = torch.randn_like(out)
    gradients = torch.autograd.grad((trained * wanted).sum(), (q, k, v))
    key, value = (states.repeat_interleave(2, 1) for states in (k, v))
    dense = ((q @ key.transpose(2, 3) * 0.25 + mask).softmax(-1) @ value * wanted).sum()
    for gradient, expected in zip(gradients, torch.autograd.grad(dense, (q, k, v)), strict=True):
        assert torch.cosine_similarity(gradient.flatten(), expected.flatten(), dim=0) > 0.95


def test_a_position_is_coded_from_itself_alone() -> None:
    states = torch.randn(1, 2, 6, 8)
    before = code_states(states)
    later = torch.cat([states, 100 * torch.randn(1, 2, 3, 8)], dim=2)
    assert torch.equal(code_states(later).counts[:, :, :6], before.counts)


def test_model_is_causal(model: Qwen2ForCausalLM) -> None:
    changed = IDS.clone()
    changed[0, -1] = 30
    with torch.no_grad():
        one, other = model(IDS).logits, model(changed).logits
    assert torch.equal(one[:, :-1], other[:, :-1])
    assert not torch.equal(one[:, -1], other[:, -1])


def test_entries_come_back_and_stay(size: int = 32) -> None:
    states = torch.randn(2, 3, 5, size)
    entry = encode_states(states)
    assert entry.dtype == torch.uint8 and entry.shape == (2, 3, 5, size // 2 + 2)
    decoded = decode_states(entry, size)
    assert (decoded - states).abs().max() <= states.abs().max() / 7 * 0.51
    assert torch.equal(decode_states(encode_states(decoded), size), decoded)
    assert not decode_states(encode_states(torch.zeros(1, 1, 1, size)), size).any()


def test_cached_decoding_equals_the_whole_pass(model: Qwen2ForCausalLM) -> None:
    with torch.no_grad():
        whole = model(IDS, past_key_values=SpikingCache()).logits
        cache, steps = SpikingCache(), []
        for part in (IDS[:, :3], IDS[:, 3:4], IDS[:, 4:]):
            steps.append(model(part, past_key_values=cache).logits)
        plain = model(IDS).logits
    torch.testing.assert_close(torch.cat(steps, 1), whole, rtol=1e-4, atol=1e-4)
    assert cache.get_seq_length() == 8
    assert cache.num_bytes == 2 * 2 * 2 * 8 * (16 // 2 + 2)  # layers, keys and values, heads, positions, bytes
    torch.testing.assert_close(whole, plain, rtol=1e-4, atol=1e-4)  # a cache changes nothing: counts are counts


def test_generation_runs_on_counts(model: Qwen2ForCausalLM) -> None:
    cache = SpikingCache()
    out = model.generate(IDS, past_key_values=cache, max_new_tokens=5, do_sample=False, pad_token_id=0)
    again = model.generate(IDS, past_key_values=SpikingCache(), max_new_tokens=5, do_sample=False, pad_token_id=0)
    assert torch.equal(out, again) and out.shape == (1, 13)
    dense = DynamicCache()
    model(IDS, past_key_values=dense)
    assert dense.layers[0].keys[0, 0].numel() * 4 / 8 == 64  # bytes a position takes there in fp32; 10 here


def test_beams_reorder_the_cache(model: Qwen2ForCausalLM) -> None:
    out = model.generate(
        IDS, past_key_values=SpikingCache(), num_beams=3, max_new_tokens=4, do_sample=False, pad_token_id=0
    )
    assert out.shape == (1, 12)


def test_dropout_is_refused(model: Qwen2ForCausalLM) -> None:
    model.config.attention_dropout = 0.1
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.1
    with pytest.raises(ValueError, match=r"no dropout, got attention_dropout = 0\.1"):
        model.train()(IDS)


def test_attention_is_a_property_of_a_checkpoint(tmp_path: Path) -> None:
    tiny_qwen2(hidden_size=64, initializer_range=0.3).save_pretrained(tmp_path / "dense")
    config = GIFConfig(attention=True)
    model = Qwen2ForCausalLM.from_pretrained(tmp_path / "dense", quantization_config=config).eval()
    assert isinstance(cache_for(model), SpikingCache)
    with torch.no_grad():
        spiking = model(IDS).logits
    plain = Qwen2ForCausalLM.from_pretrained(tmp_path / "dense", quantization_config=GIFConfig()).eval()
    assert cache_for(plain) is None
    with torch.no_grad():
        assert not torch.equal(plain(IDS).logits, spiking)
    asked = ConversionSettings(GIFConfig(attention=True, rotate=True, shift=True), "gptq")
    calibrate(model, [{"input_ids": IDS}], asked)
    with torch.no_grad():
        packed = model(IDS).logits
    model.save_pretrained(tmp_path / "packed")
    loaded = Qwen2ForCausalLM.from_pretrained(tmp_path / "packed")
    assert loaded.config._attn_implementation == NAME
    with torch.no_grad():
        assert torch.equal(loaded(IDS).logits, packed)
    to_dense(loaded)
    assert loaded.config._attn_implementation != NAME


def test_attention_of_a_bare_module_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a transformers model, got Sequential"):
        to_spiking(nn.Sequential(OrderedDict(q_proj=nn.Linear(4, 4))), GIFConfig(attention=True))
