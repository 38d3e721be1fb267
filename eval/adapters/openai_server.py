"""Any server that speaks OpenAI's protocol: /audio/transcriptions, /chat/completions with audio, /audio/speech.

The server is $OPENAI_BASE_URL (such as http://localhost:8000/v1), its key $OPENAI_API_KEY, which is recorded nowhere.
Weights behind a server have no digest: that its name still means the same model is the server's word.
"""

import base64
import io
import os
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import soundfile

from eval.adapters.adapter import Answer, Request, Unavailable
from eval.adapters.http_client import HttpClient
from eval.task import Job
from spikeaudio.audio.files import load_audio
from spikeaudio.audio.samples import check_wav

_HEARING_HZ = 16000
_VOICE = "alloy"


class OpenAIAdapter:
    """One model of a server.

    Args:
        model: its name on the server.
        server: base URL, ending in the version.
        client: sends what is to be sent.
    """

    name = "openai"
    jobs: frozenset[Job] = frozenset({"asr", "aqa", "tts", "conversation"})

    def __init__(self, model: str, server: str, client: HttpClient) -> None:
        self._model = model
        self._server = server.rstrip("/")
        self._client = client

    @classmethod
    def from_environment(cls, model: str) -> "OpenAIAdapter":
        """The server that the environment names.

        Raises:
            Unavailable: it names none.
        """
        server = os.environ.get("OPENAI_BASE_URL", "")
        if urlsplit(server).scheme not in ("http", "https"):
            raise Unavailable(f"set OPENAI_BASE_URL to the server, as in http://localhost:8000/v1; it is {server!r}")
        return cls(model, server, HttpClient(os.environ.get("OPENAI_API_KEY")))

    def fingerprint(self) -> dict[str, Any]:
        """Server, without any password in its address, and model."""
        parts = urlsplit(self._server)
        host = parts.netloc.rpartition("@")[2]
        server = urlunsplit((parts.scheme, host, parts.path, "", ""))
        return {"adapter": self.name, "server": server, "model": self._model, "voice": _VOICE, "digest": None}

    def answer(self, requests: Sequence[Request]) -> list[Answer | Exception]:
        """All requests at once."""
        with ThreadPoolExecutor(len(requests)) as pool:
            return list(pool.map(self._answer_or_error, requests))

    def _answer_or_error(self, request: Request) -> Answer | Exception:
        try:
            began = time.perf_counter()
            answer = self._answer(request)
            answer.measured["seconds"] = time.perf_counter() - began
            return answer
        except Unavailable:
            raise
        except Exception as error:
            return error

    def _answer(self, request: Request) -> Answer:
        if request.job == "tts":
            return self._speak(request)
        if request.job == "asr" and request.text is None:
            return self._transcribe(request)
        return self._chat(request)

    def _transcribe(self, request: Request) -> Answer:
        recording, seconds = _recording(request)
        fields = {"model": self._model, "language": request.language, "temperature": "0", "response_format": "json"}
        body, content_type = multipart(fields, recording)
        found = self._client.post_json(f"{self._server}/audio/transcriptions", body, content_type)
        return Answer(str(found["text"]), measured={"audio_seconds": seconds})

    def _speak(self, request: Request) -> Answer:
        asked = {"model": self._model, "input": request.text, "voice": _VOICE, "response_format": "wav"}
        return _spoken(None, self._client.post_for_bytes(f"{self._server}/audio/speech", asked))

    def _chat(self, request: Request) -> Answer:
        content: list[dict[str, Any]] = []
        seconds = 0.0
        if request.text is not None:
            content.append({"type": "text", "text": request.text})
        if request.audio is not None:
            recording, seconds = _recording(request)
            audio = {"data": base64.b64encode(recording).decode(), "format": "wav"}
            content.append({"type": "input_audio", "input_audio": audio})
        asked: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": "user", "content": content}],
            "seed": request.seed,
            "temperature": 0,
        }
        if request.job == "conversation":
            asked |= {"modalities": ["text", "audio"], "audio": {"voice": _VOICE, "format": "wav"}}
        message = self._client.post_object(f"{self._server}/chat/completions", asked)["choices"][0]["message"]
        said = message.get("audio") or {}
        text = message.get("content") or said.get("transcript")
        if said.get("data"):
            return _spoken(text, base64.b64decode(said["data"]))
        return Answer(text, measured={"audio_seconds": seconds})


def multipart(fields: dict[str, str], recording: bytes) -> tuple[bytes, str]:
    """Body and content type of a form with text fields and one file, "file"."""
    boundary = uuid.uuid4().hex
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="audio.wav"\r\n'
    head += "Content-Type: audio/wav\r\n\r\n"
    body = "".join(parts).encode() + head.encode() + recording + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"


def _recording(request: Request) -> tuple[bytes, float]:
    """A recording as 16 kHz mono WAV, and its seconds."""
    if request.audio is None:
        raise ValueError("there is no recording to hear")
    wav, file = load_audio(request.audio, _HEARING_HZ), io.BytesIO()
    soundfile.write(file, wav.numpy(), _HEARING_HZ, format="WAV", subtype="PCM_16")
    return file.getvalue(), len(wav) / _HEARING_HZ


def _spoken(text: str | None, content: bytes) -> Answer:
    """An answer aloud, from the bytes of an audio file."""
    samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    wav = check_wav(samples, "the server's speech").numpy()
    return Answer(text, wav, rate, {"audio_seconds": len(wav) / rate})
