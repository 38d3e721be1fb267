"""A closed domain: everything that a spoken answer can be. An ASR judge within it need not know all of English.

    {"answers": ["snow is white", "the horse neighs"], "pronunciations": {"neighs": "N EY Z"}}

The ASR judge is given the network of neighbouring words: from each word to every word that follows it in an answer,
all equally likely. The network holds all answers, and just as well their words in wrong order ("snow" "is"
"brussels"). It favours no answer, and a wrong one is heard as what it is. (A list of whole answers would turn every
slip into the nearest fact.) A manifest names it as ``meta["closed_domain"]``, seen from the manifest's folder.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from eval.judges.judgements import content_key

Transition = tuple[int, int, float] | tuple[int, int, float, str]

_START, _END = 0, 1


@dataclass(frozen=True)
class ClosedDomain:
    """What can be said.

    Attributes:
        answers: all of them: lower case words, single-spaced.
        pronunciations: (word, phones of the CMU dictionary) of words that the dictionary lacks.
    """

    answers: tuple[str, ...]
    pronunciations: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not self.answers or any(answer != " ".join(answer.lower().split()) or not answer for answer in self.answers):
            raise ValueError(f"expected answers in lower case words with single spaces, got {self.answers[:3]}")

    @classmethod
    def read(cls, path: str | Path) -> "ClosedDomain":
        """The domain of a file.

        Raises:
            OSError: it cannot be read.
            ValueError: it holds no domain.
        """
        try:
            row = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(tuple(row["answers"]), tuple(sorted(row.get("pronunciations", {}).items())))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path} is no closed domain: {error}") from error

    @property
    def name(self) -> str:
        """Twelve digits of a digest: what was heard within one domain is not what is heard within another."""
        return content_key(*self.answers, "", *map(" ".join, self.pronunciations))[:12]

    def network(self) -> list[Transition]:
        """Transitions (from, to, probability, word) between states, from state 0 to state 1; without a word: the end.

        A state is the word that was said last; its followers are equally likely.
        """
        followers: dict[str | None, dict[str | None, None]] = defaultdict(dict)
        for answer in self.answers:
            words = [None, *answer.split(), None]
            for word, following in pairwise(words):
                followers[word][following] = None
        states = {word: 2 + place for place, word in enumerate(word for word in followers if word is not None)}
        out: list[Transition] = []
        for word, following in followers.items():
            state = _START if word is None else states[word]
            for to in following:
                share = 1 / len(following)
                out.append((state, _END, share) if to is None else (state, states[to], share, to))
        return out
