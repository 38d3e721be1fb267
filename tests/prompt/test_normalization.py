"""Texts as the model reads them: a table of small cases."""

import logging

import pytest

from spikeaudio.prompt.normalization import normalize_text, split_sentences


@pytest.mark.parametrize(
    "text,expected",
    [
        ("Hello, World!", "hello world"),
        ("It’s Zoë's 2nd try: 3.5 % more!", "it's zoe's second try three point five percent more"),
        ("ﬁne ２０ naïve cafés", "fine twenty naive cafes"),
        ("121 days", "one hundred twenty one days"),
        ("1,250,000", "one million two hundred fifty thousand"),
        ("007", "zero zero seven"),
        ("0", "zero"),
        ("£12.50", "twelve point five zero pounds"),
        ("-4 + 1 = minus 3", "minus four plus one equals minus three"),
        ("well-known 'quoted' don't", "well known quoted don't"),
        ("a\tb\n c", "a b c"),
        ("12345678901234", "one two three four five six seven eight nine zero one two three four"),
    ],
)
def test_table(text: str, expected: str) -> None:
    assert normalize_text(text) == expected
    assert normalize_text(expected) == expected


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_empty(text: str) -> None:
    with pytest.raises(ValueError, match="text is empty"):
        normalize_text(text)


@pytest.mark.parametrize("text", ["你好", "!?", "😀", "'"])
def test_nothing_to_pronounce(text: str) -> None:
    with pytest.raises(ValueError, match="nothing in the text can be pronounced"):
        normalize_text(text)


def test_other_scripts_are_dropped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert normalize_text("hello 你好 world 😀") == "hello world"
    assert "你" in caplog.text and "😀" in caplog.text


def test_punctuation_is_dropped_silently(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        normalize_text("“Yes” — (no); maybe… ok?")
    assert not caplog.records


def test_sentences() -> None:
    assert split_sentences("Hi there. It is 3.5 m; 你好. Ok?\nBye") == [
        "hi there",
        "it is three point five m",
        "ok",
        "bye",
    ]
    assert [len(part.split()) for part in split_sentences("word " * 90)] == [40, 40, 10]
