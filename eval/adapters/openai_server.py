"""Any server that speaks OpenAI's protocol: /audio/transcriptions, /chat/completions with audio, /audio/speech.

The server is $OPENAI_BASE_URL (such as http://localhost:8000/v1), its key $OPENAI_API_KEY, which is recorded nowhere.
Weights behind a server have no digest: that its name still means the same model is the server's word.
"""

import base64
import io
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import soundfile

from eval.adapters.adapter import Request, Response, Unavailable
from eval.adapters.openai_client import ServerClient, message_text
from eval.task import AQA, ASR, CONVERSATION, TTS, Job
from spikeaudio.audio.files import load_audio
from spikeaudio.audio.samples import check_wav

_HEARING_HZ = 16000
_VOICE = "alloy"


class OpenAIAdapter:
    """One model of a server.

    Args:
        model: its name on the server.
        client: asks the server.
    """

    name = "openai"
    jobs: frozenset[Job] = frozenset({ASR, AQA, TTS, CONVERSATION})

    def __init__(self, model: str, client: ServerClient) -> None:
        self._model = model
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
        return cls(model, ServerClient(server, os.environ.get("OPENAI_API_KEY")))

    def fingerprint(self) -> dict[str, Any]:
        """Server, without any password in its address, and model."""
        server = self._client.address
        return {"adapter": self.name, "server": server, "model": self._model, "voice": _VOICE, "digest": None}

    def answer(self, requests: Sequence[Request]) -> list[Response | Exception]:
        """All requests at once."""
        with ThreadPoolExecutor(len(requests)) as pool:
            return list(pool.map(self._answer_or_error, requests))

    def _answer_or_error(self, request: Request) -> Response | Exception:
        try:
            began = time.perf_counter()
            answer = self._answer(request)
            answer.measured["seconds"] = time.perf_counter() - began
            return answer
        except Unavailable:
            raise
        except Exception as error:
            return error

    def _answer(self, request: Request) -> Response:
        if request.job == TTS:
            return self._speak(request)
        if request.job == ASR and request.text is None:
            return self._transcribe(request)
        return self._chat(request)

    def _transcribe(self, request: Request) -> Response:
        recording, seconds = _recording(request)
        asked = {"model": self._model, "language": request.language, "temperature": 0, "response_format": "json"}
        return Response(self._client.transcribe(recording, **asked), measured={"audio_seconds": seconds})

    def _speak(self, request: Request) -> Response:
        asked = {"model": self._model, "input": request.text, "voice": _VOICE, "response_format": "wav"}
        return _spoken(None, self._client.speak(**asked))

    def _chat(self, request: Request) -> Response:
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
        if request.job == CONVERSATION:
            asked |= {"modalities": ["text", "audio"], "audio": {"voice": _VOICE, "format": "wav"}}
        message = self._client.chat(**asked)
        text, said = message_text(message), message.get("audio") or {}
        if said.get("data"):
            return _spoken(text, base64.b64decode(said["data"]))
        if text is None:
            raise ValueError(f"the server wrote nothing (finish reason: {message['finish_reason']})")
        return Response(text, measured={"audio_seconds": seconds})


def _recording(request: Request) -> tuple[bytes, float]:
    """A recording as 16 kHz mono WAV, and its seconds."""
    if request.audio is None:
        raise ValueError("there is no recording to hear")
    wav, file = load_audio(request.audio, _HEARING_HZ), io.BytesIO()
    soundfile.write(file, wav.numpy(), _HEARING_HZ, format="WAV", subtype="PCM_16")
    return file.getvalue(), len(wav) / _HEARING_HZ


def _spoken(text: str | None, content: bytes) -> Response:
    """An answer aloud, from the bytes of an audio file."""
    samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    wav = check_wav(samples, "the server's speech").numpy()
    return Response(text, wav, rate, {"audio_seconds": len(wav) / rate})
