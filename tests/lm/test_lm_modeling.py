"""The model's invariants: causality, fusion, padding, caches, save and load, gradients, adapters, clear errors."""

import math

import pytest
import torch
from transformers import StaticCache

from spikeaudio.lm import SpikeAudioForConditionalGeneration

BOUND = 1e-4


def test_embedding_is_the_equation(tiny_model, prompt):
    model = tiny_model()
    inputs = prompt(model.config, codes=3, text=2, seed=0)
    del inputs["attention_mask"]
    embeds = model.model.embed(**inputs)
    table, k = model.model.embed_tokens.weight, 0
    for t in range(embeds.shape[1]):
        e = table[inputs["audio_input_ids"][0, t]]
        if inputs["audio_feature_mask"][0, t]:
            e = (e + model.model.feature_adaptor(inputs["audio_features"][0, k])) * math.sqrt(2)
            k += 1
        torch.testing.assert_close(embeds[0, t], e + table[inputs["input_ids"][0, t]])


def test_sqrt2_is_taken_in_the_working_dtype(tiny_model, prompt):
    model = tiny_model().bfloat16()
    inputs = prompt(model.config, codes=1, text=0, seed=0)
    del inputs["attention_mask"]
    embeds = model.model.embed(**inputs)
    t = int(inputs["audio_feature_mask"][0].nonzero())
    table = model.model.embed_tokens.weight
    heard = table[inputs["audio_input_ids"][0, t]] + model.model.feature_adaptor(inputs["audio_features"][0, 0])
    expected = heard * torch.tensor(1.4140625, dtype=torch.bfloat16) + table[inputs["input_ids"][0, t]]
    assert embeds.dtype == torch.bfloat16 and torch.equal(embeds[0, t], expected)


def test_audio_stream_defaults_to_blanks(tiny_model):
    model = tiny_model()
    ids = torch.tensor([[1, 2, 3]])
    blanks = torch.full_like(ids, model.config.blank_token_id)
    torch.testing.assert_close(model(ids).audio_logits, model(ids, blanks).audio_logits, rtol=0, atol=0)


def test_causal(tiny_model, prompt):
    model = tiny_model()
    inputs = prompt(model.config, codes=6, text=4, seed=1)
    before = model(**inputs)
    t = 7
    inputs["audio_input_ids"][0, t] = 60
    inputs["input_ids"][0, t] = 5
    after = model(**inputs)
    for name in ("logits", "audio_logits"):
        torch.testing.assert_close(after[name][:, :t], before[name][:, :t], rtol=0, atol=1e-6)
        assert (after[name][:, t] - before[name][:, t]).abs().max() > 1e-2


def test_the_branch_leaves_after_its_layer(tiny_model, prompt):
    """Later trunk layers move the text logits alone, audio layers the audio logits alone."""
    model = tiny_model()
    inputs = prompt(model.config, codes=4, text=4, seed=1)
    before = model(**inputs)
    with torch.no_grad():
        model.model.layers[model.config.audio_branch_layer + 1].mlp.down_proj.weight.mul_(2)
    after = model(**inputs)
    assert torch.equal(after.audio_logits, before.audio_logits) and not torch.equal(after.logits, before.logits)
    with torch.no_grad():
        model.model.audio_layers[0].mlp.down_proj.weight.mul_(2)
    last = model(**inputs)
    assert torch.equal(last.logits, after.logits) and not torch.equal(last.audio_logits, after.audio_logits)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_batch_of_unequal_prompts_is_its_singles(tiny_model, prompt, left_padded, attention):
    model = tiny_model(attn_implementation=attention)
    prompts = [prompt(model.config, codes, text, seed) for seed, (codes, text) in enumerate([(3, 1), (9, 4), (0, 6)])]
    with torch.no_grad():
        batch = model(**left_padded(model.config, prompts))
        for b, inputs in enumerate(prompts):
            if not inputs["audio_features"].shape[1]:
                inputs = {k: v for k, v in inputs.items() if not k.startswith("audio_feature")}
            single, length = model(**inputs), inputs["input_ids"].shape[1]
            for name in ("logits", "audio_logits"):
                torch.testing.assert_close(batch[name][b : b + 1, -length:], single[name], rtol=0, atol=BOUND)


def test_right_padding_needs_no_mask(tiny_model, prompt):
    """Training pads on the right: the causal mask alone keeps padding out of what has a label."""
    model = tiny_model()
    inputs = prompt(model.config, codes=5, text=2, seed=0)
    single = model(**inputs)
    padded = {k: v if k == "audio_features" else torch.nn.functional.pad(v, (0, 4)) for k, v in inputs.items()}
    del padded["attention_mask"]
    length = inputs["input_ids"].shape[1]
    torch.testing.assert_close(model(**padded).logits[:, :length], single.logits, rtol=0, atol=BOUND)


@pytest.mark.parametrize("static", [False, True])
def test_cached_steps_are_the_whole_forward(tiny_model, prompt, static):
    model = tiny_model()
    inputs = prompt(model.config, codes=4, text=3, seed=2)
    more = torch.randint(40, (1, 3)), torch.randint(50, 80, (1, 3))
    whole = model(
        torch.cat([inputs["input_ids"], more[0]], 1),
        torch.cat([inputs["audio_input_ids"], more[1]], 1),
        inputs["audio_features"],
        torch.nn.functional.pad(inputs["audio_feature_mask"], (0, 3)),
    )
    cache = StaticCache(config=model.config, max_cache_len=32) if static else None
    with torch.no_grad():
        out = model(**inputs, use_cache=True, past_key_values=cache)
        length = out.logits.shape[1]
        for i in range(3):
            step = (m[:, i : i + 1] for m in more)
            out = model(*step, past_key_values=out.past_key_values, use_cache=True)
            for name in ("logits", "audio_logits"):
                torch.testing.assert_close(out[name][:, 0], whole[name][:, length + i], rtol=0, atol=BOUND)


def test_hidden_states_and_attentions(tiny_model, prompt):
    model = tiny_model(attn_implementation="eager")
    out = model(**prompt(model.config, codes=4, text=3, seed=2), output_hidden_states=True, output_attentions=True)
    layers = model.config.num_hidden_layers + model.config.num_audio_layers
    assert len(out.hidden_states) == layers + 1 and len(out.attentions) == layers
    trunk = out.hidden_states[model.config.num_hidden_layers]
    torch.testing.assert_close(model.lm_head(model.model.norm(trunk)), out.logits)
    torch.testing.assert_close(model.audio_head(model.model.audio_norm(out.hidden_states[-1])), out.audio_logits)


def test_save_and_load_bit_equal(tiny_model, prompt, tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    again = SpikeAudioForConditionalGeneration.from_pretrained(tmp_path)
    assert {k: v.dtype for k, v in again.state_dict().items()} == {k: v.dtype for k, v in model.state_dict().items()}
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())
    inputs = prompt(model.config, codes=4, text=3, seed=2)
    assert torch.equal(model(**inputs).audio_logits, again(**inputs).audio_logits)


def labelled(config, inputs):
    labels = torch.full_like(inputs["input_ids"], -100)
    audio_labels = labels.clone()
    labels[:, -3:], audio_labels[:, -2:] = 7, 60
    return {**inputs, "labels": labels, "audio_labels": audio_labels}


def test_loss_is_the_mean_over_labels_and_shifts(tiny_model, prompt):
    model = tiny_model(text_loss_weight=2.0, audio_loss_weight=0.5)
    batch = labelled(model.config, prompt(model.config, codes=4, text=3, seed=2))
    out = model(**batch)
    for name, logits, labels in (("text", out.logits, "labels"), ("audio", out.audio_logits, "audio_labels")):
        expected = torch.nn.functional.cross_entropy(logits[0, :-1], batch[labels][0, 1:], ignore_index=-100)
        torch.testing.assert_close(out[f"{name}_loss"], expected)
    torch.testing.assert_close(out.loss, 2 * out.text_loss + 0.5 * out.audio_loss)
    quick = model.train()(**batch)
    assert quick.logits is None and quick.audio_logits is None
    torch.testing.assert_close(quick.loss, out.loss)


def test_a_stream_without_labels_costs_nothing(tiny_model, prompt):
    model = tiny_model()
    batch = labelled(model.config, prompt(model.config, codes=4, text=3, seed=2))
    only_text = model(**{**batch, "audio_labels": None})
    assert only_text.audio_loss == 0 and torch.equal(only_text.loss, only_text.text_loss)
    nothing = model(**{**batch, "labels": torch.full_like(batch["labels"], -100), "audio_labels": None})
    assert nothing.loss == 0


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_every_parameter(tiny_model, prompt, checkpointing):
    model = tiny_model().train()
    batch = labelled(model.config, prompt(model.config, codes=4, text=3, seed=2))
    if checkpointing:
        model.gradient_checkpointing_enable()
    model(**batch, use_cache=False).loss.backward()
    norms = {name: p.grad.norm() for name, p in model.named_parameters()}
    assert all(torch.isfinite(n) and n > 0 for n in norms.values()), norms
    if checkpointing:
        plain = tiny_model().train()
        plain(**batch, use_cache=False).loss.backward()
        for name, p in plain.named_parameters():
            torch.testing.assert_close(p.grad.norm(), norms[name])


def test_with_its_heads_it_compiles_to_one_graph(tiny_model, prompt):
    model = tiny_model().eval()
    inputs = prompt(model.config, codes=0, text=3, seed=2)
    streams = {name: inputs[name] for name in ("input_ids", "audio_input_ids")} | {"use_cache": False}
    whole = torch.compile(model, backend="eager", fullgraph=True)  # a break in the graph is an error
    with torch.no_grad():
        torch.testing.assert_close(whole(**streams).audio_logits, model(**streams).audio_logits, rtol=0, atol=0)


def test_lora_attaches(tiny_model, prompt):
    peft = pytest.importorskip("peft")
    model = tiny_model()
    inputs = prompt(model.config, codes=4, text=3, seed=2)
    before = model(**inputs).logits
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    torch.testing.assert_close(adapted(**inputs).logits, before)
    adapted.train()(**labelled(model.config, inputs)).loss.backward()
    trained = [name for name, p in adapted.named_parameters() if p.grad is not None]
    layers = model.config.num_hidden_layers + model.config.num_audio_layers
    assert len(trained) == layers * 2 * 2 and all("lora_" in name for name in trained)


def test_bad_input_is_one_sentence(tiny_model, prompt):
    model = tiny_model()
    good = prompt(model.config, codes=4, text=3, seed=2)
    ids = good["input_ids"]
    bad = [
        ({"audio_features": good["audio_features"][:, :3]}, "holds 3 features per row, .* marks 4"),
        ({"audio_features": good["audio_features"].repeat(1, 2, 1)}, "holds 8 features per row, .* marks 4"),
        ({"audio_features": good["audio_features"][..., :5]}, r"shape \(batch, count, 12\), got \(1, 4, 5\)"),
        ({"audio_features": good["audio_features"][0]}, r"got \(4, 12\)"),
        ({"audio_features": good["audio_features"].repeat(2, 1, 1)}, "has 2 rows, but input_ids has 1"),
        ({"audio_features": None}, "belong together"),
        ({"audio_feature_mask": good["audio_feature_mask"][:, :-1]}, "audio_feature_mask must have input_ids' shape"),
        ({"audio_input_ids": ids[:, :-1]}, "two streams must have one shape"),
        ({"audio_input_ids": ids + 100}, r"audio_input_ids must lie in \[0, 80\), got .* to 14"),
        ({"input_ids": ids - 60}, r"input_ids must lie in \[0, 80\), got -"),
        ({"input_ids": ids[0]}, r"shape \(batch, length\)"),
        ({"labels": ids[:, :-1]}, "labels must have shape"),
        ({"input_ids": None}, "either input_ids"),
    ]
    for changes, message in bad:
        with pytest.raises(ValueError, match=message):
            model(**{**good, **changes})
