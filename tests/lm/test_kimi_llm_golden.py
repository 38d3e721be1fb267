"""The two-stream model against the published Kimi-Audio code: numbers, generated ids, losses, gradients."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from spikeaudio.lm import LegalTokens, SpikeAudioConfig, SpikeAudioForConditionalGeneration

pytestmark = pytest.mark.golden

BOUND = 1e-4  # fp32; the fixture's README
RENAMED = {
    "model.mimo_layers.": "model.audio_layers.",
    "model.mimo_norm.": "model.audio_norm.",
    "mimo_output.": "audio_head.",
    "model.vq_adaptor.layers.0.": "model.feature_adaptor.in_proj.",
    "model.vq_adaptor.layers.3.": "model.feature_adaptor.out_proj.",
    "model.vq_adaptor.layers.4.": "model.feature_adaptor.norm.",
}
SAME_NAME = (
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads hidden_act "
    "initializer_range rms_norm_eps rope_theta max_position_embeddings"
).split()


def our_name(key: str) -> str:
    for theirs, ours in RENAMED.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return key


def our_config(theirs: dict, special: dict) -> SpikeAudioConfig:
    return SpikeAudioConfig(
        **{name: theirs[name] for name in SAME_NAME},
        num_audio_layers=theirs["kimia_mimo_layers"],
        audio_branch_layer=theirs["kimia_mimo_transformer_from_layer_index"],
        audio_delay=theirs["kimia_mimo_audiodelaytokens"],
        audio_token_offset=theirs["kimia_token_offset"],
        num_audio_codes=theirs["vocab_size"] - theirs["kimia_token_offset"],
        audio_feature_dim=theirs["kimia_adaptor_input_dim"],
        pad_token_id=special["pad"],
        blank_token_id=special["kimia_text_blank"],
        text_eos_token_id=special["kimia_text_eos"],
        media_begin_token_id=special["media_begin"],
        media_end_token_id=special["media_end"],
        msg_end_token_id=special["msg_end"],
        user_start_token_id=special["kimia_user_msg_start"],
        assistant_start_token_id=special["kimia_assistant_msg_start"],
        speech_text_token_id=special["kimia_speech_ct_id"],
        speech_both_token_id=special["kimia_speech_ctd_id"],
    )


class Fixture:
    def __init__(self, folder: Path) -> None:
        self.record = json.loads((folder / "fixture.json").read_text())
        self.tensors = load_file(folder / "fixture.safetensors")
        self.config = our_config(json.loads((folder / "config.json").read_text()), self.record["special_tokens"])
        self.weights = {our_name(k): v for k, v in load_file(folder / "model.safetensors").items()}

    def model(self, attention: str = "sdpa", **changes) -> SpikeAudioForConditionalGeneration:
        config = SpikeAudioConfig(**{**self.config.to_dict(), **changes})
        model = SpikeAudioForConditionalGeneration._from_config(config, attn_implementation=attention)
        model.load_state_dict(self.weights)
        return model.eval()

    def inputs(self, scenario: str) -> dict[str, Tensor]:
        """What the scenario's tensors say, in our terms; several segments become one row of features."""
        names = {"text_input_ids": "input_ids", "is_continuous_mask": "audio_feature_mask"}
        inputs = {}
        for name in ("text_input_ids", "audio_input_ids", "is_continuous_mask", "attention_mask"):
            if f"{scenario}.{name}" in self.tensors:
                inputs[names.get(name, name)] = self.tensors[f"{scenario}.{name}"]
        key = f"{scenario}.whisper_input_feature"
        segments = sorted((k for k in self.tensors if k == key or k.startswith(key + ".")), key=lambda k: (len(k), k))
        if segments:
            inputs["audio_features"] = torch.cat([self.tensors[k] for k in segments], dim=1)
        return inputs

    @property
    def scenarios(self) -> list[str]:
        """Names of the groups that hold logits of one forward."""
        end = ".lm_head_logits"
        return sorted(k.removesuffix(end) for k in self.tensors if k.endswith(end) and not k.startswith("gen."))


@pytest.fixture(scope="module")
def fixture(golden_dir) -> Fixture:
    return Fixture(golden_dir("kimi_llm_tiny"))


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


def everything(config: SpikeAudioConfig) -> LegalTokens:
    """No range mask: the published heads may choose any id of either stream."""
    mask = torch.ones(config.vocab_size, dtype=torch.bool)
    return LegalTokens(text=mask, audio=mask)


def generate(model, fixture: Fixture, record: dict, **kwargs):
    inputs = fixture.inputs(record["prompt"])
    sampler = {name.replace("_window_size", "_window"): value for name, value in record.get("sampler", {}).items()}
    length = inputs["input_ids"].shape[1]
    out = model.generate(
        **inputs,
        **sampler,
        **kwargs,
        generation_mode="audio" if record["output_type"] == "both" else "text",
        max_new_tokens=record["max_new_tokens"],
        return_dict_in_generate=True,
        output_logits=True,
    )
    return out, out.sequences[0, length:].tolist(), out.audio_sequences[0, length:].tolist()


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


def test_range_mask_is_deliberate(fixture):
    """The published heads choose ids of the other stream on these weights; ours do not unless asked to."""
    model, config = fixture.model(), fixture.config
    theirs, ours = [], []
    for record in fixture.record["generation"].values():
        out, text, audio = generate(model, fixture, record)
        theirs += [i for i in record["returned_text_tokens"] if i >= config.audio_token_offset]
        ours += [i for i in text if i >= config.audio_token_offset]
        if record["output_type"] == "both":
            stops = {config.msg_end_token_id, config.media_end_token_id}
            spoken = [i for i in audio[config.audio_delay :] if i not in stops]
            assert [i - config.audio_token_offset for i in spoken] == out.audio_codes[0].tolist()
    assert not ours
    if not theirs:
        pytest.skip("no generation of this fixture chose an id of the other stream")


def shifted_back(fixture: Fixture, scenario: str, stream: str) -> Tensor:
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
