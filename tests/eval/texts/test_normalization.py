"""What counts as the same text, by our rules and by Whisper's."""

import pytest
from transformers.models.whisper.english_normalizer import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer as PackagedNormalizer

from eval.metrics.error_rate import word_errors
from eval.texts.normalization import COUNTED_BY_CHARACTER, PlainNormalizer, WhisperNormalizer, normalize

TEXTS = (
    "Mr. Brown's flavour cost twenty-one dollars!", "uh, the 2nd grey aeroplane [noise]", "wait...", "wait…",
    "one percent", "I don’t know", "the 1960s", "$3 million", "naïve café", "He WON'T pay £20.50 -- colour!",
)  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("wait", "wait..."),
        ("wait", "wait…"),
        ("wait", "wait . . ."),
        ("wait, what", "wait...what"),
        ("3.14", "3.14..."),
        ("i do not know", "I don’t know"),
        ("it is me", "itʼs me"),
        ("say hello", "say ‘hello’"),
        ("five percent", "5 %"),
        ("five euros", "5 €"),
        ("one percent", "1%"),
        ("one dollar and fifty cents", "$1.50"),
        ("He will not pay £20.50 color", "He WON'T pay £20.50 -- colour!"),
    ],
)
def test_equal_texts(one: str, other: str) -> None:
    assert word_errors([one], other).numerator == 0 == word_errors([other], one).numerator


@pytest.mark.parametrize(
    ("one", "other"),
    [("one", "one dollar"), ("one dollar", "one percent"), ("one cent", "one dollar"), ("1", "1%"), ("ones", "one")],
)
def test_different_texts(one: str, other: str) -> None:
    assert word_errors([one], other).numerator == 1


@pytest.mark.parametrize("text", TEXTS)
def test_whispers_rules_stay_as_published(text: str) -> None:
    assert WhisperNormalizer("en")(text) == " ".join(PackagedNormalizer()(text).split())
    assert WhisperNormalizer("fr")(text) == " ".join(BasicTextNormalizer()(text).split())
    assert PlainNormalizer("fr")(text) == WhisperNormalizer("fr")(text)


def test_ours_differ_from_whispers_where_those_err_and_nowhere_else() -> None:
    plain, whisper = PlainNormalizer("en"), WhisperNormalizer("en")
    assert [text for text in TEXTS if plain(text) != whisper(text)] == [
        "wait...", "wait…", "one percent", "I don’t know"
    ]  # fmt: skip
    assert (plain.name, whisper.name) == ("plain-en", "whisper-en")


def test_one_normalizer_per_language() -> None:
    """The basic rules must not run after the English ones."""
    assert normalize("He WON'T pay £20.50 -- colour!", "en") == "he will not pay £20.50 color"
    assert normalize("  Ça  va? (oui)", "fr") == BasicTextNormalizer()("Ça va?").strip()
    assert "zh" in COUNTED_BY_CHARACTER and "en" not in COUNTED_BY_CHARACTER
