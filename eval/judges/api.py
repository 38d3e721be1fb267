"""A judge behind any server that speaks OpenAI's chat completions."""

import os

from eval.adapters.adapter import Unavailable
from eval.adapters.openai_client import ServerClient, message_text
from eval.judges.judge import RUBRIC, Scale, prompt_hash

_ATTEMPTS = 3
_SECONDS = 120.0


class ApiJudge:
    """Asks a server, at temperature 0.

    Args:
        url: address of the API, up to and without "/chat/completions".
        model: as the server names it.
        prompt: with the fields question, reference and answer.
        scale: range of the scores that the prompt asks for.
    """

    def __init__(self, url: str, model: str, prompt: str = RUBRIC, scale: Scale | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"expected the http address of an API, got {url!r}")
        self.name, self.version = "api", model
        self.prompt_hash = prompt_hash(prompt)
        self.scale = scale or Scale(1, 5)
        self._url, self._prompt = url, prompt

    def reply(self, question: str, reference: str, answer: str) -> str:
        """What the model says; the key is read from the environment, ``OPENAI_API_KEY``.

        Raises:
            ConnectionError: the server did not answer three times, or not with a completion.
        """
        content = self._prompt.format(question=question, reference=reference, answer=answer)
        client = ServerClient(self._url, os.environ.get("OPENAI_API_KEY"), _SECONDS, _ATTEMPTS)
        try:
            asked = [{"role": "user", "content": content}]
            return message_text(client.chat(model=self.version, temperature=0, messages=asked)) or ""
        except (Unavailable, ValueError) as error:
            raise ConnectionError(f"the judge gave no completion in {_ATTEMPTS} attempts: {error}") from error
