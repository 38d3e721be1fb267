"""Ray Data actors give the answers that one process gives, failures included."""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from eval.adapters.adapter import Unavailable
from eval.run.answering import store_answers
from eval.run.plan import Settings, batches
from eval.run.ray_backend import RayActors, last_words, portable
from eval.run.record import make_record, open_run
from eval.run.store import PredictionStore
from eval.tasks.bundled import bundled
from tests.eval.run.test_command import SETTINGS, Away, lasting, run
from tests.fixtures.fake_model import FakeAdapter

NO_RAY = "Ray is not installed (spikeaudio[ray])"


def fake(kind: type[FakeAdapter] = FakeAdapter, device: str = "cpu", **rest: Any) -> FakeAdapter:
    """What `eval.run.command.make_adapter` is for real models."""
    return kind(**rest)


def broken(device: str) -> FakeAdapter:
    raise FileNotFoundError("no checkpoint here")


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    ray = pytest.importorskip("ray", reason=NO_RAY)
    yield ray
    ray.shutdown()


def run_with_ray(bundle: Path, out: Path, actors: RayActors, settings: Settings = SETTINGS) -> int:
    tasks = [(task, task.samples()) for task in bundled(bundle)]
    fingerprint = FakeAdapter().fingerprint()
    open_run(out, make_record("fake", "bundled", tasks, settings, fingerprint), tasks)
    plan = [batch for task, samples in tasks for batch in batches(task, samples, settings, fingerprint)]
    with PredictionStore(out) as store:
        return store_answers(plan, store, actors.answer)


@pytest.mark.slow
def test_the_answers_are_the_same(ray: Any, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle)  # recordings are named from here, in the actors, too
    bad = frozenset({"audio/b.wav"})
    assert run(Path("."), tmp_path / "one", FakeAdapter(fails_on=bad)) > 0
    failed = run_with_ray(Path("."), tmp_path / "ray", RayActors(partial(fake, fails_on=bad), 2))
    assert lasting(tmp_path / "ray") == lasting(tmp_path / "one") and len(lasting(tmp_path / "ray")) == 18
    assert failed == sum(found.error is not None for found in lasting(tmp_path / "one").values()) > 0
    for stopping, message in ((partial(fake, Away), "no route to the server"), (broken, "no checkpoint here")):
        with pytest.raises(Unavailable, match=message):
            run_with_ray(Path("."), tmp_path / "stopped", RayActors(stopping, 1))
    assert run_with_ray(Path("."), tmp_path / "ray", RayActors(broken, 1)) == failed  # nothing is left to ask


def test_errors_travel() -> None:
    class Unpicklable(ValueError):
        def __init__(self, one: str, two: str) -> None:
            super().__init__(f"{one} {two}")

    error = portable(Unpicklable("too", "long"))
    assert (type(error).__name__, str(error)) == ("Unpicklable", "too long")


def test_the_last_words_of_an_actor() -> None:
    silent = RuntimeError("")
    silent.__cause__ = ValueError("ray::_Actor()\n\nFileNotFoundError: no checkpoint here\n")
    assert last_words(silent) == "FileNotFoundError: no checkpoint here"
    assert last_words(RuntimeError()) == "RuntimeError"


def test_bad_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="--workers of at least 1, got 0"):
        RayActors(fake, 0)
    assert list(RayActors(fake).answer([])) == []
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install spikeaudio\[ray\]"):
        list(RayActors(fake).answer([object()]))  # type: ignore[list-item]
