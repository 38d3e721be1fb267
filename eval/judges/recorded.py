"""The judge that is no longer there: only its recorded replies are."""

from eval.judges.judge import RUBRIC, Scale, prompt_hash


class Recorded:
    """Replays a judge's replies from the run's ``judgements.jsonl``; what it never graded cannot be graded.

    Args:
        identity: "name/version", as recorded.
        prompt: that the judge was given.
        scale: scale of its scores.
    """

    def __init__(self, identity: str, prompt: str = RUBRIC, scale: Scale | None = None) -> None:
        self.name, _, self.version = identity.rpartition("/")
        self.prompt_hash = prompt_hash(prompt)
        self.scale = scale or Scale(1, 5)

    def reply(self, question: str, reference: str, answer: str) -> str:
        """Never: this is asked only where nothing was recorded.

        Raises:
            LookupError: always.
        """
        raise LookupError(f"{self.name}/{self.version} has no recorded reply to the answer {answer[:60]!r}")
