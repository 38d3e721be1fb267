"""A model that answers at once, the same to the same request, and can be told to fail."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eval.adapters.adapter import Answer, Request
from eval.task import Job


@dataclass
class FakeAdapter:
    """Answers with a digest of the request; speech is noise of that seed. `calls` counts batches."""

    fails_on: frozenset[str] = frozenset()  # recordings or texts
    stop_at: int | None = None  # the call that is killed
    calls: int = 0
    asked: list[list[str]] = field(default_factory=list)
    name: str = "fake"
    jobs: frozenset[Job] = frozenset({"asr", "aqa", "tts", "conversation", "codec"})

    def fingerprint(self) -> dict[str, Any]:
        return {"adapter": self.name, "digest": "0"}

    def answer(self, requests: Sequence[Request]) -> list[Answer | Exception]:
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        self.calls += 1
        self.asked.append([str(request.audio or request.text) for request in requests])
        if self.fails_on & {str(request.audio or request.text) for request in requests}:
            raise RuntimeError("this model does not like it")
        return [self._answer(request, len(requests)) for request in requests]

    def _answer(self, request: Request, together: int) -> Answer:
        # As with a real model, an answer may depend on how many are answered together.
        name = hashlib.sha256(f"{request.audio}{request.text}{request.seed}{together}".encode()).hexdigest()
        text = None if request.job in ("tts", "codec") else name[:8]
        wav = None
        if request.job not in ("asr", "aqa"):
            wav = np.random.default_rng(int(name[:8], 16)).uniform(-0.5, 0.5, 800).astype(np.float32)
        return Answer(text, wav, 16000, {"seconds": float(self.calls)})
