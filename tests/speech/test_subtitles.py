"""Transcripts as files: the published forms of SubRip and WebVTT, and JSON that holds everything."""

import json
import math

import pytest

from spikeaudio.speech.result import Transcript, TranscriptSegment
from spikeaudio.speech.subtitles import render

SEGMENTS = (
    TranscriptSegment(0.25, 1.5, "how are you", score=-0.2, no_speech=0.0),
    TranscriptSegment(3661.9996, 3663.0, "fine", score=-1.0, no_speech=0.1),
)
TRANSCRIPT = Transcript("how are you fine", SEGMENTS, duration=3700.0, score_threshold=-0.3)


def test_text_is_the_words() -> None:
    assert render(TRANSCRIPT, "txt") == "how are you fine"


def test_subrip() -> None:
    assert render(TRANSCRIPT, "srt") == (
        "1\n00:00:00,250 --> 00:00:01,500\nhow are you\n\n2\n01:01:02,000 --> 01:01:03,000\nfine"
    )


def test_webvtt() -> None:
    assert render(TRANSCRIPT, "vtt").splitlines()[:4] == ["WEBVTT", "", "00:00:00.250 --> 00:00:01.500", "how are you"]


def test_json_holds_everything() -> None:
    stored = json.loads(render(TRANSCRIPT, "json"))
    assert stored["segments"][0] == {"start": 0.25, "end": 1.5, "text": "how are you", "score": -0.2, "no_speech": 0.0}
    assert (stored["duration_seconds"], stored["no_speech"], stored["uncertain"]) == (3700.0, False, True)
    assert stored["score"] == pytest.approx((3 * -0.2 - 1.0) / 4)


def test_nothing_said() -> None:
    silent = Transcript("", (), duration=5.0, score_threshold=-0.3)
    assert silent.no_speech and not silent.uncertain and not math.isnan(silent.score)
    assert [render(silent, form) for form in ("txt", "srt", "vtt")] == ["", "", "WEBVTT"]
    assert json.loads(render(silent, "json"))["segments"] == []


def test_unknown_format() -> None:
    with pytest.raises(ValueError, match="txt, json, srt, vtt, got 'docx'"):
        render(TRANSCRIPT, "docx")
