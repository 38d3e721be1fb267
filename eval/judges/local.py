"""A judge of one's own: any text model that transformers can load."""

from functools import cached_property
from pathlib import Path
from typing import Any

from eval.judges.judge import RUBRIC, Scale, prompt_hash

_LONGEST_REPLY = 16  # tokens


class LocalJudge:
    """Greedy replies of a causal language model with a chat template; loaded at the first question.

    Args:
        checkpoint: folder or hub id.
        prompt: with the fields question, reference and answer.
        scale: scale of the scores that the prompt asks for.
    """

    def __init__(self, checkpoint: str, prompt: str = RUBRIC, scale: Scale | None = None) -> None:
        self.name, self.version = "local", Path(checkpoint).name
        self.prompt_hash = prompt_hash(prompt)
        self.scale = scale or Scale(1, 5)
        self._checkpoint, self._prompt = checkpoint, prompt

    def reply(self, question: str, reference: str, answer: str) -> str:
        """What the model says."""
        content = self._prompt.format(question=question, reference=reference, answer=answer)
        asked = [{"role": "user", "content": content}]
        done = self._pipeline(asked, max_new_tokens=_LONGEST_REPLY, do_sample=False, return_full_text=False)
        return str(done[0]["generated_text"])

    @cached_property
    def _pipeline(self) -> Any:
        from transformers import pipeline

        return pipeline("text-generation", model=self._checkpoint)
