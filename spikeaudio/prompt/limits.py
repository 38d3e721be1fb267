"""Limits: what a checkpoint was not trained for, as its ``processor_config.json`` declares it.

A small model answers any question, also those that it cannot know, and mixes turns up if it never saw two. The
checkpoint knows that from its training, and the user does not: so it stands beside the weights.
"""

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Limits:
    """What the conversation with a checkpoint keeps to; the defaults limit nothing.

    Attributes:
        max_turns: number of turns, the last one included, in the longest conversation that it learned; None: any.
        speaks_when_typed_to: whether it learned to answer a typed question aloud. If not, its written answer is read
            aloud.
        least_score: score of an answer (`Reply.score`) below which the question was not understood; None: not known.
        unknown_answer: text that is then said in place of the answer.
    """

    max_turns: int | None = None
    speaks_when_typed_to: bool = True
    least_score: float | None = None
    unknown_answer: str = "i do not know that"

    def __post_init__(self) -> None:
        if self.max_turns is not None and self.max_turns < 1:
            raise ValueError(f"max_turns must be at least 1, got {self.max_turns}")

    @classmethod
    def of(cls, stored: "Limits | dict[str, Any] | None") -> "Limits":
        """Limits as they are, from their fields, or none.

        Raises:
            ValueError: an unknown field.
        """
        if isinstance(stored, Limits):
            return stored
        names = {field.name for field in fields(cls)}
        if unknown := sorted(set(stored or {}) - names):
            raise ValueError(f"unknown limits {unknown}: expected some of {sorted(names)}")
        return cls(**(stored or {}))

    def check_turns(self, turns: int) -> None:
        """Refuse a conversation that is longer than those it learned.

        Raises:
            ValueError: there are more than `max_turns`.
        """
        if self.max_turns is not None and turns > self.max_turns:
            learned = "single questions" if self.max_turns == 1 else f"conversations of up to {self.max_turns} turns"
            raise ValueError(
                f"this checkpoint was trained on {learned} and mixes up the turns of longer conversations: "
                f"got {turns} turns, show it the last {self.max_turns}"
            )
