"""HTTP with patience: requests are sent again when a server is busy, and errors become one sentence."""

import http.client
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from eval.adapters.adapter import Unavailable

_DENIED = frozenset({401, 403, 404})  # no request will do better
_BUSY = frozenset({408, 409, 425, 429})


@dataclass(frozen=True)
class HttpClient:
    """Posts to one server.

    Attributes:
        key: sent as bearer token; None: none.
        timeout: seconds to wait for an answer.
        attempts: how often a request is sent before it is given up.
        pause: seconds before the second attempt; each further pause is twice as long.
    """

    key: str | None = None
    timeout: float = 300.0
    attempts: int = 5
    pause: float = 1.0

    def __repr__(self) -> str:
        return f"HttpClient(timeout={self.timeout})"  # never the key

    def post_object(self, url: str, value: dict[str, Any]) -> dict[str, Any]:
        """Post JSON for JSON; raises as `post`."""
        return self.post_json(url, json.dumps(value).encode(), "application/json")

    def post_for_bytes(self, url: str, value: dict[str, Any]) -> bytes:
        """Post JSON for bytes; raises as `post`."""
        return self.post(url, json.dumps(value).encode(), "application/json")

    def post_json(self, url: str, body: bytes, content_type: str) -> dict[str, Any]:
        """Post bytes for JSON; raises as `post`, or ValueError where the answer is no JSON object."""
        answer = self.post(url, body, content_type)
        try:
            found = json.loads(answer)
        except ValueError as error:
            raise ValueError(f"{url} answered with what is no JSON: {answer[:80]!r}") from error
        if not isinstance(found, dict):
            raise ValueError(f"{url} answered with {type(found).__name__}, expected a JSON object")
        return found

    def post(self, url: str, body: bytes, content_type: str) -> bytes:
        """Post bytes for bytes.

        Raises:
            Unavailable: nobody answers, access is denied, or the server stays busy.
            ValueError: the server refuses this request, or fails on it every time.
        """
        headers = {"Content-Type": content_type} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        request = urllib.request.Request(url, body, headers, method="POST")
        problem: ValueError | Unavailable = Unavailable(f"{url} was not asked: attempts is {self.attempts}")
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(self.pause * 2 ** (attempt - 1))
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as response:
                    content: bytes = response.read()
                    return content
            except urllib.error.HTTPError as error:
                said = f"{url} answered {error.code}: {error.read(200).decode(errors='replace')}"
                if error.code in _DENIED:
                    raise Unavailable(said) from error
                if error.code < 500 and error.code not in _BUSY:
                    raise ValueError(said) from error
                problem = Unavailable(said) if error.code in _BUSY else ValueError(said)
            except (OSError, http.client.HTTPException) as error:
                problem = Unavailable(f"{url} does not answer: {error}")
        raise problem
