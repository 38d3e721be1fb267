"""Session: its steps are `generate`'s, and turns, copies and cancelled answers leave each other alone."""

import pytest
import torch
from torch import Tensor

from spikeaudio.lm import LegalTokens, Session, SpikeAudioForConditionalGeneration
from spikeaudio.spiking.layers.attention import NAME
from spikeaudio.spiking.layers.cache import SpikingCache

BOUND = 1e-4
SHAPES = [(3, 1), (9, 4), (0, 6), (5, 0)]  # codes heard, text ids, per prompt
HOW = {"generation_mode": "audio", "max_new_tokens": 12}
SAMPLED = {**HOW, "do_sample": True, "temperature": 1.0, "audio_temperature": 1.0}


def run(session: Session) -> tuple[Tensor, Tensor]:
    """All steps that are left, (B, n) ids of both streams."""
    steps = []
    while not session.finished:
        steps.append(session.step())
    return torch.stack([s.text for s in steps], dim=1), torch.stack([s.audio for s in steps], dim=1)


@pytest.mark.parametrize("how", [{}, {"use_cache": False}, {"cache_implementation": "static"}])
def test_steps_are_what_generate_returns(tiny_model, prompt, left_padded, how) -> None:
    """A batch of unequal prompts: ids, codes and log probabilities."""
    model = tiny_model(seed=11)
    inputs = left_padded(model.config, [prompt(model.config, *shape, seed=s) for s, shape in enumerate(SHAPES)])
    generator = torch.Generator().manual_seed(3)
    out = model.generate(**inputs, **SAMPLED, **how, generator=generator, return_dict_in_generate=True)
    session = Session(model, **SAMPLED, **how)
    session.feed(**inputs, generator=torch.Generator().manual_seed(3))
    text, audio = run(session)
    length = inputs["input_ids"].shape[1]
    assert torch.equal(text, out.sequences[:, length:]) and torch.equal(audio, out.audio_sequences[:, length:])
    assert all(torch.equal(*pair) for pair in zip(session.codes, out.audio_codes, strict=True))
    torch.testing.assert_close(torch.stack(session.text_log_probs, dim=1), out.text_log_probs)
    assert (out.text_log_probs <= 0).all() and out.text_log_probs.min() < -1


def test_log_probabilities_are_the_models(tiny_model, prompt) -> None:
    """Of the id that was chosen, among legal ids, without temperature."""
    model = tiny_model()
    inputs = prompt(model.config, codes=2, text=1, seed=0)
    out = model.generate(**inputs, max_new_tokens=4, return_dict_in_generate=True, output_logits=True)
    legal = LegalTokens.of(model.config).text
    for step, logits in enumerate(out.logits):
        expected = (
            logits[0]
            .masked_fill(~legal, -torch.inf)
            .log_softmax(0)[out.sequences[0, inputs["input_ids"].shape[1] + step]]
        )
        torch.testing.assert_close(out.text_log_probs[0, step], expected)


@pytest.mark.parametrize("how", [HOW, SAMPLED], ids=["greedy", "sampled"])
def test_a_clone_goes_on_alike_and_alone(tiny_model, prompt, how) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.audio_head.weight[[model.config.msg_end_token_id, model.config.media_end_token_id]] = 0
    session = Session(model, **how)
    session.feed(**prompt(model.config, codes=4, text=2, seed=0))
    for _ in range(3):
        session.step()
    copy, other = session.clone(), session.clone()
    other.cancel()
    other.feed(**prompt(model.config, codes=1, text=3, seed=5))  # another continuation
    run(other)
    first, second = run(session), run(copy)
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
    assert len(other) != len(session)


def test_cancel_ends_the_answer(tiny_model, prompt) -> None:
    model = tiny_model()
    inputs = prompt(model.config, codes=2, text=1, seed=0)
    session = Session(model, **HOW)
    with pytest.raises(ValueError, match="feed a prompt first"):
        session.step()
    session.feed(**inputs)
    session.step()
    session.cancel()
    assert session.finished and len(session) == inputs["input_ids"].shape[1] + 1
    with pytest.raises(ValueError, match="the answer has ended"):
        session.step()


def test_sessions_on_one_model_do_not_mix(tiny_model, prompt) -> None:
    model = tiny_model()
    prompts = [prompt(model.config, *shape, seed=s) for s, shape in enumerate(SHAPES[:2])]
    alone, mixed = [], [Session(model, **HOW) for _ in prompts]
    for inputs, session in zip(prompts, mixed, strict=True):
        single = Session(model, **HOW)
        single.feed(**inputs)
        run(single)
        alone.append(single)
        session.feed(**inputs)
    while not all(session.finished for session in mixed):
        for session in mixed:
            if not session.finished:
                session.step()
    for single, session in zip(alone, mixed, strict=True):
        assert torch.equal(single.input_ids, session.input_ids)
        assert torch.equal(single.audio_input_ids, session.audio_input_ids)


def joined(session: Session, first: dict[str, Tensor], turn: dict[str, Tensor]) -> dict[str, Tensor]:
    """The whole conversation as one fresh prompt: what the session holds after its first turn, then the next one."""
    assert session.input_ids is not None
    heard = first["audio_feature_mask"]
    past = {
        "input_ids": session.input_ids,
        "audio_input_ids": session.audio_input_ids,
        "audio_feature_mask": torch.nn.functional.pad(heard, (0, len(session) - heard.shape[1])),
        "attention_mask": torch.ones_like(session.input_ids),
    }
    whole = {name: torch.cat([ids, turn[name].to(ids)], dim=1) for name, ids in past.items()}
    return {**whole, "audio_features": torch.cat([first["audio_features"], turn["audio_features"]], dim=1)}


class Counted:
    """Positions that a model was given."""

    def __init__(self, model: SpikeAudioForConditionalGeneration) -> None:
        self.positions = 0
        self.hook = model.model.layers[0].register_forward_pre_hook(self.count)

    def count(self, module: torch.nn.Module, args: tuple[Tensor, ...]) -> None:
        self.positions += args[0].shape[1]


@pytest.mark.parametrize("attention", ["sdpa", NAME])
def test_a_kept_cache_is_a_fresh_prompt_of_everything(tiny_model, prompt, attention) -> None:
    """Two turns with recordings; the second costs its own positions and the last id of the first answer."""
    model = tiny_model(attn_implementation=attention)
    first, second = prompt(model.config, 4, 2, seed=0), prompt(model.config, 6, 1, seed=1)
    cache = SpikingCache() if attention == NAME else None
    session = Session(model, cache, **HOW, output_logits=True)
    session.feed(**first)
    run(session)
    whole = joined(session, first, second)
    counted = Counted(model)
    session.feed(**second)
    assert counted.positions == second["input_ids"].shape[1] + 1
    run(session)
    fresh = Session(model, SpikingCache() if attention == NAME else None, **HOW, output_logits=True)
    fresh.feed(**whole)
    run(fresh)
    assert torch.equal(session.input_ids, fresh.input_ids)
    assert torch.equal(session.audio_input_ids, fresh.audio_input_ids)
    for name in ("logits", "audio_logits"):
        kept, new = (torch.stack(s.records[name]) for s in (session, fresh))
        torch.testing.assert_close(kept, new, rtol=0, atol=BOUND)


@pytest.mark.parametrize("how", [{}, {"use_cache": False}])
def test_a_batch_talks_on(tiny_model, prompt, left_padded, how) -> None:
    """Rows that end at different steps: what a row had not said does not stand in its past."""
    model = tiny_model(seed=11)
    with torch.no_grad():
        model.audio_head.weight[model.config.msg_end_token_id] *= 3
    turns = [[prompt(model.config, *shape, seed=s + 10 * t) for s, shape in enumerate(SHAPES[:3])] for t in (0, 1)]
    batch = Session(model, **{**HOW, "max_new_tokens": 24}, **how)
    batch.feed(**left_padded(model.config, turns[0]))
    run(batch)
    batch.feed(**left_padded(model.config, turns[1]))
    run(batch)
    lengths = set()
    for row in range(3):
        single = Session(model, **{**HOW, "max_new_tokens": 24})
        for number, turn in enumerate(turns):
            inputs = turn[row]
            if not inputs["audio_features"].shape[1]:
                inputs = {name: value for name, value in inputs.items() if not name.startswith("audio_feature")}
            single.feed(**inputs)
            steps = run(single)[0].shape[1]
            lengths.add((number, steps))
        assert torch.equal(batch.codes[row], single.codes[0]) and torch.equal(batch.text_ids[row], single.text_ids[0])
    assert len(lengths) > 2, "the rows of this test should end at different steps"


def test_rewind_forgets(tiny_model, prompt) -> None:
    """After going back, a turn is answered as if what followed had never been."""
    model = tiny_model()
    first, second, third = (prompt(model.config, codes, 2, seed=codes) for codes in (4, 6, 3))
    session, fresh = Session(model, **HOW), Session(model, **HOW)
    session.feed(**first)
    length = len(session)
    run(session)
    session.feed(**second)
    run(session)
    session.rewind(length)
    fresh.feed(**first)
    fresh.cancel()
    for each in (session, fresh):
        each.feed(**third)
        run(each)
    assert torch.equal(session.input_ids, fresh.input_ids)
    assert torch.equal(session.audio_input_ids, fresh.audio_input_ids)
    session.rewind(0)
    assert len(session) == 0
    with pytest.raises(ValueError, match="of 0 positions cannot go back to position 1"):
        session.rewind(1)
    static = Session(model, **HOW, cache_implementation="static")
    static.feed(**first)
    with pytest.raises(ValueError, match="static cache"):
        static.rewind(2)


def test_bad_turns(tiny_model, prompt) -> None:
    model = tiny_model(max_position_embeddings=30)
    session = Session(model, **HOW)
    session.feed(**prompt(model.config, codes=2, text=1, seed=0))
    with pytest.raises(ValueError, match="this session has 1 rows, got a turn of 2"):
        session.feed(torch.ones(2, 3, dtype=torch.long))
    session.cancel()
    with pytest.raises(ValueError, match="but this model has 30"):
        session.feed(**prompt(model.config, codes=24, text=1, seed=0))
    with pytest.raises(ValueError, match="audio_temprature"):
        session.feed(torch.ones(1, 3, dtype=torch.long), audio_temprature=1.0)
    session.feed(torch.ones(1, 3, dtype=torch.long), max_new_tokens=2)  # a refused turn leaves no trace
    assert len(session) == 8 + 3
