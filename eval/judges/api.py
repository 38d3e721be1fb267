"""A judge behind any server that speaks OpenAI's chat completions."""

import json
import os
import time
import urllib.error
import urllib.request

from eval.judges.judge import RUBRIC, Scale, prompt_hash

_ATTEMPTS = 3
_SECONDS = 120.0


class ApiJudge:
    """Asks a server, at temperature 0.

    Args:
        url: of the API, up to and without "/chat/completions".
        model: as the server names it.
        prompt: with the fields question, reference and answer.
        scale: of the scores that the prompt asks for.
        pause: seconds before the second attempt, doubled for the third.
    """

    def __init__(
        self, url: str, model: str, prompt: str = RUBRIC, scale: Scale | None = None, pause: float = 1.0
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"expected the http address of an API, got {url!r}")
        self.name, self.version = "api", model
        self.prompt_hash = prompt_hash(prompt)
        self.scale = scale or Scale(1, 5)
        self._url, self._prompt, self._pause = url.rstrip("/"), prompt, pause

    def reply(self, question: str, reference: str, answer: str) -> str:
        """What the model says; the key is read from the environment, ``OPENAI_API_KEY``.

        Raises:
            ConnectionError: the server did not answer three times, or not with a completion.
        """
        content = self._prompt.format(question=question, reference=reference, answer=answer)
        body = {"model": self.version, "temperature": 0, "messages": [{"role": "user", "content": content}]}
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get("OPENAI_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self._url}/chat/completions", json.dumps(body).encode(), headers)
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(self._pause * 2 ** (attempt - 1))
            try:
                with urllib.request.urlopen(request, timeout=_SECONDS) as response:
                    return str(json.load(response)["choices"][0]["message"]["content"] or "")
            except (urllib.error.URLError, TimeoutError, ValueError, KeyError, IndexError, TypeError) as error:
                failure = error
        raise ConnectionError(f"the judge at {self._url} gave no completion in {_ATTEMPTS} attempts: {failure}")
