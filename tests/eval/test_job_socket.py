"""A job with its own figure, task and model, added from outside the package in one file."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eval.__main__ import main
from eval.adapters import ADAPTERS
from eval.adapters.adapter import Request
from eval.metrics import METRICS
from eval.sample import Sample
from eval.task import AQA, ASR, JOBS, Job, Task, register_job
from eval.tasks import TASKS, register_task

ADDED = '''
"""Which octave a sound is in: a job of its own, with the distance from the right one."""

from eval.adapters import register_adapter
from eval.adapters.adapter import Response
from eval.metrics import register_metric
from eval.metrics.count import Count, Metric
from eval.sample import Sample
from eval.task import Job, Task, register_job
from eval.tasks import register_task

PITCH = register_job(Job("pitch", hears=True, writes=True, hub_task="audio-classification", metrics=("octaves_off",)))


def octaves_off(case):
    if case.failure is not None:
        return Count(8.0, 1.0)
    return Count(abs(float(case.text) - float(case.sample.references[0])), 1.0)


class Deaf:
    """Hears the second octave in everything, and fails on the last sample."""

    name = "deaf"
    jobs = frozenset({PITCH})

    def fingerprint(self):
        return {"adapter": self.name}

    def answer(self, requests):
        assert all(request.job == PITCH for request in requests)
        return [Response("2"), Response("2"), Response("2"), ValueError("too low")]


register_metric("octaves_off", Metric("octaves from the right one", "points", "lower", octaves_off))
OCTAVES = [Sample(str(octave), audio="a.wav", references=(str(octave),)) for octave in range(4)]
register_task(Task("my_pitches", PITCH, lambda: OCTAVES))
register_adapter("deaf", lambda model, device: Deaf())
'''
RUN = ["run", "--tasks", "my_pitches", "--adapter", "deaf", "--model", "m", "--out", "runs/one"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the file; what a test registers is gone after it."""
    registries: tuple[dict[str, Any], ...] = (JOBS, METRICS, TASKS, ADAPTERS)
    before = [dict(registry) for registry in registries]
    monkeypatch.chdir(tmp_path)
    Path("a.wav").write_bytes(b"no recording, and nobody listens")
    Path("my_tasks.py").write_text(ADDED)
    yield tmp_path
    for registry, content in zip(registries, before, strict=True):
        registry.clear()
        registry.update(content)


def test_a_job_from_outside(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add = ["--include", "my_tasks.py"]
    main([*RUN, *add])
    main(["score", *add, "runs/one"])
    assert "| my_pitches | octaves_off | 2.75 (" in capsys.readouterr().out  # 2, 1, 0 and 8 octaves off
    main(["report", *add, "runs/one"])
    assert "octaves from the right one" in Path("runs/one/report/index.html").read_text()
    assert "audio-classification" in Path("runs/one/report/model-index.yaml").read_text()
    row = json.loads(Path("runs/one/samples.jsonl").read_text().splitlines()[0])
    assert (row["job"], row["metrics"]) == ("pitch", ["octaves_off"])
    main(["compare", *add, "runs/one", "runs/one"])
    main(["ls", *add])
    assert "my_pitches" in capsys.readouterr().out


def test_a_run_needs_the_file_of_its_job(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*RUN, "--include", "my_tasks.py"])
    JOBS.pop("pitch")
    for arguments in (["score", "runs/one"], ["ls", "--include", "gone.py"]):
        with pytest.raises(SystemExit):
            main(arguments)
    said = capsys.readouterr().err
    assert "unknown job 'pitch'" in said and "--include" in said and "no such file to include: gone.py" in said


@pytest.mark.parametrize(
    "register", [lambda: register_job(Job("asr")), lambda: register_task(Task("fsdd", ASR, list))], ids=["job", "task"]
)
def test_a_name_is_taken_once(register: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="already"):
        register()


def test_a_job_that_models_do_as_another_one() -> None:
    spotting = Job("spotting", hears=True, writes=True, done_as="aqa")
    request = Request.of(Task("t", spotting, list, request="which word"), Sample("a", "a.wav"), 0)
    assert request.job == AQA and request.text == "which word"
