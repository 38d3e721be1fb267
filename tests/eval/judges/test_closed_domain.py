"""The ASR judge within a closed domain: it hears what is said, right or wrong, and is told nothing of the question."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from eval.judges.closed_domain import ClosedDomain
from eval.judges.judgements import Judgements, content_key
from eval.metrics import METRICS
from eval.metrics.case import Case
from eval.sample import CLOSED_DOMAIN, REFERENCE_AUDIO, Prediction, Sample
from eval.scores.command import score
from eval.scores.compare import compare
from eval.task import CONVERSATION, TTS
from eval.tasks.bundled import FOLDER
from eval.tasks.manifest import checksum, read_samples
from tests.fixtures.hand_made_run import HandMadeRun

ANSWERS = ("snow is white", "coal is black", "snow white")


def sentences(domain: ClosedDomain, longest: int) -> set[str]:
    """Everything that the network can say in so many words."""
    arcs = domain.network()
    paths, said = [(0, ())], set()
    for _ in range(longest + 1):
        grown = [(arc, words) for state, words in paths for arc in arcs if arc[0] == state]
        said |= {" ".join(words) for arc, words in grown if arc[1] == 1}
        paths = [(arc[1], (*words, arc[3])) for arc, words in grown if len(arc) == 4]
    return said


def test_the_network_holds_all_answers_and_wrong_combinations() -> None:
    said = sentences(ClosedDomain(ANSWERS), 3)
    assert said == {*ANSWERS, "snow is black", "coal is white"}
    shares: dict[int, float] = {}
    for arc in ClosedDomain(ANSWERS).network():
        shares[arc[0]] = shares.get(arc[0], 0.0) + arc[2]
    assert all(share == pytest.approx(1) for share in shares.values())


def test_another_domain_is_another_judge() -> None:
    names = {ClosedDomain(ANSWERS).name, ClosedDomain(ANSWERS[:2]).name, ClosedDomain(ANSWERS, (("coal", "K"),)).name}
    assert len(names) == 3


@pytest.mark.parametrize("text", ['{"answer": []}', '{"answers": []}', '{"answers": ["Snow  is"]}', "[]", "{"])
def test_a_broken_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "domain.json").write_text(text)
    with pytest.raises(ValueError, match=r"domain\.json is no closed domain"):
        ClosedDomain.read(tmp_path / "domain.json")


def test_a_manifest_names_the_domain(tmp_path: Path) -> None:
    (tmp_path / "answers.json").write_text(json.dumps({"answers": ["yes", "no"]}))
    row = {"id": "a", "text": "is it", "references": ["yes"], "meta": {CLOSED_DOMAIN: "answers.json"}}
    (tmp_path / "m.jsonl").write_text(json.dumps(row) + "\n")
    before = checksum(read_samples(tmp_path / "m.jsonl", CONVERSATION))
    (tmp_path / "answers.json").write_text(json.dumps({"answers": ["yes", "no", "maybe"]}))
    (sample,) = read_samples(tmp_path / "m.jsonl", CONVERSATION)
    assert checksum([sample]) != before
    case = Case(CONVERSATION, "en", sample, None, tmp_path, Judgements(tmp_path / "j.jsonl"))
    assert case.domain == ClosedDomain(("yes", "no", "maybe"))
    (tmp_path / "answers.json").unlink()
    with pytest.raises(ValueError, match=r"line 1: sample 'a' names a file that is missing: .*answers\.json"):
        read_samples(tmp_path / "m.jsonl", CONVERSATION)


def test_what_one_ear_heard_is_not_what_another_hears(tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_bytes(b"a recording")
    (tmp_path / "answers.json").write_text(json.dumps({"answers": ["paris", "rome"]}))
    sample = Sample("a", references=("paris",), meta={CLOSED_DOMAIN: str(tmp_path / "answers.json")})
    judgements = Judgements(tmp_path / "j.jsonl")
    case = Case(CONVERSATION, "en", sample, Prediction("t", "a", "k", "paris", "a.flac"), tmp_path, judgements)
    assert case.domain is not None
    for setting, reply in (("", "parrots"), (case.domain.name, "paris")):
        judgements.obtain(judgements.judge_of("pocketsphinx", setting), content_key(b"a recording"), lambda r=reply: r)
    gap = METRICS["modality_gap"].measure(case)
    assert gap is not None and gap.numerator == 0


def bundled(number: int, first: int = 0) -> list[Sample]:
    return read_samples(FOLDER / "tts.jsonl", TTS)[first : first + number]


def spoken(tmp_path: Path, recording: str, reference: str, teacher: str | None = None) -> Case:
    """A case whose spoken answer is that recording."""
    path = Path(recording).resolve()
    meta = {CLOSED_DOMAIN: str(FOLDER / "answers.json")} | ({REFERENCE_AUDIO: teacher} if teacher else {})
    sample = Sample("a", references=(reference,), meta=meta)
    prediction = Prediction("t", "a", "k", reference, str(path))
    return Case(CONVERSATION, "en", sample, prediction, tmp_path, Judgements(tmp_path / "j.jsonl"))


def test_right_and_wrong_answers_spoken(tmp_path: Path) -> None:
    """The last word alone makes these recordings wrong answers to the questions they are given to."""
    pytest.importorskip("pocketsphinx", reason="pocketsphinx is not installed (spikeaudio[eval])")
    for sample in bundled(5):
        said, recording = sample.references[0], sample.meta[REFERENCE_AUDIO]
        wrong = " ".join([*said.split()[:-1], "nine" if said.split()[-1] != "nine" else "five"])
        right = METRICS["modality_gap"].measure(spoken(tmp_path, recording, said))
        lost = METRICS["modality_gap"].measure(spoken(tmp_path, recording, wrong))
        ceiling = METRICS["judge_accuracy"].measure(spoken(tmp_path, recording, said, recording))
        assert right is not None and lost is not None and ceiling is not None
        assert (right.numerator, lost.numerator, ceiling.numerator) == (0, 1, 1)


def test_noise_is_no_right_answer() -> None:
    pytest.importorskip("pocketsphinx", reason="pocketsphinx is not installed (spikeaudio[eval])")
    from eval.judges.speech_judge import pocketsphinx_transcribe

    domain = ClosedDomain.read(FOLDER / "answers.json")
    right = {sample.references[0] for sample in read_samples(FOLDER / "conversation.jsonl", CONVERSATION)}
    draw = np.random.default_rng(0)
    heard = {pocketsphinx_transcribe(draw.normal(0, 0.1, 24000), domain) for _ in range(3)}
    assert not heard & right


def test_an_unknown_word_needs_its_phones() -> None:
    pytest.importorskip("pocketsphinx", reason="pocketsphinx is not installed (spikeaudio[eval])")
    from eval.judges.speech_judge import pocketsphinx_transcribe

    with pytest.raises(ValueError, match=r"cannot pronounce \['xyzzyx'\]: give their phones"):
        pocketsphinx_transcribe(0.1 * torch.randn(16000), ClosedDomain(("say xyzzyx",)))
    known = ClosedDomain(("say xyzzyx",), (("xyzzyx", "Z IH Z"),))
    assert isinstance(pocketsphinx_transcribe(0.1 * torch.randn(16000), known), str)


def test_runs_heard_within_other_domains_are_not_compared(tmp_path: Path) -> None:
    scores = []
    for name, answers in (("one", ["paris"]), ("two", ["paris", "rome"])):
        (tmp_path / f"{name}.json").write_text(json.dumps({"answers": answers}))
        sample = Sample("a", references=("paris",), meta={CLOSED_DOMAIN: str(tmp_path / f"{name}.json")})
        run = HandMadeRun(tmp_path / name).task("qa", [sample], ("accuracy",), "conversation")
        scores.append(score(run.predict(Prediction("qa", "a", "k", "paris")).path))
    with pytest.raises(
        ValueError, match=r"task qa: question, right answer or the ASR judge's domain differ in 1 samples: a"
    ):
        compare(*scores)
