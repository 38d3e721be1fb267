"""Runs with a model that answers at once: resumed, sharded and failing ones end as they should."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.adapters.adapter import Request, Response, Unavailable
from eval.run.answering import generate
from eval.run.command import check_able
from eval.run.plan import Batch, Settings, batches, drawn
from eval.run.record import make_record, open_run
from eval.run.store import PredictionStore, read_predictions
from eval.sample import Sample
from eval.task import ASR, TTS
from eval.tasks.bundled import bundled
from tests.eval.conftest import write_tone
from tests.fixtures.fake_model import FakeAdapter

SETTINGS = Settings(batch=2)
SPOKEN = ("bundled_tts", "bundled_conversation", "bundled_codec")


def run(
    bundle: Path, out: Path, adapter: Any, settings: Settings = SETTINGS, rank: int = 0, world: int = 1, only: str = ""
) -> int:
    """What `eval.run.command.main` does, with tasks and model of the test's own."""
    tasks = [(task, drawn(task.samples(), settings.limit)) for task in bundled(bundle) if only in task.name]
    fingerprint = adapter.fingerprint()
    if rank == 0:
        open_run(out, make_record("fake", "bundled", tasks, settings, fingerprint), tasks)
    with PredictionStore(out, rank) as store:
        return generate(adapter, plan(tasks, settings, fingerprint), store, rank, world)


def plan(tasks: list, settings: Settings, fingerprint: dict) -> list[Batch]:
    return [batch for task, samples in tasks for batch in batches(task, samples, settings, fingerprint)]


def lasting(out: Path) -> dict:
    return {name: replace(found, measured={}, pieces=()) for name, found in read_predictions(out).items()}


@pytest.fixture
def larger(bundle: Path) -> Path:
    """A bundle with 11 recordings of several lengths in one task: batches of two, one of one."""
    rows = []
    for index in range(11):
        write_tone(bundle / "audio" / f"{index}.wav", 0.1 + index * 7 % 5 / 10, hertz=300 + index)
        rows.append({"id": str(index), "audio": f"audio/{index}.wav", "references": ["hello"]})
    (bundle / "asr_open.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return bundle


def test_a_run_is_whole(larger: Path, tmp_path: Path) -> None:
    assert run(larger, tmp_path / "run", FakeAdapter()) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    assert {(row["task"], row["sample"]["id"]) for row in rows} == set(lasting(tmp_path / "run"))
    assert rows[0].keys() == {"task", "job", "metrics", "language", "sample"} and len(rows) == 27
    for name, found in lasting(tmp_path / "run").items():
        assert found.error is None and (found.audio is None) == (name[0] not in SPOKEN)
        assert found.audio is None or (tmp_path / "run" / found.audio).is_file()


def test_stopped_ten_times_it_ends_the_same(larger: Path, tmp_path: Path) -> None:
    run(larger, tmp_path / "once", FakeAdapter())
    drawing, stops = random.Random(0), 0
    while stops < 10:
        with pytest.raises(KeyboardInterrupt):
            run(larger, tmp_path / "often", FakeAdapter(stop_at=drawing.choice((0, 0, 1))))
        stops += 1
        path = tmp_path / "often" / "predictions-0.jsonl"
        content = path.read_bytes()
        path.write_bytes(content[: len(content) - drawing.randrange(80)])  # what had not reached the disk
    model = FakeAdapter()
    run(larger, tmp_path / "often", model)
    assert lasting(tmp_path / "often") == lasting(tmp_path / "once")
    assert model.calls > 0
    run(larger, tmp_path / "often", idle := FakeAdapter())
    assert idle.calls == 0
    record = json.loads((tmp_path / "often" / "record.json").read_text())
    assert len(record["resumed"]) == 11 and record["resumed"][0].keys() == {"date", "commit", "versions", "hardware"}
    assert record["date"] <= record["resumed"][0]["date"] and len(record["commit"]) >= 40


def test_two_processes_share_the_work(larger: Path, tmp_path: Path) -> None:
    run(larger, tmp_path / "one", FakeAdapter())
    models = [FakeAdapter(), FakeAdapter()]
    for rank, model in enumerate(models):
        run(larger, tmp_path / "two", model, rank=rank, world=2)
    assert lasting(tmp_path / "two") == lasting(tmp_path / "one")
    assert all(model.calls for model in models) and sum(model.calls for model in models) == 14  # no batch twice
    run(larger, tmp_path / "two", idle := FakeAdapter())  # by one process what two have done
    assert idle.calls == 0


def test_a_model_that_fails_on_one_sample(larger: Path, tmp_path: Path) -> None:
    bad = str(larger / "audio" / "3.wav")
    assert run(larger, tmp_path / "run", FakeAdapter(fails_on=frozenset({bad}))) == 1
    found = read_predictions(tmp_path / "run")
    assert found["bundled_asr_open", "3"].error == "RuntimeError: this model does not like it"
    assert found["bundled_asr_open", "3"].text is None
    assert sum(prediction.error is not None for prediction in found.values()) == 1
    assert run(larger, tmp_path / "run", FakeAdapter()) == 1  # an answer once stored is not asked for again


class Odd(FakeAdapter):
    """Answers `given` to everything."""

    def __init__(self, given: list[Response | Exception]) -> None:
        super().__init__()
        self.given = given

    def answer(self, requests: Any) -> list[Response | Exception]:
        return self.given * len(requests)


@pytest.mark.parametrize(
    "given,message",
    [
        ([Response(None, np.array([0.0, np.nan], np.float32), 16000)], "speech is no sequence of finite samples"),
        ([Response(None, np.zeros(0, np.float32), 16000)], "speech is no sequence of finite samples"),
        ([Response(None)], "the model said nothing"),
        (
            [Response(None, np.ones(9, np.float32), 16000, pieces=((0.1, 8),))],
            "pieces of speech hold 8 samples, the speech 9",
        ),
        ([ValueError("too long")], "ValueError: too long"),
        ([], "ValueError: the model gave 0 answers to 1 requests"),
    ],
)
def test_answers_that_are_none(bundle: Path, tmp_path: Path, given: list, message: str) -> None:
    assert run(bundle, tmp_path / "run", Odd(given)) == 18
    assert message in (read_predictions(tmp_path / "run")["bundled_tts", "hello world"].error or "")
    assert not (tmp_path / "run" / "audio").exists()


def test_a_model_that_is_away_stops_the_run(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no route"):
        run(bundle, tmp_path / "run", Away())
    assert not read_predictions(tmp_path / "run")
    assert run(bundle, tmp_path / "run", FakeAdapter()) == 0


class Away(FakeAdapter):
    """A server that is down."""

    def answer(self, requests: Any) -> list[Response | Exception]:
        raise Unavailable("no route to the server")


def test_another_configuration_is_refused(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(bundle, out, FakeAdapter())
    before = (out / "record.json").read_bytes()
    for settings, message in [
        (replace(SETTINGS, seed=1), "seed was 0, now is 1"),
        (replace(SETTINGS, batch=3), "batch was 2, now is 3"),
        (replace(SETTINGS, limit=1), "limit was None, now is 1; .*samples of bundled_asr_questions was 2, now is 1"),
    ]:
        with pytest.raises(ValueError, match=f"holds another run: .*{message}.* Take another --out"):
            run(bundle, out, FakeAdapter(), settings)
    (bundle / "tts.jsonl").write_text(json.dumps({"id": "hello world", "text": "hi", "references": ["hi"]}) + "\n")
    with pytest.raises(ValueError, match="checksum of bundled_tts was"):
        run(bundle, out, FakeAdapter())
    with pytest.raises(ValueError, match=r"fingerprint was .*'digest': '0'.*, now is .*'digest': '1'"):
        run(bundle, out, type("Other", (FakeAdapter,), {"fingerprint": lambda self: {"digest": "1"}})())
    assert (out / "record.json").read_bytes() == before
    other = tmp_path / "no run"
    other.mkdir()
    (other / "mine.txt").write_text("")
    with pytest.raises(ValueError, match="is not empty and no run"):
        run(bundle, other, FakeAdapter())


def test_plan_is_a_function_of_the_tasks(larger: Path) -> None:
    (task,) = (task for task in bundled(larger) if task.name == "bundled_asr_open")
    samples = task.samples()
    whole = batches(task, samples, SETTINGS, {})
    assert [len(batch.works) for batch in whole] == [2, 2, 2, 2, 2, 1]
    assert batches(task, samples[::-1], SETTINGS, {}) == whole
    counted = batches(task, samples, replace(SETTINGS, costs=3), {})
    assert [batch.counted for batch in counted] == [True] * 3 + [False] * 4
    assert {batch.works[0].id for batch in counted[:3]} == {"0", "1", "2"}
    assert len({work.key for batch in whole for work in batch.works}) == 11
    for changed in (replace(SETTINGS, seed=1), replace(SETTINGS, batch=4)):
        assert batches(task, samples, changed, {})[0].works[0].key != whole[0].works[0].key
    keys = {work.id: work.key for batch in whole for work in batch.works}
    asked = replace(task, request="and the second word?")
    assert all(work.key != keys[work.id] for batch in batches(asked, samples, SETTINGS, {}) for work in batch.works)


def test_a_larger_limit_keeps_the_smaller_ones_samples() -> None:
    samples = [Sample(str(index)) for index in range(20)]
    few, more = drawn(samples, 5), drawn(samples, 9)
    assert len(few) == 5 and set(map(id, few)) < set(map(id, more)) and more != samples[:9]
    assert drawn(samples, 99) == drawn(samples, None) == samples


def test_requests_hold_no_answers(bundle: Path) -> None:
    for task in bundled(bundle):
        for sample in task.samples():
            request = Request.of(task, sample, 0)
            assert task.job == TTS or not {request.text, request.audio} & set(sample.references)


def test_what_a_model_cannot_do_is_refused(bundle: Path) -> None:
    model = FakeAdapter(jobs=frozenset({ASR}))
    with pytest.raises(ValueError, match=r"bundled_tts is of the kind tts, but this model \(fake\) does asr"):
        check_able(model, [bundled(bundle)[0], bundled(bundle)[6]], SETTINGS)
    with pytest.raises(ValueError, match="operations of a model of the kind fake cannot be counted"):
        check_able(FakeAdapter(), [], replace(SETTINGS, costs=1))
    with pytest.raises(ValueError, match="expected batch >= 1"):
        Settings(batch=0)


def test_no_path_of_the_machine_is_recorded(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(bundle, Path("run"), FakeAdapter())
    for path in Path("run").glob("*.json*"):
        assert str(tmp_path) not in path.read_text()
