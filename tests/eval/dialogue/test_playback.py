"""Streams played and listened to: a player's stalls by hand, seams that are there and seams that are not."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from eval.dialogue.playback import flux_at_joins, joins, play, seams
from eval.judges.judgements import Judgements
from eval.metrics import MEASURED, METRICS
from eval.metrics.case import Case
from eval.sample import Prediction, Sample
from eval.task import TTS

RATE = 24000


def speech(seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    """Voiced sound that comes and goes: harmonics of a gliding pitch under a slow envelope, and a little noise."""
    time = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(120 + 20 * np.sin(2 * np.pi * 0.7 * time)) / RATE
    wav = sum(np.sin(k * phase) / k for k in range(1, 25)) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time))
    noise = np.random.default_rng(seed).standard_normal(len(time))
    return (0.1 * wav + 0.001 * noise).astype(np.float32)


@pytest.mark.parametrize(
    "pieces,stalls,seconds,gap",
    [
        ([(5.0, 1000)], 0, 0.0, 0.0),  # how long the first one took is another figure
        ([(1.0, 1000), (1.9, 1000), (2.9, 1000)], 0, 0.0, 1.0),
        ([(1.0, 1000), (2.0, 1000)], 0, 0.0, 1.0),  # just in time
        ([(1.0, 1000), (2.5, 1000), (2.6, 1000)], 1, 0.5, 1.5),
        ([(1.0, 500), (2.0, 500), (3.0, 500)], 2, 1.0, 1.0),  # the second stall begins where the first piece late ends
        ([(0.0, 3000), (0.1, 1000), (4.5, 1)], 1, 0.5, 4.4),
    ],
)
def test_playback(pieces: list[tuple[float, int]], stalls: int, seconds: float, gap: float) -> None:
    played = play(pieces, 1000)
    assert (played.stalls, played.stalled_seconds) == (stalls, pytest.approx(seconds))
    assert played.longest_gap_seconds == pytest.approx(gap)


def test_a_stream_as_fast_as_its_speech_does_not_stall() -> None:
    assert play([(0.1 * step, 2400) for step in range(1000)], RATE).stalls == 0
    with pytest.raises(ValueError, match="at least one piece"):
        play([], RATE)


def test_exact_streaming_has_no_seams() -> None:
    wav = speech()
    found = seams(wav, wav, [12000, 30000], RATE)
    assert (found.peak, found.peak_elsewhere, found.distance, found.distance_elsewhere) == (0, 0, 0, 0)


def test_a_click_is_found_at_the_join_and_nowhere_else() -> None:
    wav = speech()
    clicking = wav.copy()
    clicking[12000:12024] += 0.2
    found = seams(clicking, wav, joins([(0.0, 12000), (0.5, 18000), (1.0, 18000)]), RATE)
    assert found.peak == pytest.approx(0.2, abs=1e-6) and found.peak_elsewhere == 0
    assert found.distance > 1 and found.distance_elsewhere < 0.1  # frames of 43 ms reach a little further
    beside = seams(clicking, wav, [30000], RATE)
    assert beside.peak == 0 and beside.peak_elsewhere == pytest.approx(0.2, abs=1e-6)


def test_what_is_missing_is_different() -> None:
    wav = speech()
    assert seams(wav[:-4800], wav, [12000], RATE).peak_elsewhere == pytest.approx(abs(wav[-4800:]).max())
    assert seams(wav[:16000], wav[:16000], [4000], 16000).distance == 0  # other rates are resampled


def test_sixteen_bits_are_no_seam() -> None:
    wav = speech()
    rounded = (np.round(wav * 32767) / 32767).astype(np.float32)
    found = seams(rounded, wav, [12000], RATE)
    assert found.peak < 3.1e-5 and found.distance < 0.1


def test_flux_of_joins_that_cannot_be_heard() -> None:
    drawn = np.random.default_rng(1).integers(3000, 45000, 60)
    heard = [one for at in drawn for one in flux_at_joins(speech(seed=int(at)), [int(at)], RATE)]
    assert len(heard) > 55 and abs(np.mean(heard)) < 1.5


@pytest.mark.parametrize("height,expected", [(0.02, 1.0), (0.1, 6.0)])
def test_flux_of_a_jump(height: float, expected: float) -> None:
    wav = speech()
    wav[20000:] += height
    assert flux_at_joins(wav, [20000], RATE)[0] > expected
    assert flux_at_joins(wav, [30000], RATE)[0] < 3


def test_flux_needs_sound_at_the_join() -> None:
    wav = speech()
    wav[20000:26000] = 0
    assert flux_at_joins(wav, [23000], RATE) == [] and len(flux_at_joins(wav, [10000, 23000], RATE)) == 1
    assert flux_at_joins(wav[:500], [250], RATE) == [] and flux_at_joins(np.zeros(RATE, np.float32), [9], RATE) == []


def case(folder: Path, **rest: object) -> Case:
    prediction = Prediction("t", "a", "k", "x", **rest)  # type: ignore[arg-type]
    return Case(TTS, "en", Sample("a", text="x"), prediction, folder, Judgements(folder / "judgements.jsonl"))


def values(one: Case) -> dict[str, float]:
    counts = {name: METRICS[name].measure(one) for name in MEASURED}
    return {name: count.numerator / count.denominator for name, count in counts.items() if count}


def test_figures_of_a_case(tmp_path: Path) -> None:
    wav = speech()
    soundfile.write(tmp_path / "a.flac", wav, RATE)
    soundfile.write(tmp_path / "b.flac", wav * 0.5, RATE)
    pieces = ((1.0, 12000), (2.0, 36000))
    whole = values(case(tmp_path, audio="a.flac", offline="b.flac", pieces=pieces, measured={"seconds": 4.0}))
    assert whole["playback_stalls"] == 1 and whole["stalled_seconds"] == 0.5 and whole["longest_gap_seconds"] == 1
    assert whole["seam_distance"] == pytest.approx(6.02, abs=0.6)  # half as loud, less what lies below the floor
    assert whole["seam_distance_elsewhere"] == pytest.approx(6.02, abs=0.6)
    assert whole["seam_peak_elsewhere"] == pytest.approx(abs(wav).max() / 2, abs=1e-4)
    assert 0 < whole["seam_peak"] < whole["seam_peak_elsewhere"]
    assert values(case(tmp_path, audio="a.flac", pieces=pieces)).keys() == {
        "playback_stalls", "stalled_seconds", "longest_gap_seconds", "join_flux",
    }  # fmt: skip
    assert values(case(tmp_path, audio="a.flac", pieces=pieces[:1])).keys() == {"playback_stalls", "stalled_seconds"}
    for lacking in ({"audio": "a.flac"}, {"audio": "gone.flac", "pieces": pieces}, {"error": "x", "pieces": pieces}):
        assert not values(case(tmp_path, **lacking))
