"""Generating two streams: batches, ends of rows, thoughts, sampling, streamers, constraints, caches."""

import pytest
import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from spikeaudio.lm import LegalTokens

BOUND = 1e-4
SHAPES = [(3, 1), (9, 4), (0, 6), (5, 0)]  # codes heard, text ids, per prompt


class Script(LogitsProcessor):
    """Text head that says the given ids, one list per row, and then `rest`."""

    def __init__(self, prompt_length: int, rows: list[list[int]], rest: int) -> None:
        self.prompt_length, self.rows, self.rest = prompt_length, rows, rest

    def __call__(self, input_ids, scores):
        step = input_ids.shape[1] - self.prompt_length
        forced = torch.full_like(scores, -torch.inf)
        for b, said in enumerate(self.rows):
            forced[b, said[step] if step < len(said) else self.rest] = 0
        return forced


def run(model, inputs, **kwargs):
    if "audio_features" in inputs and not inputs["audio_features"].shape[1]:
        inputs = {k: v for k, v in inputs.items() if not k.startswith("audio_feature")}
    kwargs = {"max_new_tokens": 12, "return_dict_in_generate": True, "output_logits": True, **kwargs}
    return model.generate(**inputs, **kwargs)


def new_ids(out, inputs, row=0):
    length = inputs["input_ids"].shape[1]
    return out.sequences[row, length:].tolist(), out.audio_sequences[row, length:].tolist()


@pytest.mark.parametrize("mode", ["text", "audio"])
@pytest.mark.parametrize("seed", [3, 11])
def test_batch_is_its_singles(tiny_model, prompt, left_padded, mode, seed):
    """Left-padded prompts of unequal length: the same ids exactly, logits within the bound, ends at different steps."""
    model = tiny_model(seed=seed)
    with torch.no_grad():  # ends come often enough to see rows end at different steps
        model.lm_head.weight[model.config.text_eos_token_id] *= 3
        model.audio_head.weight[model.config.msg_end_token_id] *= 3
    prompts = [prompt(model.config, *shape, seed=s) for s, shape in enumerate(SHAPES)]
    inputs = left_padded(model.config, prompts)
    batch = run(model, inputs, generation_mode=mode, max_new_tokens=24)
    steps = []
    for b, single_inputs in enumerate(prompts):
        single = run(model, single_inputs, generation_mode=mode, max_new_tokens=24)
        (text, audio), (all_text, all_audio) = new_ids(single, single_inputs), new_ids(batch, inputs, b)
        steps.append(len(text))
        blanks = [model.config.blank_token_id] * (len(all_text) - len(text))
        assert all_text == text + blanks and all_audio == audio + blanks
        assert batch.audio_codes[b].tolist() == single.audio_codes[0].tolist()
        for name in ("logits", "audio_logits"):
            ours = torch.stack(batch[name])[: len(text), b]
            torch.testing.assert_close(ours, torch.stack(single[name])[:, 0], rtol=0, atol=BOUND)
    assert len(set(steps)) > 1, "the rows of this test should end at different steps"


def test_legal_ids(tiny_config):
    config = tiny_config(think_end_token_id=49)
    legal = LegalTokens.of(config)
    assert legal.text.nonzero().flatten().tolist() == [*range(40), config.text_eos_token_id, 49]
    told_apart = LegalTokens.of(tiny_config(think_end_token_id=49, num_text_tokens=30))
    assert told_apart.text.nonzero().flatten().tolist() == [*range(30), config.text_eos_token_id, 49]
    stops = sorted([config.media_end_token_id, config.msg_end_token_id])
    assert legal.audio.nonzero().flatten().tolist() == [*stops, *range(50, 80)]


@pytest.mark.parametrize("delay", [0, 3])
def test_audio_waits_for_the_delay_and_outlasts_the_text(tiny_model, prompt, delay):
    model = tiny_model(audio_delay=delay)
    inputs, config = prompt(model.config, codes=2, text=1, seed=0), model.config
    with torch.no_grad():
        model.audio_head.weight[[config.msg_end_token_id, config.media_end_token_id]] = 0
        model.audio_head.weight[60] = 0  # all zero or negative: some code always beats the stops
    script = LogitsProcessorList([Script(inputs["input_ids"].shape[1], [[5, config.text_eos_token_id]], 7)])
    out = run(model, inputs, generation_mode="audio", logits_processor=script)
    text, audio = new_ids(out, inputs)
    blank = config.blank_token_id
    assert text == [5, config.text_eos_token_id] + [blank] * 10
    assert audio[:delay] == [blank] * delay
    assert all(50 <= i < 80 for i in audio[delay:]) and len(audio) == 12
    assert out.audio_codes[0].tolist() == [i - 50 for i in audio[delay:]]
    assert out.audio is None


def test_speech_ends_the_row_and_is_not_in_the_codes(tiny_model, prompt):
    model = tiny_model()
    inputs, config = prompt(model.config, codes=2, text=1, seed=0), model.config
    for stop in (config.msg_end_token_id, config.media_end_token_id):
        only = torch.zeros(config.vocab_size, dtype=torch.bool)
        only[stop] = True
        legal = LegalTokens(text=LegalTokens.of(config).text, audio=only)
        out = run(model, inputs, generation_mode="audio", legal_tokens=legal)
        _, audio = new_ids(out, inputs)
        assert audio == [config.blank_token_id] * config.audio_delay + [stop]
        assert out.audio_codes[0].tolist() == []


def test_text_mode_keeps_the_audio_stream_silent(tiny_model, prompt):
    model = tiny_model()
    inputs, config = prompt(model.config, codes=2, text=1, seed=0), model.config
    script = LogitsProcessorList([Script(inputs["input_ids"].shape[1], [[5, 6, config.text_eos_token_id]], 7)])
    out = run(model, inputs, generation_mode="text", logits_processor=script)
    text, audio = new_ids(out, inputs)
    assert text == [5, 6, config.text_eos_token_id]
    assert audio == [config.blank_token_id] * 3 and out.audio_codes[0].tolist() == []


THINK = 49


def test_delay_counts_from_the_end_of_the_thoughts(tiny_model, prompt, left_padded):
    """Rows whose thoughts end at different steps, one whose text ends first, one whose prompt has closed them."""
    model = tiny_model(think_end_token_id=THINK)
    config = model.config
    prompts = [prompt(config, *shape, seed=s) for s, shape in enumerate(SHAPES)]
    prompts[3]["input_ids"][0, -1] = THINK  # at the assistant's start: no thoughts in this row
    prompts[2]["input_ids"][0, 1] = THINK  # in the user's turn: means nothing
    inputs, eos = left_padded(config, prompts), config.text_eos_token_id
    said = [[1, 2, THINK, 3, eos], [THINK, 3, eos], [1, eos], [1, 2, 3, 4, 5, 6, 7, 8, eos]]
    script = LogitsProcessorList([Script(inputs["input_ids"].shape[1], said, 7)])
    only_codes = LegalTokens.of(config).audio.clone()
    only_codes[:50] = False
    legal = LegalTokens(text=LegalTokens.of(config).text, audio=only_codes)
    out = run(model, inputs, generation_mode="audio", logits_processor=script, legal_tokens=legal)
    d = config.audio_delay
    for b, start in enumerate([3 + d, 1 + d, 2 + d, d]):
        _, audio = new_ids(out, inputs, b)
        assert [i >= 50 for i in audio] == [False] * start + [True] * (12 - start)


def test_sampling_is_repeatable_and_per_row(tiny_model, prompt, left_padded):
    model = tiny_model()
    prompts = [prompt(model.config, *shape, seed=s) for s, shape in enumerate(SHAPES)]
    inputs = left_padded(model.config, prompts)
    how = dict(
        generation_mode="audio", do_sample=True, temperature=1.0, top_k=20, audio_temperature=1.0, audio_top_k=10
    )

    def generators():
        return [torch.Generator().manual_seed(40 + b) for b in range(len(prompts))]

    batch = run(model, inputs, generator=generators(), **how)
    again = run(model, inputs, generator=generators(), **how)
    assert torch.equal(batch.sequences, again.sequences) and torch.equal(batch.audio_sequences, again.audio_sequences)
    for b, single_inputs in enumerate(prompts):
        single = run(model, single_inputs, generator=generators()[b], **how)
        (text, audio), (all_text, all_audio) = new_ids(single, single_inputs), new_ids(batch, inputs, b)
        assert all_text[: len(text)] == text and all_audio[: len(audio)] == audio
    other = run(model, inputs, generator=torch.Generator().manual_seed(1), **how)
    assert not torch.equal(batch.sequences, other.sequences)


def test_a_seed_without_a_generator(tiny_model, prompt):
    model = tiny_model()
    inputs = prompt(model.config, codes=2, text=1, seed=0)
    how = dict(generation_mode="audio", do_sample=True, audio_temperature=1.0)
    torch.manual_seed(5)
    first = run(model, inputs, **how)
    torch.manual_seed(5)
    assert torch.equal(first.audio_sequences, run(model, inputs, **how).audio_sequences)


def test_streams_draw_independently(tiny_model, prompt):
    """Audio sampling leaves the text's draws alone."""
    model = tiny_model()
    inputs = prompt(model.config, codes=2, text=1, seed=0)
    with torch.no_grad():  # text that does not depend on the audio stream: what is fed back there changes nothing
        model.lm_head.weight[:, :] = 0
    how = dict(generation_mode="audio", do_sample=True, temperature=1.0, max_new_tokens=6)
    texts = [
        run(model, inputs, generator=torch.Generator().manual_seed(2), audio_temperature=t, **how).sequences
        for t in (0.0, 1.0)
    ]
    length = min(t.shape[1] for t in texts)
    assert torch.equal(texts[0][:, :length], texts[1][:, :length])


@pytest.mark.parametrize("how", [{"use_cache": False}, {"cache_implementation": "static"}])
def test_caches_agree(tiny_model, prompt, left_padded, how):
    model = tiny_model()
    inputs = left_padded(model.config, [prompt(model.config, *shape, seed=s) for s, shape in enumerate(SHAPES)])
    plain = run(model, inputs, generation_mode="audio")
    other = run(model, inputs, generation_mode="audio", **how)
    assert torch.equal(plain.sequences, other.sequences) and torch.equal(plain.audio_sequences, other.audio_sequences)


def test_continues_from_a_cache(tiny_model, prompt):
    """A second turn on the first turn's cache: only the new positions run, with only their features."""
    model = tiny_model()
    first, second = prompt(model.config, 4, 2, seed=0), prompt(model.config, 6, 1, seed=1)
    both = {k: torch.cat([first[k], second[k]], dim=1) for k in first}
    cache = model(**first, use_cache=True).past_key_values
    whole = run(model, both, generation_mode="audio")
    continued = run(model, both, generation_mode="audio", past_key_values=cache)
    assert torch.equal(whole.sequences, continued.sequences)
    torch.testing.assert_close(torch.stack(continued.audio_logits), torch.stack(whole.audio_logits), rtol=0, atol=BOUND)


def test_prefix_constraint_and_stopping_criteria_act_on_the_text(tiny_model, prompt):
    model = tiny_model()
    inputs = prompt(model.config, codes=2, text=1, seed=0)
    out = run(model, inputs, prefix_allowed_tokens_fn=lambda row, ids: [3, 4])
    assert set(new_ids(out, inputs)[0]) <= {3, 4}

    class AfterFour(StoppingCriteria):
        def __call__(self, input_ids, scores, **kwargs):
            return torch.full((1,), input_ids.shape[1] >= inputs["input_ids"].shape[1] + 4)

    criteria = StoppingCriteriaList([AfterFour()])
    out = run(model, inputs, prefix_allowed_tokens_fn=lambda row, ids: [3], stopping_criteria=criteria)
    assert new_ids(out, inputs)[0] == [3] * 4


def test_min_new_tokens_holds_back_the_end(tiny_model, prompt):
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.weight[model.config.text_eos_token_id] = model.model.norm.weight  # favours the end, mostly
    inputs = prompt(model.config, codes=2, text=1, seed=0)
    out = run(model, inputs, min_new_tokens=5)
    assert model.config.text_eos_token_id not in new_ids(out, inputs)[0][:5]


class Recorder:
    def __init__(self):
        self.calls = []

    def put(self, value):
        self.calls.append(("put", value.tolist()))

    def end(self):
        self.calls.append(("end",))


class TwoStreamRecorder(Recorder):
    def put_streams(self, text_ids, audio_ids):
        self.calls.append(("streams", text_ids.tolist(), audio_ids.tolist()))


def test_streamers(tiny_model, prompt):
    model = tiny_model()
    inputs = prompt(model.config, codes=2, text=1, seed=0)
    text_only, both = Recorder(), TwoStreamRecorder()
    script = LogitsProcessorList([Script(inputs["input_ids"].shape[1], [[5, 6, model.config.text_eos_token_id]], 7)])
    how = {"generation_mode": "audio", "logits_processor": script}
    run(model, inputs, streamer=text_only, **how)
    out = run(model, inputs, streamer=both, **how)
    text, audio = new_ids(out, inputs)
    start = ("put", inputs["input_ids"].tolist())
    # A streamer of text, such as transformers' TextStreamer, prints all that it gets: neither blanks nor the end.
    assert text_only.calls == [start, ("put", [5]), ("put", [6]), ("end",)]
    assert both.calls == [start, *(("streams", [t], [a]) for t, a in zip(text, audio, strict=True)), ("end",)]


def test_settings_come_from_the_generation_config(tiny_model, prompt, tmp_path):
    model = tiny_model()
    model.generation_config.update(generation_mode="audio", audio_temperature=0.7, allow_custom_entries=True)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert again.generation_config.generation_mode == "audio" and again.generation_config.audio_temperature == 0.7
    inputs = prompt(model.config, codes=2, text=1, seed=0)
    assert len(run(again, inputs).audio_codes[0])
    assert not len(run(again, inputs, generation_mode="text").audio_codes[0])
    given = GenerationConfig(max_new_tokens=5, return_dict_in_generate=True, generation_mode="text")
    assert not len(again.generate(**inputs, generation_config=given).audio_codes[0])


def test_plain_call_returns_the_text_stream(tiny_model):
    model = tiny_model()
    ids = torch.tensor([[1, 2, 3]])
    out = model.generate(ids, max_new_tokens=4)
    assert isinstance(out, torch.Tensor) and torch.equal(out[:, :3], ids)


def test_several_answers_per_prompt(tiny_model, prompt):
    model = tiny_model()
    inputs = prompt(model.config, codes=2, text=1, seed=0)
    out = run(model, inputs, num_return_sequences=3, do_sample=True, audio_temperature=1.0, generation_mode="audio")
    assert len(out.audio_codes) == 3 and len({tuple(r) for r in out.sequences.tolist()}) > 1


def test_a_prompt_must_leave_room(tiny_model, prompt):
    """A recording longer than the context is refused, not continued beyond the positions that were trained."""
    model = tiny_model(max_position_embeddings=30)
    fits, long = (prompt(model.config, codes=codes, text=1, seed=0) for codes in (23, 24))
    assert fits["input_ids"].shape[1] == 29
    assert len(new_ids(run(model, fits, max_new_tokens=1), fits)[0]) == 1
    with pytest.raises(ValueError, match="the prompt takes 30 positions of 80 ms, but this model has 30"):
        run(model, long, max_new_tokens=1)


def test_bad_input_is_one_sentence(tiny_model, prompt):
    model = tiny_model()
    inputs = prompt(model.config, codes=2, text=1, seed=0)
    bad = [
        ({"generation_mode": "speech"}, '"text" or "audio", got \'speech\''),
        ({"audio_input_ids": inputs["audio_input_ids"][:, 1:]}, "two streams must have one shape"),
        ({"audio_features": inputs["audio_features"][:, :1]}, "holds 1 features per row, .* marks 2"),
        ({"num_beams": 2}, "only supports"),
        ({"audio_temprature": 1.0}, "audio_temprature"),
        ({"generator": [torch.Generator()] * 2, "generation_mode": "audio"}, "got 2 generators for 1 rows"),
    ]
    for changes, message in bad:
        with pytest.raises(ValueError, match=message):
            run(
                model,
                {**inputs, **{k: v for k, v in changes.items() if k in inputs}},
                **{k: v for k, v in changes.items() if k not in inputs},
            )
