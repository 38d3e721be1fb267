"""The judge that needs no model: right is what equals a reference after normalization."""

from eval.judges.judge import Scale, prompt_hash
from eval.texts.right_answer import is_right


class Rules:
    """1 for one of the references (one per line), 0 for all else."""

    name = "rules"
    version = "1"
    prompt_hash = prompt_hash("")
    scale = Scale(0, 1)

    def reply(self, question: str, reference: str, answer: str) -> str:
        """ "1" or "0"."""
        return str(int(is_right(answer, reference.split("\n"))))
