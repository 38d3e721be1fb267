"""Requests to a server of OpenAI's protocol, by the package openai, and what is made of its answers.

The package sends a request again when the server is busy (408, 409, 429), fails (500 and above) or cannot be reached.
Servers answer in more forms than the protocol has, so that answers are read as plain JSON.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from eval.adapters.adapter import Unavailable
from eval.sample import text_of

_DENIED = frozenset({401, 403, 404})  # no request will do better
_BUSY = frozenset({408, 409, 425, 429})
_SHOWN = 200  # characters of a server's error


@dataclass(frozen=True)
class ServerClient:
    """Asks one server.

    Attributes:
        server: base URL, ending in the version.
        key: bearer token; None: the server needs none.
        timeout: seconds to wait for an answer.
        attempts: how often a request is sent before it is given up.
    """

    server: str
    key: str | None = field(default=None, repr=False)
    timeout: float = 300.0
    attempts: int = 5

    @property
    def address(self) -> str:
        """The server without any password."""
        parts = urlsplit(self.server.rstrip("/"))
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    def chat(self, **body: Any) -> dict[str, Any]:
        """The message of a chat completion, with the completion's `finish_reason`.

        Raises:
            Unavailable: nobody answers, access is denied, or the server stays busy.
            ValueError: the server refuses this request, fails on it every time, or answers with no message.
        """
        found = self._json(lambda: self._client.chat.completions.with_raw_response.create(**body))
        try:
            choice = found["choices"][0]
            return choice["message"] | {"finish_reason": choice.get("finish_reason")}
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(f"{self.address} answered with no message: {_short(json.dumps(found))}") from error

    def transcribe(self, recording: bytes, **body: Any) -> str:
        """The text of a WAV file; raises as `chat`."""
        file = ("audio.wav", recording, "audio/wav")
        found = self._json(lambda: self._client.audio.transcriptions.with_raw_response.create(file=file, **body))
        text = text_of(found.get("text"))
        if text is None:
            raise ValueError(f"{self.address} answered with no text: {_short(json.dumps(found))}")
        return text

    def speak(self, **body: Any) -> bytes:
        """The bytes of an audio file; raises as `chat`."""
        return self._sent(lambda: self._client.audio.speech.with_raw_response.create(**body))

    @cached_property
    def _client(self) -> Any:
        try:
            import openai
        except ImportError as error:
            raise ImportError("servers need the package openai: pip install spikeaudio[eval]") from error
        return openai.OpenAI(
            api_key=self.key or "none",  # the package sends something in any case
            base_url=self.server,
            timeout=self.timeout,
            max_retries=self.attempts - 1,
        )

    def _json(self, send: Callable[[], Any]) -> dict[str, Any]:
        content = self._sent(send)
        try:
            found = json.loads(content)
        except ValueError as error:
            shown = _short(content.decode(errors="replace"))
            raise ValueError(f"{self.address} answered with what is no JSON: {shown!r}") from error
        if not isinstance(found, dict):
            raise ValueError(f"{self.address} answered with a {type(found).__name__}, expected a JSON object")
        return found

    def _sent(self, send: Callable[[], Any]) -> bytes:
        """The bytes that the server answers with."""
        import openai

        try:
            content: bytes = send().http_response.content
            return content
        except openai.APIStatusError as error:
            said = f"{self.address} answered {error.status_code}: {_short(error.response.text)}"
            if error.status_code in _DENIED | _BUSY:
                raise Unavailable(said) from error
            raise ValueError(said) from error
        except openai.APIConnectionError as error:
            raise Unavailable(f"{self.address} does not answer: {error.__cause__ or error}") from error


def message_text(message: dict[str, Any]) -> str | None:
    """The text of a message: its content, its refusal, or the transcript of its speech; None: it has none.

    Raises:
        ValueError: the content is of a form that holds no text.
    """
    said = message.get("audio")
    for value in (message.get("content"), message.get("refusal"), said.get("transcript") if said else None):
        if text := text_of(value):
            return text
    return text_of(message.get("content"))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
