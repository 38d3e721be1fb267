"""Sampling, limits, the range mask and batches on the published code's tiny model."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from spikeaudio.lm import LegalTokens
from spikeaudio.lm.legal_tokens import stop_token_ids
from spikeaudio.lm.streams import IGNORED
from spikeaudio.prompt.batch import BatchRow, collate
from spikeaudio.prompt.conversation import build_example, build_prompt, layout_of
from spikeaudio.prompt.layout import Segment
from tests.fixtures.kimi_llm import KimiFixture, everything, generate

pytestmark = pytest.mark.golden

BOUND = 1e-4  # fp32; the fixture's README
DRAWS = 1000


@pytest.fixture(scope="module")
def fixture(golden_dir) -> KimiFixture:
    return KimiFixture(golden_dir("kimi_llm_tiny"))


@pytest.fixture(scope="module")
def model(fixture):
    return fixture.model()


def records(fixture: KimiFixture, output_type: str | None = None) -> list[tuple[str, dict]]:
    """Name and record of the generations that are greedy and nothing else."""
    found = fixture.record["generation"].items()
    return [(k, r) for k, r in found if "sampler" not in r and output_type in (None, r["output_type"])]


# -- the range mask ----------------------------------------------------------------------------------------------------


def test_illegal_ids_are_masked_and_that_changes_the_result(fixture, model):
    """The default follows the record to its first illegal id, and there takes the best legal one."""
    config, changed = fixture.config, 0
    legal = LegalTokens.of(config)
    for name, record in records(fixture):
        _, text, audio = generate(model, fixture, record)
        theirs = {"text": record["fed_text_tokens"], "audio": record["fed_audio_tokens"]}
        blank = config.blank_token_id
        steps = len(theirs["text"])
        illegal = [
            i
            for i in range(steps)
            if not (legal.text[theirs["text"][i]] and (legal.audio[theirs["audio"][i]] or theirs["audio"][i] == blank))
        ]
        first = illegal[0] if illegal else steps
        assert text[:first] == theirs["text"][:first] and audio[:first] == theirs["audio"][:first], name
        assert all(legal.text[i] or i == blank for i in text) and all(legal.audio[i] or i == blank for i in audio), name
        if illegal:
            changed += 1
            logits = fixture.tensors[f"gen.{name}.lm_head_logits"][first]
            assert text[first] == max((i for i in range(len(logits)) if legal.text[i]), key=lambda i: logits[i]), name
            assert (text, audio) != (theirs["text"], theirs["audio"]), name
    if not changed:
        pytest.skip("no generation of this fixture chose an illegal id")


def test_reserved_ids_are_no_text(fixture):
    config = fixture.config
    legal = LegalTokens.of(config).text.nonzero().flatten().tolist()
    assert legal == [*range(config.num_text_tokens), config.text_eos_token_id]


# -- limits and ends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output_type", ["text", "both"])
def test_max_new_tokens_is_honoured(fixture, model, output_type):
    """In both modes (the published code overwrites it when it speaks): a prefix of the longer answer, to the id."""
    free = {"legal_tokens": everything(fixture.config)}
    for name, record in records(fixture, output_type):
        _, text, audio = generate(model, fixture, record, **free)
        for limit in {1, fixture.config.audio_delay, fixture.config.audio_delay + 1, len(text)}:
            out, short, spoken = generate(model, fixture, record, max_new_tokens=limit, **free)
            expected = min(limit, len(text))
            assert (short, spoken) == (text[:expected], audio[:expected]), (name, limit)
            assert len(out.logits) == expected


def test_stop_ids_are_in_the_stream_and_not_in_the_codes(fixture, model):
    stops, offset, ended = set(stop_token_ids(fixture.config)), fixture.config.audio_token_offset, 0
    for _, record in records(fixture, "both"):
        out, _, audio = generate(model, fixture, record)
        ended += audio[-1] in stops
        assert out.audio_codes[0].tolist() == [i - offset for i in audio if i >= offset]
        assert not stops & {i + offset for i in out.audio_codes[0].tolist()}
        assert not stops & set(audio[:-1])
    if not ended:
        pytest.skip("no answer of this fixture ends by itself under the range mask")


# -- random choice -----------------------------------------------------------------------------------------------------


def probabilities(logits: Tensor, temperature: float, top_k: int) -> np.ndarray:
    """What the published sampler draws from, in float64 and without our code: top-k of softmax(logits / T)."""
    scores = logits.double().numpy() / temperature
    order = np.argsort(-scores)
    weights = np.zeros_like(scores)
    kept = order[:top_k] if top_k > 0 else order
    weights[kept] = np.exp(scores[kept] - scores[order[0]])
    return weights / weights.sum()


def assert_drawn_from(drawn: Tensor, expected: np.ndarray) -> None:
    """Chi-square at 0.1 percent; rare ids (fewer than 5 expected) count as one."""
    counts = np.bincount(drawn.numpy(), minlength=len(expected))
    assert not counts[expected == 0].any(), "an id that cannot be drawn was drawn"
    rare = expected * len(drawn) < 5
    seen = np.append(counts[~rare], counts[rare].sum())
    means = np.append(expected[~rare], expected[rare].sum()) * len(drawn)
    some = means > 0
    assert some.sum() > 1 and chisquare(seen[some], means[some]).pvalue > 1e-3


@pytest.mark.parametrize("temperature,top_k", [(0.8, 10), (1.0, 0)])
def test_both_streams_draw_from_the_published_distribution(fixture, temperature, top_k):
    """The first id of either stream in many answers to one prompt, without a delay: as the recorded logits say."""
    name, record = records(fixture, "both")[0]
    inputs = fixture.inputs(record["prompt"])
    rows = {key: value.expand(DRAWS, *value.shape[1:]) for key, value in inputs.items()}
    how = {"do_sample": True, "temperature": temperature, "top_k": top_k}
    how |= {"audio_temperature": temperature, "audio_top_k": top_k}
    out = fixture.model(audio_delay=0).generate(
        **rows,
        **how,
        generation_mode="audio",
        legal_tokens=everything(fixture.config),
        generator=torch.Generator().manual_seed(7),
        max_new_tokens=1,
        return_dict_in_generate=True,
    )
    for drawn, head in ((out.sequences, "lm_head_logits"), (out.audio_sequences, "mimo_output_logits")):
        assert_drawn_from(drawn[:, -1], probabilities(fixture.tensors[f"gen.{name}.{head}"][0], temperature, top_k))


def test_a_seed_repeats(fixture, model):
    _, record = records(fixture, "both")[0]
    how = {"do_sample": True, "temperature": 1.0, "top_k": 5, "audio_temperature": 0.8, "audio_top_k": 10}
    runs = [
        generate(model, fixture, record, generator=torch.Generator().manual_seed(seed), **how)[1:] for seed in (3, 3, 4)
    ]
    assert runs[0] == runs[1] != runs[2]


# -- prompts and examples ----------------------------------------------------------------------------------------------


def user_segments(text: list[int], audio: list[int], fixture: KimiFixture) -> list[Segment]:
    """The user's turn at the start of two streams, read back into pieces."""
    config, segments, at = fixture.config, [], 1
    marks = {config.msg_end_token_id, config.speech_text_token_id, config.speech_both_token_id}
    while audio[at] not in marks:
        if audio[at] == config.media_begin_token_id:
            end = audio.index(config.media_end_token_id, at)
            segments.append(("audio", [i - config.audio_token_offset for i in audio[at + 1 : end]]))
            at = end + 1
        else:
            start = at
            while audio[at] == config.blank_token_id:
                at += 1
            segments.append(("text", text[start:at]))
    return segments


def rows_of(fixture: KimiFixture) -> list[tuple[str, BatchRow]]:
    """Name, streams and recordings of every scenario of one row, laid out by us from its pieces."""
    found = []
    for name in fixture.scenarios:
        inputs = fixture.inputs(name)
        if len(inputs["input_ids"]) > 1:
            continue
        text, audio = inputs["input_ids"][0].tolist(), inputs["audio_input_ids"][0].tolist()
        segments = user_segments(text, audio, fixture)
        mode = "audio" if fixture.config.speech_both_token_id in audio else "text"
        streams = build_prompt(segments, fixture.config, mode)
        assert streams.input_ids.tolist() == text and streams.audio_input_ids.tolist() == audio, name
        mask = inputs.get("audio_feature_mask", torch.zeros_like(inputs["input_ids"]))[0].bool()
        assert torch.equal(streams.audio_feature_mask, mask), name
        codes = [torch.tensor(ids) for kind, ids in segments if kind == "audio"]
        features = inputs["audio_features"][0].split([len(each) for each in codes]) if codes else []
        found.append((name, BatchRow.of(streams, [{"audio_features": each} for each in features])))
    return found


def test_training_examples_are_the_published_targets(fixture):
    """From the pieces of a conversation: both streams of the answer, labels and masks of the loss."""
    config, layout = fixture.config, layout_of(fixture.config)
    for name in fixture.record["training"]:
        inputs = fixture.inputs(f"train.{name}")
        text, audio = inputs["input_ids"][0].tolist(), inputs["audio_input_ids"][0].tolist()
        start = audio.index(config.assistant_start_token_id) + 1
        answer = layout.delay_pattern.split(torch.tensor(text[start:]), torch.tensor(audio[start:]))
        codes = answer.codes if len(answer.codes) else None
        example = build_example(user_segments(text, audio, fixture), answer.text, codes, None, config)
        # The fixture's hand-made spoken target asks for a written answer: the mode id is the one difference.
        modes = {config.speech_text_token_id, config.speech_both_token_id}
        differ = [i for i, id in enumerate(audio) if id != int(example.audio_input_ids[i])]
        assert len(example) == len(audio) and example.input_ids.tolist() == text
        assert not differ or (codes is not None and [audio[i] in modes for i in differ] == [True]), name
        assert torch.equal(example.audio_feature_mask, inputs["audio_feature_mask"][0])
        for stream, ours in (("text", example.labels), ("audio", example.audio_labels)):
            theirs = fixture.tensors[f"train.{name}.{stream}_labels"][0]
            mask = fixture.tensors[f"train.{name}.{stream}_loss_mask"][0]
            assert torch.equal(ours[1:], torch.where(mask, theirs, IGNORED)[:-1]), (name, stream)


# -- batches -----------------------------------------------------------------------------------------------------------


def test_a_batch_gives_the_recorded_logits(fixture, model):
    """Prompts of unequal length, with one, two and no recordings, left-padded together."""
    rows = rows_of(fixture)
    batch = collate([row for _, row in rows], fixture.config.pad_token_id, "left")
    assert len({len(row) for _, row in rows}) > 1 and not batch["attention_mask"].all()
    with torch.no_grad():
        out = model(**batch)
    for index, (name, row) in enumerate(rows):
        for ours, theirs in ((out.logits, "lm_head_logits"), (out.audio_logits, "mimo_output_logits")):
            expected = fixture.tensors[f"{name}.{theirs}"][0]
            torch.testing.assert_close(ours[index, -len(row) :], expected, rtol=0, atol=BOUND)


@pytest.mark.parametrize("mode", ["text", "audio"])
def test_a_batch_answers_as_each_row_alone(fixture, model, mode):
    """Ids exactly, logits within the bound, rows that end at different steps; a row draws from its own generator."""
    rows = [row for _, row in rows_of(fixture)]
    config = fixture.config
    shared = {"generation_mode": mode, "max_new_tokens": 24, "return_dict_in_generate": True, "output_logits": True}
    shared |= {"do_sample": True, "temperature": 1.2, "top_k": 10, "audio_temperature": 1.0, "audio_top_k": 10}
    shared |= {"audio_repetition_penalty": 1.3, "audio_repetition_window": 4, "text_repetition_penalty": 1.2}
    shared |= {"text_repetition_window": 3}

    def seeds(rows_: range) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(30 + b) for b in rows_]

    batch = model.generate(**collate(rows, config.pad_token_id, "left"), **shared, generator=seeds(range(len(rows))))
    length, steps = max(map(len, rows)), []
    for b, row in enumerate(rows):
        single = model.generate(
            **collate([row], config.pad_token_id, "left"), **shared, generator=seeds(range(b, b + 1))
        )
        for ours, alone in ((batch.sequences, single.sequences), (batch.audio_sequences, single.audio_sequences)):
            new, expected = ours[b, length:].tolist(), alone[0, len(row) :].tolist()
            assert new == expected + [config.blank_token_id] * (len(new) - len(expected)), b
        assert batch.audio_codes[b].tolist() == single.audio_codes[0].tolist()
        count = single.sequences.shape[1] - len(row)
        steps.append(count)
        for name in ("logits", "audio_logits"):
            ours = torch.stack(batch[name])[:count, b]
            torch.testing.assert_close(ours, torch.stack(single[name])[:, 0], rtol=0, atol=BOUND)
    if len(set(steps)) == 1:
        pytest.skip("all rows of this fixture end at one step")
