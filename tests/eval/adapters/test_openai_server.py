"""The OpenAI protocol against a server of this test: what is sent, what is made of the answers, and its bad days."""

import base64
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from eval.adapters.adapter import Request, Response, Unavailable
from eval.adapters.openai_client import ServerClient
from eval.adapters.openai_server import OpenAIAdapter
from eval.digest import digest
from eval.task import AQA, ASR, CONVERSATION, TTS
from tests.eval.conftest import write_tone


def recording() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.full(2400, 0.25, np.float32), 24000, format="WAV")
    return file.getvalue()


@dataclass
class Server:
    """What was asked, and with which codes to answer first."""

    url: str = ""
    codes: list[int] = field(default_factory=list)
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    message: dict[str, Any] = field(default_factory=dict)
    transcript: Any = field(default_factory=lambda: {"text": "two plus two"})

    def answer(self, path: str) -> bytes:
        if path.endswith("/audio/transcriptions"):
            return json.dumps(self.transcript).encode()
        if path.endswith("/audio/speech"):
            return recording()
        return json.dumps({"choices": [{"message": self.message}]}).encode()


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            code = state.codes.pop(0) if state.codes else 200
            content = state.answer(self.path) if code == 200 else b"not today"
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Retry-After-Ms", "1")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        state.url = f"http://user:secret@127.0.0.1:{http.server_port}/v1"
        yield state
        http.shutdown()


@pytest.fixture
def adapter(server: Server) -> OpenAIAdapter:
    return OpenAIAdapter("m", ServerClient(server.url.replace("user:secret@", ""), "key", attempts=3))


def ask(adapter: OpenAIAdapter, job: str, audio: Path | None = None, text: str | None = None) -> Response:
    request = Request(job, None if audio is None else str(audio), text, "en", 7)  # type: ignore[arg-type]
    (answer,) = adapter.answer([request])
    if isinstance(answer, Exception):
        raise answer
    return answer


def test_transcription(adapter: OpenAIAdapter, server: Server, tmp_path: Path) -> None:
    answer = ask(adapter, ASR, write_tone(tmp_path / "a.flac", 0.5, 48000))
    assert answer.text == "two plus two" and answer.measured["audio_seconds"] == 0.5
    path, headers, body = server.asked[0]
    assert path == "/v1/audio/transcriptions" and headers["authorization"] == "Bearer key"
    for part in (b'name="model"\r\n\r\nm\r\n', b'name="language"\r\n\r\nen\r\n', b'filename="audio.wav"'):
        assert part in body
    wav = body[body.index(b"RIFF") : body.rindex(b"\r\n--")]
    assert soundfile.info(io.BytesIO(wav)).samplerate == 16000


def test_question_and_conversation(adapter: OpenAIAdapter, server: Server, tmp_path: Path) -> None:
    tone = write_tone(tmp_path / "a.wav")
    server.message = {"content": "an organ"}
    assert ask(adapter, AQA, tone, "which instrument is this").text == "an organ"
    asked = json.loads(server.asked[0][2])
    text, audio = asked["messages"][0]["content"]
    assert text["text"] == "which instrument is this" and "modalities" not in asked and asked["seed"] == 7
    assert base64.b64decode(audio["input_audio"]["data"])[:4] == b"RIFF" and audio["input_audio"]["format"] == "wav"
    said = {"data": base64.b64encode(recording()).decode(), "transcript": "four"}
    server.message = {"content": None, "audio": said}
    answer = ask(adapter, CONVERSATION, tone)
    assert answer.text == "four" and answer.wav is not None and answer.sampling_rate == 24000
    assert json.loads(server.asked[1][2])["modalities"] == ["text", "audio"]


def test_speech(adapter: OpenAIAdapter, server: Server) -> None:
    answer = ask(adapter, TTS, text="hello")
    assert answer.wav is not None and answer.measured["audio_seconds"] == 0.1 and answer.text is None
    assert json.loads(server.asked[0][2])["input"] == "hello"


@pytest.mark.parametrize(
    "codes,raised,message,times",
    [
        ([503, 429], None, "", 3),
        ([500] * 9, ValueError, "answered 500: not today", 3),  # this sample's fault, as far as anyone can tell
        ([429] * 9, Unavailable, "answered 429", 3),
        ([401], Unavailable, "answered 401", 1),
        ([400], ValueError, "answered 400", 1),
    ],
)
def test_bad_days(
    adapter: OpenAIAdapter, server: Server, codes: list[int], raised: type | None, message: str, times: int
) -> None:
    server.codes = codes
    if raised is None:
        assert ask(adapter, TTS, text="hello").wav is not None
    else:
        with pytest.raises(raised, match=message):
            ask(adapter, TTS, text="hello")
    assert len(server.asked) == times


def test_nobody_there_and_nonsense(adapter: OpenAIAdapter, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        ask(OpenAIAdapter("m", ServerClient("http://127.0.0.1:9/v1", attempts=1, timeout=1)), "tts", text="hello")
    monkeypatch.setattr(server, "answer", lambda path: b"<html>")
    with pytest.raises(ValueError, match="answered with what is no JSON"):
        ask(adapter, AQA, text="what")


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": [{"type": "text", "text": "a "}, {"type": "text", "text": "flute"}]}, "a flute"),
        ({"content": ["a flute"]}, "a flute"),
        ({"content": [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "a flute"}]}, "a flute"),
        ({"content": None, "refusal": "I cannot help"}, "I cannot help"),
        ({"content": "", "audio": {"transcript": "a flute"}}, "a flute"),
        ({"content": ""}, ""),
        ({"content": "half \ud83d a character"}, "half \ufffd a character"),
        ({"content": None}, None),
        ({"content": None, "reasoning_content": "hm"}, None),
        ({"content": []}, None),
        ({"content": {"text": "a flute"}}, None),
        ({"content": 7}, None),
        ({}, None),
    ],
)
def test_forms_of_a_message(adapter: OpenAIAdapter, server: Server, message: dict[str, Any], text: str | None) -> None:
    server.message = message
    if text is None:
        with pytest.raises(ValueError):  # a failed answer with a reason
            ask(adapter, AQA, text="what")
    else:
        assert ask(adapter, AQA, text="what").text == text


@pytest.mark.parametrize(
    "answer", [b'{"choices": []}', b'{"choices": null}', b'{"error": "busy"}', b"[1]", b"null", b""]
)
def test_answers_without_a_message(
    adapter: OpenAIAdapter, server: Server, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    monkeypatch.setattr(server, "answer", lambda path: answer)
    with pytest.raises(ValueError, match="answered with"):
        ask(adapter, AQA, text="what")


@pytest.mark.parametrize("transcript", [{"text": None}, {}, [{"text": "x"}], {"text": {"x": 1}}, "x"])
def test_transcripts_without_text(adapter: OpenAIAdapter, server: Server, tmp_path: Path, transcript: Any) -> None:
    server.transcript = transcript
    with pytest.raises(ValueError):
        ask(adapter, ASR, write_tone(tmp_path / "a.wav"))


def test_nothing_secret_is_recorded(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-mine")
    adapter = OpenAIAdapter.from_environment("m")
    assert digest(adapter.fingerprint()) and adapter.fingerprint()["server"].startswith("http://127.0.0.1:")
    assert "secret" not in str(adapter.fingerprint()) and "key-of-mine" not in repr(vars(adapter))
    monkeypatch.setenv("OPENAI_BASE_URL", "localhost")
    with pytest.raises(Unavailable, match="set OPENAI_BASE_URL to the server"):
        OpenAIAdapter.from_environment("m")
