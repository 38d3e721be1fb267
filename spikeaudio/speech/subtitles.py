"""A transcript as a text, as JSON, or as subtitles."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from spikeaudio.speech.result import Transcript, TranscriptSegment


def render(transcript: Transcript, format: str) -> str:
    """A transcript as the content of a file, without a line break at its end.

    >>> from spikeaudio.speech.result import Transcript, TranscriptSegment
    >>> said = TranscriptSegment(0.5, 1.5, "how are you", score=-0.1, no_speech=0.0)
    >>> render(Transcript("how are you", (said,), duration=2.0), "srt")
    '1\\n00:00:00,500 --> 00:00:01,500\\nhow are you'

    Args:
        transcript: with times.
        format: "txt" (the words), "json" (everything), "srt" (SubRip) or "vtt" (WebVTT).

    Raises:
        ValueError: an unknown format.
    """
    if format not in _FORMATS:
        raise ValueError(f"the format of a transcript must be one of {', '.join(_FORMATS)}, got {format!r}")
    return _FORMATS[format](transcript)


def fields(transcript: Transcript) -> dict[str, Any]:
    """A transcript as what JSON can hold; seconds and scores with four digits behind the point."""
    return {
        "text": transcript.text,
        "duration_seconds": round(transcript.duration, 3),
        "no_speech": transcript.no_speech,
        "score": round(transcript.score, 4),
        "uncertain": transcript.uncertain,
        "segments": [
            {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(segment).items()}
            for segment in transcript.segments
        ],
    }


def _json(transcript: Transcript) -> str:
    return json.dumps(fields(transcript), ensure_ascii=False, indent=1)


def _srt(transcript: Transcript) -> str:
    return "\n\n".join(
        f"{number}\n{cue}" for number, cue in enumerate(_cues(transcript.segments, decimal_mark=","), start=1)
    )


def _vtt(transcript: Transcript) -> str:
    return "\n\n".join(["WEBVTT", *_cues(transcript.segments, decimal_mark=".")])


def _cues(segments: Iterable[TranscriptSegment], decimal_mark: str) -> list[str]:
    return [
        f"{_clock(segment.start, decimal_mark)} --> {_clock(segment.end, decimal_mark)}\n{segment.text}"
        for segment in segments
    ]


def _clock(seconds: float, decimal_mark: str) -> str:
    """Seconds as hours:minutes:seconds and milliseconds."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02}:{minute:02}:{second:02}{decimal_mark}{milliseconds:03}"


_FORMATS: dict[str, Callable[[Transcript], str]] = {
    "txt": lambda transcript: transcript.text,
    "json": _json,
    "srt": _srt,
    "vtt": _vtt,
}
