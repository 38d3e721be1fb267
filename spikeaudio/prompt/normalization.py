"""Written English -> the words a speech model reads: lower-case a-z, apostrophes and single spaces.

    "It’s Zoë's 2nd try: 3.5 % more!"  ->  "it's zoe's second try three point five percent more"

Steps: compatibility decomposition (NFKD) with accents dropped; curly quotes to '; numbers, ordinals and a few signs to
words (num2words); lower case; punctuation to spaces. Punctuation is dropped because the model's training texts have
none. What then is left outside a-z and ' (other scripts, emoji) cannot be read: it is dropped, and a warning names it.
"""

import logging
import re
import unicodedata

from num2words import num2words

logger = logging.getLogger(__name__)

_QUOTES = str.maketrans({"‘": "'", "’": "'", "ʼ": "'", "`": "'", "´": "'", "ˈ": "'"})
_LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "ae", "œ": "oe", "Œ": "oe", "ø": "o", "Ø": "o", "ł": "l", "Ł": "l"}
)
_SIGNS = {
    "%": " percent ",
    "&": " and ",
    "+": " plus ",
    "=": " equals ",
    "@": " at ",
    "×": " times ",
    "÷": " divided by ",
}
_CURRENCIES = {"$": "dollars", "£": "pounds", "€": "euros", "¥": "yen"}
_AMOUNT = re.compile(r"([$£€¥])\s*(\d[\d,]*(?:\.\d+)?)")
_THOUSANDS = re.compile(r"(?<!\d)(\d{1,3})((?:,\d{3})+)(?!\d)")
_ORDINAL = re.compile(r"(?<![\w.])(\d{1,12})(?:st|nd|rd|th)\b")
_MINUS = re.compile(r"(?<![\w.])[-−](?=\d)")
_DECIMAL = re.compile(r"(\d+)\.(\d+)")
_INTEGER = re.compile(r"\d+")
_SENTENCE_END = re.compile(r"(?<=[.!?;:])\s+|\n+")
_LONGEST_SENTENCE = 40  # words
_LONGEST_NUMBER = 12  # digits; longer runs are read digit by digit, as people read card and phone numbers


def normalize_text(text: str) -> str:
    """Spell `text` out in the letters a-z, apostrophes and spaces.

    Args:
        text: any Unicode text, read as English.

    Returns:
        Words joined by single spaces, never empty.

    Raises:
        ValueError: the text is empty, or nothing in it can be pronounced.
    """
    if not isinstance(text, str):
        raise ValueError(f"expected text as a str, got {type(text).__name__}")
    if not text.strip():
        raise ValueError("the text is empty: expected at least one word")
    words, dropped = _words(text)
    if not words:
        raise ValueError(
            f"nothing in the text can be pronounced: {_shortened(text)!r} holds no letters a-z and no digits"
        )
    if dropped:
        logger.warning("left out characters that the model cannot read: %s", " ".join(dropped))
    return " ".join(words)


def split_sentences(text: str) -> list[str]:
    """The sentences of `text`, each as `normalize_text` spells it; one of more than 40 words is cut after every 40th.

    Raises:
        ValueError: the text is empty, or nothing in it can be pronounced.
    """
    normalize_text(text)
    sentences = [_words(sentence)[0] for sentence in _SENTENCE_END.split(text)]
    return [
        " ".join(words[first : first + _LONGEST_SENTENCE])
        for words in sentences
        for first in range(0, len(words), _LONGEST_SENTENCE)
    ]


def _words(text: str) -> tuple[list[str], list[str]]:
    """The words of a text, and the characters of it that could not be spelled."""
    spelled = unicodedata.normalize("NFKD", text.translate(_QUOTES).translate(_LETTERS)).lower()
    spelled = "".join(char for char in spelled if not unicodedata.combining(char))
    spelled = _spell_numbers(spelled)
    for sign, word in _SIGNS.items():
        spelled = spelled.replace(sign, word)
    dropped = sorted({char for char in spelled if not _is_readable(char) and not _is_punctuation(char)})
    words = "".join(char if _is_readable(char) else " " for char in spelled).split()
    return [bare for word in words if (bare := word.strip("'"))], dropped


def _spell_numbers(text: str) -> str:
    text = _AMOUNT.sub(lambda found: f"{found[2]} {_CURRENCIES[found[1]]}", text)
    text = _THOUSANDS.sub(lambda found: found[1] + found[2].replace(",", ""), text)
    text = _ORDINAL.sub(lambda found: f" {_cardinal_words(num2words(int(found[1]), to='ordinal'))} ", text)
    text = _MINUS.sub(" minus ", text)
    text = _DECIMAL.sub(lambda found: f"{found[1]} point {' '.join(found[2])}", text)
    return _INTEGER.sub(lambda found: f" {_integer(found[0])} ", text)


def _integer(digits: str) -> str:
    if len(digits) > _LONGEST_NUMBER or (len(digits) > 1 and digits[0] == "0"):
        return " ".join(_cardinal_words(num2words(int(digit))) for digit in digits)
    return _cardinal_words(num2words(int(digits)))


def _cardinal_words(words: str) -> str:
    """num2words' British "one hundred and twenty-one" as the corpus says it: "one hundred twenty one"."""
    return words.replace("-", " ").replace(",", "").replace(" and ", " ")


def _is_readable(char: str) -> bool:
    return "a" <= char <= "z" or char == "'" or char == " "


def _is_punctuation(char: str) -> bool:
    """Signs that are silent in English; symbols such as emoji count as letters of another script."""
    return char.isspace() or unicodedata.category(char)[0] in "PZC" or char in "$£€¥^~|<>"


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
