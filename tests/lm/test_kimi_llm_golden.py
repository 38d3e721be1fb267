"""The two-stream model against the published Kimi-Audio code: numbers, generated ids, losses, gradients."""

import pytest
import torch
from torch import Tensor

from tests.fixtures.kimi_llm import KimiFixture, everything, generate, our_name

pytestmark = pytest.mark.golden

BOUND = 1e-4  # fp32; the fixture's README


@pytest.fixture(scope="module")
def fixture(golden_dir) -> KimiFixture:
    return KimiFixture(golden_dir("kimi_llm_tiny"))


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=BOUND)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_forward(fixture, attention):
    """Every scenario of one forward: logits, and whatever else its group holds."""
    model, config = fixture.model(attention), fixture.config
    assert fixture.scenarios
    for scenario in fixture.scenarios:
        inputs = fixture.inputs(scenario)
        with torch.no_grad():
            out = model(**inputs, use_cache=True, output_hidden_states=True)
        seen = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).bool()
        close(out.logits[seen], fixture.tensors[f"{scenario}.lm_head_logits"][seen])
        close(out.audio_logits[seen], fixture.tensors[f"{scenario}.mimo_output_logits"][seen])
        cache = out.past_key_values.layers
        assert len(cache) == config.num_hidden_layers + config.num_audio_layers
        inside = {
            "inputs_embeds": lambda out=out: out.hidden_states[0],
            "hidden_after_split_layer": lambda out=out: out.hidden_states[config.audio_branch_layer + 1],
            "vq_adaptor_out": lambda inputs=inputs: model.model.feature_adaptor(inputs["audio_features"]),
            "cache_key_layer0": lambda cache=cache: cache[0].keys,
            "cache_value_mimo_last": lambda cache=cache: cache[-1].values,
        }
        for name, value in inside.items():
            if f"{scenario}.{name}" in fixture.tensors:
                close(value(), fixture.tensors[f"{scenario}.{name}"])


def test_positions_come_from_the_mask(fixture):
    padded = [s for s in fixture.scenarios if f"{s}.position_ids" in fixture.tensors]
    if not padded:
        pytest.skip("no scenario with position_ids")
    from spikeaudio.lm.modeling import positions_of

    for scenario in padded:
        mask = fixture.tensors[f"{scenario}.attention_mask"]
        ours = positions_of(torch.zeros(*mask.shape, 1), mask, None)
        assert torch.equal(ours[mask.bool()], fixture.tensors[f"{scenario}.position_ids"][mask.bool()])


@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_generation(fixture, use_cache):
    """Ids fed back step by step, number of steps, logits of every step; with and without a cache."""
    model, config = fixture.model(), fixture.config
    for name, record in fixture.record["generation"].items():
        out, text, audio = generate(model, fixture, record, legal_tokens=everything(config), use_cache=use_cache)
        assert len(text) == record["steps"], name
        assert text[: len(record["fed_text_tokens"])] == record["fed_text_tokens"], name
        assert audio[: len(record["fed_audio_tokens"])] == record["fed_audio_tokens"], name
        written = text[: text.index(config.text_eos_token_id)] if config.text_eos_token_id in text else text
        assert written == record["returned_text_tokens"], name
        if record["returned_audio_tokens"]:
            assert audio[config.audio_delay :] == record["returned_audio_tokens"], name
        close(torch.cat(out.logits), fixture.tensors[f"gen.{name}.lm_head_logits"])
        close(torch.cat(out.audio_logits), fixture.tensors[f"gen.{name}.mimo_output_logits"])
        # The published result ends with the stop id; our codes hold codes alone.
        codes = [
            i - config.audio_token_offset for i in record["returned_audio_tokens"] if i >= config.audio_token_offset
        ]
        assert out.audio_codes[0].tolist() == codes, name


def shifted_back(fixture: KimiFixture, scenario: str, stream: str) -> Tensor:
    """The fixture's labels are shifted and masked; ours are the streams' own ids, -100 where nothing is learned."""
    labels = fixture.tensors[f"{scenario}.{stream}_labels"]
    mask = fixture.tensors[f"{scenario}.{stream}_loss_mask"]
    ours = torch.full_like(labels, -100)
    ours[:, 1:] = torch.where(mask, labels, -100)[:, :-1]
    return ours


@pytest.mark.parametrize("skip_logits", [True, False])
def test_losses_and_gradients(fixture, skip_logits):
    """The published loss of a stream is sum / (n + 1e-4): ours times n / (n + 1e-4), the weights given here."""
    for name, record in fixture.record["training"].items():
        scenario = f"train.{name}"
        labels = {s: shifted_back(fixture, scenario, s) for s in ("text", "audio")}
        counts = {s: (ids != -100).sum().item() for s, ids in labels.items()}
        weights = {f"{s}_loss_weight": n / (n + 1e-4) for s, n in counts.items()}
        model = fixture.model(**weights).train()
        out = model(
            **fixture.inputs(scenario), labels=labels["text"], audio_labels=labels["audio"], skip_logits=skip_logits
        )
        assert (out.logits is None) == skip_logits
        for stream in ("text", "audio"):
            value = out[f"{stream}_loss"].item() * weights[f"{stream}_loss_weight"]
            assert value == pytest.approx(record[f"{stream}_loss"], abs=BOUND)
        assert out.loss.item() == pytest.approx(record["loss"], abs=BOUND)
        out.loss.backward()
        norms = {k: p.grad.norm().item() if p.grad is not None else 0.0 for k, p in model.named_parameters()}
        expected = {our_name(k): v for k, v in record["grad_norms"].items()}
        assert norms == pytest.approx(expected, rel=1e-4, abs=1e-5)
