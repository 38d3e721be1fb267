"""What differs between two texts."""

import pytest

from eval.texts.word_diff import marked_words


@pytest.mark.parametrize(
    ("right", "wrote", "language", "lost", "added"),
    [
        ("a big cat", "a cat sat", "de", ["a", "-big-", "cat"], ["a", "cat", "-sat-"]),
        ("x", "<b>", "de", ["-x-"], []),
        ("今天好", "今天坏", "zh", ["今天", "-好-"], ["今天", "-坏-"]),
        ("", "", "en", [], []),
    ],
)
def test_marked_words(right: str, wrote: str, language: str, lost: list[str], added: list[str]) -> None:
    sides = marked_words(right, wrote, language)
    assert [[f"-{one.text}-" if one.differs else one.text for one in side] for side in sides] == [lost, added]
