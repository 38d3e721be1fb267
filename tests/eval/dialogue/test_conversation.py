"""Simulated dialogues by hand: tones for speech, and a detector whose decisions can be computed."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from eval.adapters.adapter import CountingAdapter, Request, Response, Unavailable
from eval.dialogue.conversation import Dialogue, sounding
from eval.dialogue.turn_detector import FRAME_SAMPLES, SAMPLING_RATE, SileroTurnDetector, TurnEvent
from eval.dialogue.turn_taker import taking_turns
from eval.judges.judgements import Judgements
from eval.metrics import MEASURED, METRICS
from eval.metrics.case import Case
from eval.run.command import able, generate
from eval.run.plan import Settings, batches
from eval.run.record import make_record, open_run
from eval.run.store import PredictionStore, read_predictions
from eval.sample import Prediction, Sample
from eval.scores.command import score
from eval.task import ASR, CONVERSATION, TURN_TAKING
from eval.tasks import find_tasks
from tests.fixtures.fake_model import FakeAdapter

FRAME = FRAME_SAMPLES / SAMPLING_RATE


class LoudnessDetector:
    """A frame is speech where it is loud; a turn ends after 0.48 s (15 frames) of silence."""

    def fingerprint(self) -> dict[str, Any]:
        return {"loudness": 1}

    def reset(self) -> None:
        self.frame, self.silent, self.speaking = 0, 0, False

    def hear(self, frame: torch.Tensor) -> TurnEvent | None:
        self.frame += 1
        loud = bool(frame.abs().max() > 0.05)
        self.silent = 0 if loud else self.silent + 1
        if loud and not self.speaking:
            self.speaking = True
            return TurnEvent("began", (self.frame - 1) * FRAME_SAMPLES)
        if self.speaking and self.silent == 15:
            self.speaking = False
            return TurnEvent("ended", (self.frame - 15) * FRAME_SAMPLES)
        return None


def sound(*seconds: float) -> torch.Tensor:
    """Silence and tone in turn, so many frames' seconds each; begins with silence."""
    parts = [torch.zeros(round(length * SAMPLING_RATE)) for length in seconds]
    for part in parts[1::2]:
        part += 0.3 * torch.sin(torch.arange(len(part)) / 5)
    return torch.cat(parts)


class Model:
    """Says a tone of `seconds` after `lead` of silence; `heard` holds what it was asked."""

    def __init__(self, lead: float = 0.0, seconds: float = 2.0) -> None:
        self.wav = sound(lead, seconds).numpy() if seconds else None
        self.heard: list[torch.Tensor] = []

    def __call__(self, wav: torch.Tensor) -> Response:
        self.heard.append(wav)
        return Response(f"answer {len(self.heard)}", self.wav, SAMPLING_RATE, {"first_audio_seconds": 0.5})


def talk(recording: torch.Tensor, model: Model) -> Response:
    return Dialogue(recording, model, LoudnessDetector()).run()


def test_a_question_is_answered_and_the_answer_interrupted() -> None:
    model = Model(lead=0.1)
    answer = talk(sound(10 * FRAME, 30 * FRAME, 2 * FRAME), model)
    turns = answer.turns
    assert turns["user_end"] == pytest.approx(40 * FRAME, abs=0.01)
    assert turns["asked_1"] == pytest.approx((40 + 15) * FRAME)
    assert turns["audible_1"] == pytest.approx(turns["asked_1"] + 0.1, abs=0.011)
    assert turns["interruption"] == pytest.approx(turns["audible_1"] + 0.4)
    assert 0 < turns["stopped"] - turns["interruption"] <= 2 * FRAME
    assert len(model.heard) == 1 and len(model.heard[0]) == 40 * FRAME_SAMPLES
    heard = turns["stopped"] - turns["asked_1"]
    assert answer.wav is not None and len(answer.wav) / SAMPLING_RATE == pytest.approx(heard, abs=0.01)
    assert answer.text == "answer 1" and answer.measured["first_audio_seconds"] == 0.5
    assert answer.measured["heard_seconds"] == pytest.approx(turns["stopped"], abs=2 * FRAME)


def test_a_short_pause_is_left_alone_and_a_long_one_is_not() -> None:
    patient = talk(sound(0.32, 0.96, 14 * FRAME, 0.96, 0.1), Model())
    assert [name for name in patient.turns if name.startswith("asked")] == ["asked_1"]
    assert patient.turns["asked_1"] > patient.turns["user_end"]
    model = Model()
    hasty = talk(sound(0.32, 0.96, 25 * FRAME, 0.96, 0.1), model)
    assert hasty.turns["audible_1"] < hasty.turns["user_end"] < hasty.turns["audible_2"]
    assert hasty.text == "answer 2" and len(model.heard[1]) > len(model.heard[0])
    assert torch.equal(model.heard[1][: len(model.heard[0])], model.heard[0])  # all of the turn, not its rest
    assert hasty.turns["interruption"] > hasty.turns["audible_2"]


def test_a_dialogue_is_the_same_every_time() -> None:
    first, second = (talk(sound(0.3, 1.0, 0.9, 0.7, 0.2), Model(0.05)) for _ in range(2))
    assert first.turns == second.turns and np.array_equal(first.wav, second.wav)  # type: ignore[arg-type]


def test_a_short_answer_is_not_interrupted() -> None:
    answer = talk(sound(0.32, 0.96, 0.1), Model(seconds=0.3))
    assert "interruption" not in answer.turns and answer.wav is not None and len(answer.wav) == 4800


def test_an_answer_that_outlasts_the_interruption_unheard() -> None:
    detector = LoudnessDetector()
    deaf = detector.hear

    def hear(frame: torch.Tensor) -> TurnEvent | None:
        event = deaf(frame)
        return None if event and event.kind == "began" and detector.frame > 20 else event

    detector.hear = hear  # type: ignore[method-assign]
    answer = Dialogue(sound(0.32, 0.96, 0.1), Model(seconds=2.0), detector).run()
    assert answer.turns["stopped"] == pytest.approx(answer.turns["asked_1"] + 2.0, abs=0.011)


def test_a_model_that_says_nothing() -> None:
    answer = talk(sound(0.32, 0.96, 0.1), Model(seconds=0))
    assert answer.turns.keys() == {"user_end", "asked_1"} and answer.wav is None


def test_recordings_without_a_turn() -> None:
    with pytest.raises(ValueError, match="nothing is said in the recording"):
        talk(torch.zeros(16000), Model())
    with pytest.raises(ValueError, match=r"the turn detector heard no turn end within 1[01]"):
        talk(sound(0.1, 1.0) * 0.1, Model())  # too low for this detector


def test_sounding() -> None:
    wav = sound(0.5, 0.25, 0.125).numpy()
    assert sounding(wav, SAMPLING_RATE) == (pytest.approx(0.5, abs=0.01), pytest.approx(0.75, abs=0.01))
    assert sounding(np.zeros(100, np.float32), SAMPLING_RATE) is None
    assert sounding(np.zeros(0, np.float32), SAMPLING_RATE) is None
    assert sounding(np.ones(7, np.float32), SAMPLING_RATE) == (0.0, 7 / SAMPLING_RATE)


# -- the adapter -------------------------------------------------------------------------------------------------------


class Talker(FakeAdapter):
    """Answers conversations with a second of tone."""

    def _answer(self, request: Request, together: int) -> Response:
        wav, rate = soundfile.read(request.audio, dtype="float32")
        assert request.job == CONVERSATION and rate == SAMPLING_RATE
        return Response(f"{len(wav)} samples", sound(0.05, 1.0).numpy(), SAMPLING_RATE, {"audio_seconds": 1.05})


class Counting(Talker):
    """The same, counted."""

    def answer_counted(self, request: Request) -> Response:
        return replace(self._answer(request, 1), costs={"tokens": 3.0})


def question(folder: Path) -> Path:
    soundfile.write(folder / "question.wav", sound(0.32, 0.96, 0.1).numpy(), SAMPLING_RATE)
    return folder / "question.wav"


def ask(audio: Path | None) -> Request:
    return Request(TURN_TAKING, None if audio is None else str(audio), None, "en", 0)


def test_any_model_that_converses_takes_turns(tmp_path: Path) -> None:
    adapter = taking_turns(Talker(), LoudnessDetector())
    assert adapter.jobs == Talker().jobs | {TURN_TAKING} and not isinstance(adapter, CountingAdapter)
    assert adapter.fingerprint() == Talker().fingerprint() | {"turn_detector": {"loudness": 1}}
    (answer,) = adapter.answer([ask(question(tmp_path))])
    assert isinstance(answer, Response) and answer.turns["stopped"] > answer.turns["interruption"]
    assert answer.text == f"{40 * FRAME_SAMPLES} samples"
    counted = taking_turns(Counting(), LoudnessDetector())
    assert isinstance(counted, CountingAdapter)
    found = counted.answer_counted(ask(question(tmp_path)))
    assert found.costs == {"tokens": 3.0} and found.turns == answer.turns and found.measured == {"audio_seconds": 1.05}


def test_faults_of_a_dialogue_are_its_own(tmp_path: Path) -> None:
    adapter = taking_turns(Talker(), LoudnessDetector())
    silence = tmp_path / "silence.wav"
    soundfile.write(silence, np.zeros(9000), SAMPLING_RATE)
    found = adapter.answer([ask(silence), ask(question(tmp_path)), ask(None)])
    assert [type(one) for one in found] == [ValueError, Response, ValueError]
    away = type("Away", (Talker,), {"answer": lambda self, requests: (_ for _ in ()).throw(Unavailable("gone"))})()
    with pytest.raises(Unavailable, match="gone"):
        taking_turns(away, LoudnessDetector()).answer([ask(question(tmp_path))])
    with pytest.raises(ValueError, match=r"needs a model that answers speech, but this one \(fake\) does asr"):
        taking_turns(FakeAdapter(jobs=frozenset({ASR})), LoudnessDetector())


def test_only_models_that_need_a_detector_get_one() -> None:
    turns, other = find_tasks(("bundled_turn_taking",)), find_tasks(("bundled_asr_open",))
    native = FakeAdapter(jobs=frozenset({TURN_TAKING}))
    assert able(native, turns) is native
    assert able(plain := FakeAdapter(), other) is plain


# -- figures -----------------------------------------------------------------------------------------------------------


def case(folder: Path, turns: dict[str, float], pause: bool = True, **rest: Any) -> Case:
    (folder / "a.flac").write_bytes(b"x")
    prediction = Prediction("t", "a", "k", "x", **{"audio": "a.flac", "turns": turns} | rest)
    sample = Sample("a", "q.wav", meta={"pause_seconds": "0.8"} if pause else {})
    return Case(TURN_TAKING, "en", sample, prediction, folder, Judgements(folder / "judgements.jsonl"))


NAMES = ("takeover_rate", "response_latency", "pause_takeover_rate", "stop_latency")


def values(one: Case) -> list[float | None]:
    counts = [METRICS[name].measure(one) for name in NAMES]
    return [None if count is None else count.numerator for count in counts]


GOOD = {"user_end": 2.0, "asked_1": 2.5, "audible_1": 2.6, "interruption": 3.0, "stopped": 3.25}


@pytest.mark.parametrize(
    "turns,expected",
    [
        (GOOD, [1, 0.6, 0, 0.25]),
        (GOOD | {"asked_1": 1.0, "audible_1": 1.1, "asked_2": 2.5, "audible_2": 2.6}, [1, 0.6, 1, 0.25]),
        (GOOD | {"stopped": 2.9}, [1, 0.6, 0, 10]),  # stopped before anybody said a word
        ({"user_end": 2.0, "asked_1": 2.5, "audible_1": 2.6}, [1, 0.6, 0, None]),
        ({"user_end": 2.0, "asked_1": 1.0, "audible_1": 1.1}, [0, 10, 1, None]),  # only in the pause
        ({"user_end": 2.0, "asked_1": 2.5, "audible_1": 14.0}, [1, 10, 0, None]),
    ],
)
def test_figures(tmp_path: Path, turns: dict[str, float], expected: list[float | None]) -> None:
    assert values(case(tmp_path, turns)) == [None if one is None else pytest.approx(one) for one in expected]


def test_failing_is_the_worst_dialogue(tmp_path: Path) -> None:
    assert values(case(tmp_path, {}, error="it raised", audio=None)) == [0, 10, 1, 10]
    assert values(case(tmp_path, GOOD, pause=False))[2] is None
    measured = {"listening_seconds": 0.5, "heard_seconds": 5.0}
    count = METRICS["listening_factor"].measure(case(tmp_path, GOOD, measured=measured))
    assert count is not None and count.numerator / count.denominator == 0.1 and "listening_factor" in MEASURED


def test_loading_the_detector_leaves_the_threads_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("silero_vad", reason="silero-vad is not installed (spikeaudio[eval])")
    for name in [name for name in sys.modules if name.partition(".")[0] == "silero_vad"]:
        monkeypatch.delitem(sys.modules, name)  # importing it anew sets one thread
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        SileroTurnDetector()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_the_bundled_dialogues() -> None:
    pytest.importorskip("silero_vad", reason="silero-vad is not installed (spikeaudio[eval])")
    (task,) = find_tasks(("bundled_turn_taking",))
    adapter = able(Talker(), [task])
    pauses = [sample.meta.get("pause_seconds") for sample in task.samples()]
    assert len(pauses) == 12 and [pauses.count(pause) for pause in (None, "0.4", "0.8")] == [4, 4, 4]
    assert adapter.fingerprint()["turn_detector"]["silence_seconds"] == 0.5
    chosen = [next(s for s in task.samples() if s.meta.get("pause_seconds") == pause) for pause in (None, "0.4", "0.8")]
    for sample, starts in zip(chosen, (0, 0, 1), strict=True):
        (answer,) = adapter.answer([ask(Path(str(sample.audio)))])
        assert isinstance(answer, Response), answer
        turns = answer.turns
        audible = [at for name, at in turns.items() if name.startswith("audible")]
        assert sum(at < turns["user_end"] for at in audible) == starts
        assert 0.4 < audible[-1] - turns["user_end"] < 0.9 and 0 < turns["stopped"] - turns["interruption"] < 0.4


def test_a_run_with_dialogues(tmp_path: Path) -> None:
    samples = [Sample("a", str(question(tmp_path)), references=("x",))]
    task = replace(find_tasks(("bundled_turn_taking",))[0], samples=lambda: samples)
    adapter, out = taking_turns(Talker(), LoudnessDetector()), tmp_path / "run"
    open_run(out, make_record("fake", None, [(task, samples)], Settings(), adapter.fingerprint()), [(task, samples)])
    with PredictionStore(out) as store:
        assert generate(adapter, batches(task, samples, Settings(), adapter.fingerprint()), store) == 0
    found = read_predictions(out)["bundled_turn_taking", "a"]
    assert found.turns["interruption"] > found.turns["user_end"] and found.audio is not None
    figures = score(out).tasks["bundled_turn_taking"].metrics
    assert figures["takeover_rate"].value == 1 and 0.4 < figures["response_latency"].value < 0.6
    assert "pause_takeover_rate" not in figures and figures["accuracy"].value == 0
