"""The recipe of spikeaudio-tiny: what it feeds to training is what it says, and the same after every restart."""

import json
from collections.abc import Callable
from pathlib import Path

import encode_corpus
import make_bundled
import make_corpus
import make_examples
import numpy as np
import pytest
import soundfile
import torch
import train_lm
from questions import facts, number
from safetensors.torch import save_file
from train_tokenizer import BATCH_SECONDS, Batches, grow

from eval.task import ASR
from eval.tasks.manifest import read_samples
from eval.tiny_floors import Floors
from spikeaudio.prompt.normalization import normalize_text
from spikeaudio.tokenizer.configuration import WhisperVQConfig
from spikeaudio.training.corpus import PackedCorpus
from spikeaudio.training.objectives.tokenizer import TokenizerTrainer
from tests.fixtures.tiny_corpus import CODES_PER_CLIP, ROWS, SENTENCES, Letters


def test_facts_have_one_answer_per_question_and_only_sayable_text() -> None:
    answers: dict[str, str] = {}
    for fact in facts():
        for question in fact.questions:
            assert answers.setdefault(question, fact.answer) == fact.answer
            assert normalize_text(question) == question and normalize_text(fact.answer) == fact.answer
    assert [number(n) for n in (0, 19, 40, 121)] == ["zero", "nineteen", "forty", "one hundred twenty one"]
    with pytest.raises(ValueError, match=r"0\.\.199"):
        number(200)


def test_a_killed_encoding_goes_on(
    corpus: PackedCorpus, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, tokenizer = corpus.folder, tiny_checkpoint / "speech_tokenizer"
    monkeypatch.setattr(encode_corpus, "BATCH_SECONDS", 3.0)  # some clips to a batch
    monkeypatch.setattr(encode_corpus, "ProcessPoolExecutor", InThisProcess)
    encode_corpus.encode_corpus(folder, tokenizer, 1)
    names = ("codes.npy", "features.npy", "codes.jsonl")
    whole = [(folder / name).read_bytes() for name in names]
    spans = [json.loads(line) for line in whole[2].splitlines()]
    renderings = sum(encode_corpus.VERSIONS.get(row["kind"], encode_corpus.OTHER_VERSIONS) for row in corpus.rows)
    assert len(spans) == renderings + encode_corpus.QUIET_CLIPS
    assert sum(span["id"].startswith("quiet_") for span in spans) == encode_corpus.QUIET_CLIPS
    assert sum(span["length"] for span in spans) == len(np.load(folder / "codes.npy"))

    run, calls = encode_corpus.Worker.__call__, []

    def dying(*args: object) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        run(*args)

    with monkeypatch.context() as patch:
        patch.setattr(encode_corpus.Worker, "__call__", dying)
        with pytest.raises(KeyboardInterrupt):
            encode_corpus.encode_corpus(folder, tokenizer, 1)
    monkeypatch.setattr(encode_corpus.Worker, "__call__", lambda *args: (calls.append(args), run(*args)))
    encode_corpus.encode_corpus(folder, tokenizer, 1)
    numbers = [args[1] for args in calls]
    assert numbers.count(0) == numbers.count(1) == 1 and numbers.count(2) == 2
    assert [(folder / name).read_bytes() for name in names] == whole
    assert not list(folder.glob("encoding-*"))


class InThisProcess:
    """Stands for ProcessPoolExecutor: spawned processes would not see what the test replaces."""

    def __init__(self, workers: int, context: object, initializer: Callable, arguments: tuple) -> None:
        initializer(*arguments)

    def __enter__(self) -> "InThisProcess":
        return self

    def __exit__(self, *error: object) -> None: ...

    map = staticmethod(map)


def test_strangers_voices_come_after_the_corpus_that_was_there() -> None:
    jobs = [row for row in make_corpus.speech_jobs(SENTENCES, scale=0.02) if row["split"] != "unheard"]
    strange = [row["voice"] in make_corpus.STRANGERS for row in jobs]
    assert any(strange) and strange == sorted(strange)
    assert make_corpus.HELD_OUT_VOICE not in make_corpus.STRANGERS
    assert all(row["split"] == "train" for row, odd in zip(jobs, strange, strict=True) if odd)


def test_unheard_sentences_are_in_no_other_split() -> None:
    jobs = make_corpus.speech_jobs([f"{sentence} {number}" for number, sentence in enumerate(SENTENCES)], scale=0.02)
    texts = {split: {row["text"] for row in jobs if row["split"] == split} for split in ("train", "test", "unheard")}
    assert len(texts["unheard"]) == 20 and not texts["unheard"] & (texts["train"] | texts["test"])
    assert make_corpus.TTS_VOICE not in {row["voice"] for row in jobs if row["split"] == "unheard"}


def test_tokenizer_batches_depend_on_the_step_alone(corpus: PackedCorpus) -> None:
    first, second = Batches(corpus, corpus.rows, 100), Batches(corpus, corpus.rows, 100)
    first(3)
    for step in (0, 57, 41):
        one, other = first(step), second(step)
        assert all(torch.equal(one[name], other[name]) for name in one)
        seconds = one["mel_mask"].sum() / 100
        assert 0.5 * BATCH_SECONDS < seconds < 1.5 * BATCH_SECONDS
        assert one["target_lengths"].sum() == len(one["targets"])
    assert not torch.equal(first(0)["targets"], first(1)["targets"])
    with pytest.raises(ValueError, match="no training rows"):
        Batches(corpus, [], 100)


def tokenizer_trainer(layers_before_pooling: int) -> TokenizerTrainer:
    return TokenizerTrainer(
        WhisperVQConfig(
            num_mel_bins=80,
            d_model=32,
            encoder_layers=layers_before_pooling + 1,
            encoder_attention_heads=2,
            encoder_ffn_dim=64,
            pooling_position=layers_before_pooling,
            quantize_position=layers_before_pooling + 1,
            quantize_vocab_size=32,
            max_source_positions=200,
        ),
        warmup_steps=10,
    )


def test_a_grown_tokenizer_computes_what_the_shallow_one_did(tmp_path: Path) -> None:
    shallow, deep = tokenizer_trainer(1).eval(), tokenizer_trainer(2).eval()
    save_file({f"model.{k}": v for k, v in shallow.state_dict().items()}, tmp_path / "state.safetensors")
    grow(deep, tmp_path)
    mel, mask = torch.randn(2, 80, 64), torch.ones(2, 64)
    expected, got = shallow.log_probs(mel, mask), deep.log_probs(mel, mask)
    for place in ("frames", "tokens"):
        torch.testing.assert_close(got[place], expected[place], rtol=1e-5, atol=1e-5)
    deep.log_probs(mel, mask)["tokens"].square().sum().backward()
    assert deep.encoder.layers[1].fc2.weight.grad.abs().max() > 0  # the new layer learns
    with pytest.raises(ValueError, match="does not hold a shallower model"):
        wrong = {f"model.{k}": v for k, v in shallow.state_dict().items() if "fc1" not in k}
        save_file(wrong, tmp_path / "state.safetensors")
        grow(tokenizer_trainer(2), tmp_path)


def test_every_job_is_drawn_and_the_speaker_left_out_never(examples: train_lm.Examples) -> None:
    rng = np.random.default_rng(0)
    drawn = [examples.draw(rng) for _ in range(600)]
    assert {item["task"] for item in drawn} == set(train_lm.TASKS)
    assert {row["speaker"] for row in examples.asr["digit"]} == {"jackson"}
    for item in drawn:
        example, features = item["example"], item["features"]
        assert example.audio_feature_mask.sum() == (0 if features is None else len(features))
        assert (example.labels != -100).any()
    joined = [item for item in drawn if item["task"] == "asr" and len(item["features"]) > CODES_PER_CLIP]
    assert joined


def test_noise_is_to_be_recognised_as_nothing(examples: train_lm.Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_lm, "TASKS", {"asr": 1.0})
    monkeypatch.setattr(train_lm, "ASR_KINDS", {"noise": 1.0})
    example = examples.draw(np.random.default_rng(0))["example"]
    spoken = example.labels[example.labels != -100]
    assert (spoken < 8).all() and examples.config.text_eos_token_id in spoken  # control tokens only


def test_a_corpus_without_a_sort_of_clips_is_named(examples: train_lm.Examples, corpus: PackedCorpus) -> None:
    corpus.rows = [row for row in corpus.rows if row["kind"] not in ("noise", "music")]
    with pytest.raises(ValueError, match=r"no training rows of these sorts: noise clips to recognise, music clips$"):
        train_lm.Examples(corpus, Letters(), examples.config, "theo")


def test_floors_name_what_the_corpus_lacks(corpus: PackedCorpus) -> None:
    with pytest.raises(ValueError, match=r"no rows with \{'kind': 'noise', 'split': 'test'\}; leave their job out"):
        Floors(model=None, corpus=corpus, limit=None).noise()


def test_examples_are_conversations_of_every_job(corpus: PackedCorpus, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    examples, rng = make_examples.Examples(corpus, "train", "theo", tmp_path / "out"), np.random.default_rng(0)
    lines = [examples.draw(rng) for _ in range(300)]
    asked = [line["messages"][0]["content"] for line in lines]
    requests = {blocks[0].get("text", "heard").split()[0] for blocks in asked}
    assert {"please", "say", "heard", "which", "how"} <= requests
    drawn: list[bool] = []
    for line in lines:
        user, assistant = line["messages"]
        assert (user["role"], assistant["role"]) == ("user", "assistant")
        blocks = [*user["content"], *assistant["content"]]
        assert all((tmp_path / "out" / each["path"]).is_file() for each in blocks if each["type"] == "audio")
        names = [each["path"].removesuffix(".wav").split("-") for each in blocks if each["type"] == "audio"]
        assert "4" not in [name[0] for name in names]  # theo is left out
        drawn += [len(name) == 2 for name in names]
    assert any("thought" in line for line in lines) and any(len(line["messages"][1]["content"]) == 2 for line in lines)
    assert any(drawn) and not all(drawn)  # new renderings among them
    examples.disturbed = 0.0  # as for the test split
    plain = [block for _ in range(50) for block in examples.draw(rng)["messages"][0]["content"]]
    assert not any("-" in block.get("path", "") for block in plain)
    assert make_examples.Examples(corpus, "test", "theo", tmp_path / "out").disturbed == 0


def test_unheard_examples_say_what_the_teacher_writes(corpus: PackedCorpus, tmp_path: Path) -> None:
    class Teacher:
        def transcribe(self, paths: list[Path]) -> list[str]:
            return [f"length {len(soundfile.read(path)[0])}" for path in paths]

    examples, rng = make_examples.Examples(corpus, "train", "theo", tmp_path), np.random.default_rng(0)
    with pytest.raises(ValueError, match="unheard"):
        next(examples.unheard(1, Teacher(), rng))
    next(row for row in corpus.rows if row["kind"] == "open")["split"] = "unheard"
    lines = list(examples.unheard(make_examples.HEARD_TOGETHER + 3, Teacher(), rng))
    assert len(lines) == make_examples.HEARD_TOGETHER + 3
    for line in lines:
        (asked, answered) = line["messages"]
        path = tmp_path / asked["content"][1]["path"]
        assert answered["content"] == [{"type": "text", "text": f"length {len(soundfile.read(path)[0])}"}]
    assert len({line["messages"][0]["content"][1]["path"] for line in lines}) > 20  # new renderings


def test_transcriptions_are_every_recording_of_words_once(corpus: PackedCorpus, tmp_path: Path) -> None:
    lines = list(make_examples.Examples(corpus, "train", "theo", tmp_path).transcriptions())
    said = sorted(line["messages"][1]["content"][0]["text"] for line in lines)
    assert said == sorted(text for text, *_ in ROWS if text and text != "four")  # theo's
    assert {line["messages"][0]["content"][0]["text"] for line in lines} == {make_examples.INSTRUCTIONS["asr"]}


def test_one_note_is_never_asked_for_its_tempo(examples: train_lm.Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_lm, "TASKS", {"aqa": 1.0})
    examples.music = [row for row in examples.music if row["count"] == 1]
    tempos = {tuple(examples.ids(word)) for word in ("fast", "slow")}
    for seed in range(50):
        example = examples.draw(np.random.default_rng(seed))["example"]
        answer = tuple(token for token in example.labels.tolist() if token >= 40)
        assert answer and answer not in tempos


def test_lm_batches_depend_on_the_step_alone(examples: train_lm.Examples, corpus: PackedCorpus) -> None:
    again = train_lm.Examples(corpus, Letters(), examples.config, "theo")
    examples.batch(5)
    for step in (0, train_lm.GROUP + 3):
        one, other = examples.batch(step), again.batch(step)
        assert all(torch.equal(one[name], other[name]) for name in one)
        assert len(one["input_ids"]) == train_lm.BATCH


def test_the_bundled_suite_names_its_recordings(corpus: PackedCorpus, tmp_path: Path) -> None:
    for row in corpus.rows:
        row["split"] = "test"
    bundle = make_bundled.Bundle(corpus, tmp_path / "out")
    rows = bundle.pick(2, 0, kind=("question", "answer", "open", "digit"))
    assert rows == bundle.pick(2, 0, kind=("question", "answer", "open", "digit"))
    assert len({row["text"] for row in rows}) == 2
    bundle.write("asr_open", [bundle.heard(row) for row in rows])
    samples = read_samples(tmp_path / "out" / "asr_open.jsonl", ASR)
    assert [sample.references for sample in samples] == [(row["text"],) for row in rows]
    with pytest.raises(ValueError, match="need 99: was it made with --scale 1"):
        bundle.pick(99, 0, kind="music")
