"""Numbers, signs and abbreviations of written English -> words; punctuation and capitals stay.

    "Dr. Smith paid $3 million for 10^6."  ->  "Doctor Smith paid three million dollars for ten to the power of six."

normt2s does the work. The rules here stand before it, and give it what it does not know in a form that it does (phone
numbers, ranges, web addresses, Roman numerals), and behind it, for initialisms and whatever sign or digit is left.
"""

import re
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from spikeaudio.prompt.initialisms import spell_initialisms
from spikeaudio.prompt.roman_numerals import read_roman_numerals

if TYPE_CHECKING:
    from normt2s import Normalizer

_LONGEST_NUMBER = 12  # digits; longer runs are read digit by digit, as people read card numbers

_MONTHS = "January February March April May June July August September October November December".split()
_MONTH = re.compile(r"\b(Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec)\.? (?=\d)")
_DATE = re.compile(r"(?<![\d/])(\d{1,2})/(\d{1,2})/(\d{4})(?![\d/])")
_MONEY = r"[$£€¥₹]"
_NUMBER = r"\d[\d,]*(?:\.\d+)?"
_CODES = {"USD": "$", "GBP": "£", "EUR": "€", "JPY": "¥", "INR": "₹"}
_SCALES = {"k": "thousand", "m": "million", "mn": "million", "bn": "billion", "b": "billion", "tn": "trillion"}
_COMPARISONS = {"!=": "≠", "<=": "≤", ">=": "≥", "->": "→", "=>": "⇒"}
_WEB_SIGNS = {
    ".": "dot", "/": "slash", "-": "dash", "_": "underscore", "@": "at", ":": "colon", "?": "question mark",
    "=": "equals", "&": "and", "#": "hash", "%": "percent", "+": "plus", "~": "tilde",
}  # fmt: skip
_LEFT_OVER = {
    "%": "percent",
    "&": "and",
    "+": "plus",
    "=": "equals",
    "@": "at",
    "°": "degrees",
    "µ": "micro",
    "$": "dollars",
    "£": "pounds",
    "€": "euros",
    "¥": "yen",
    "₹": "rupees",
    "¢": "cents",
}
_SILENT_SIGNS = "<>|~^`"  # marks of layout where no rule has read them as mathematics
_FIGURES = {
    "no": "number", "nos": "numbers", "fig": "figure", "figs": "figures", "eq": "equation", "sec": "section",
    "ch": "chapter", "vol": "volume", "p": "page", "pp": "pages",
}  # fmt: skip
_TITLES = {
    "Dr": "Doctor", "Mr": "Mister", "Mrs": "Missus", "Ms": "Miss", "Prof": "Professor", "Gen": "General",
    "Col": "Colonel", "Capt": "Captain", "Lt": "Lieutenant", "Sgt": "Sergeant", "Sen": "Senator", "Gov": "Governor",
    "Rep": "Representative", "Rev": "Reverend", "Hon": "Honorable", "Mt": "Mount",
}  # fmt: skip
_STREETS = {"St": "Street", "Ave": "Avenue", "Blvd": "Boulevard", "Rd": "Road", "Ln": "Lane", "Hwy": "Highway"}


def verbalize(text: str) -> str:
    """Write out what is not a word.

    Args:
        text: as :func:`~spikeaudio.prompt.characters.plain_characters` gives it.

    Returns:
        Text without digits; sentences still end in punctuation, the dots of abbreviations are gone.
    """
    for pattern, words in _RULES:
        text = pattern.sub(words, text)
    text = read_roman_numerals(text, _ordinal, _cardinal)
    text = _library().normalize(text)
    text = re.sub(r"(\d+)\.(\d+)", lambda found: f" {_integer(found[1])} point {_digits(found[2])} ", text)
    text = re.sub(r"\d+", lambda found: f" {_integer(found[0])} ", text)
    text = spell_initialisms(text)
    return "".join(_sign(char) for char in text)


@cache
def _library() -> "Normalizer":
    from normt2s import Normalizer  # a quarter of a second, which plain words need not pay

    library = Normalizer("en")
    library.add_currency("₹", ("rupee", "rupees"), ("paisa", "paise"))
    library.add_currency("¢", ("cent", "cents"))
    library.add_unit("mph", "mile per hour", "miles per hour")
    library.add_unit("rpm", "revolution per minute", "revolutions per minute")
    library.add_unit("fps", "frame per second", "frames per second")
    library.add_unit("PB", "petabyte")
    library.add_unit("′", "foot", "feet")
    library.add_unit("′′", "inch", "inches")  # what NFKC makes of the double prime
    library.add_abbreviation("Ph.D.", "P h D")
    for abbreviation in ("fig.", "eq.", "sec.", "ch.", "vol.", "pp.", "24/7"):  # also ends of sentences; see _FIGURES
        library.lexicon.remove("abbreviations", abbreviation)
    return library


def _cardinal(number: int) -> str:
    return _library().lang.cardinal(number)


def _ordinal(number: int) -> str:
    return _library().lang.ordinal(number)


def _digits(digits: str) -> str:
    return _library().lang.digits(digits)


def _integer(digits: str) -> str:
    if len(digits) > _LONGEST_NUMBER or (len(digits) > 1 and digits[0] == "0"):
        return _digits(digits)
    return _cardinal(int(digits))


def _sign(char: str) -> str:
    """A sign that no rule has read, by its name."""
    if char in _LEFT_OVER:
        return f" {_LEFT_OVER[char]} "
    if char in _SILENT_SIGNS or unicodedata.category(char) not in ("Sm", "Sc"):
        return char
    name = re.sub(r"\b(SIGN|SYMBOL|OPERATOR)\b", "", unicodedata.name(char, char))
    return f" {name.lower()} "


# -- forms that the library does not know, in the order in which they are read -----------------------------------------


def _spelled_address(found: re.Match[str]) -> str:
    """A web or mail address: a "www" is spelled, its signs are named, "https://" goes unsaid."""
    address = re.sub(r"^[a-z]+://", "", found[0]).rstrip("/")
    address = re.sub(r"^www\.", "w w w.", address)
    return "".join(f" {_WEB_SIGNS[char]} " if char in _WEB_SIGNS else char for char in address)


def _separate_digits(found: re.Match[str]) -> str:
    plus = " plus " if found[0].startswith("+") else ""
    return plus + " ".join(re.findall(r"\d", found[0]))


def _date(found: re.Match[str]) -> str:
    """Month first, as Americans write it, unless only the second can be a month."""
    first, second, year = int(found[1]), int(found[2]), found[3]
    month, day = (first, second) if first <= 12 else (second, first)
    return f"{_MONTHS[month - 1]} {day}, {year}" if month <= 12 and day <= 31 else found[0]


def _range(found: re.Match[str]) -> str:
    ends = [found[1], found[2]]
    if re.fullmatch(r"(1[1-9]|20)\d\d-((1[1-9]|20)\d\d|\d\d)", "-".join(ends)):  # years
        ends = [_library().lang.year(int(end)) for end in ends]
    return " to ".join(ends)


def _over(found: re.Match[str]) -> str:
    """Two numbers with a slash between them that are no fraction: 50/50, 24/7, 120/80."""
    top, bottom = int(found[1]), int(found[2])
    if top == bottom or (top, bottom) == (24, 7):
        return f"{top} {bottom}"
    return f"{top} over {bottom}" if top > bottom > 10 else found[0]


def _mixed(found: re.Match[str]) -> str:
    lang = _library().lang
    return lang.mixed_fraction(int(found[1]), int(found[2]), int(found[3]))


def _pattern(source: str, ignore_case: bool = False) -> re.Pattern[str]:
    return re.compile(source, re.IGNORECASE if ignore_case else 0)


_Words = str | Callable[[re.Match[str]], str]
_names = "|".join
_RULES: list[tuple[re.Pattern[str], _Words]] = [
    # The web.
    (_pattern(r"(?:https?|ftp)://[^\s<>\"]*[\w/]"), _spelled_address),
    (_pattern(r"\bwww\.[^\s<>\"]*[\w/]"), _spelled_address),
    (_pattern(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), _spelled_address),
    (_pattern(r"\b[a-z][\w-]+(?:\.[a-z]{2,})+(?:/[\w./-]*\w)?"), _spelled_address),  # example.org/a, file.txt
    (_pattern(r"(?<!\w)#(?=[A-Za-z])"), "hashtag "),
    (_pattern(r"\b(C|c|F|f)#"), r"\1 sharp"),
    (_pattern(r"\b([A-Za-z])\+\+"), r"\1 plus plus"),
    (_pattern(r"\b([A-F])\+(?![\w+])"), r"\1 plus"),
    (_pattern(r"\b([A-Z])&([A-Z])\b"), r"\1. and \2."),
    (_pattern(r"\bAT&T\b"), "A.T. and T."),
    (_pattern(r"\b([ABFIKNOPSVWY])-(?=\d)"), r"\1 "),  # B-52 is no isotope of boron
    # Titles, streets, parts of a book.
    (_pattern(rf"\b({_names(_TITLES)})\.? (?=[A-Z])"), lambda found: f"{_TITLES[found[1]]} "),
    (_pattern(r"\b(dr|mr|mrs|ms|prof)\. "), lambda found: f"{_TITLES[found[1].capitalize()]} "),
    (
        _pattern(rf"\b([A-Z0-9][\w']*) ({_names(_STREETS)})\b(?!')\.?(?=[\s,;]*(?:[a-z]|$))"),
        lambda found: f"{found[1]} {_STREETS[found[2]]}",
    ),
    (_pattern(r"\bSt\.? (?=[A-Z])|\bst\. (?=[a-z])"), "Saint "),
    (_pattern(rf"\b({_names(_FIGURES)})\. ?(?=\d)", True), lambda found: f"{_FIGURES[found[1].lower()]} "),
    (_pattern(r"\bv\.? ?(?=\d+\.\d)"), "version "),
    (_pattern(r"(?m)^\s*(\d{1,3})[.)]\s+(?=\w)"), r"\1, "),  # a list's numbers are no sentences
    # Dates and times.
    (
        _MONTH,
        lambda found: next(month for month in _MONTHS if month.startswith(found[1][:3])) + " ",
    ),
    (_DATE, _date),
    (_pattern(r"(?<![\d\w])'?([1-9]0)s\b"), lambda found: _library().lang.decade(int(found[1]))),
    # Phone and card numbers, digit by digit.
    (_pattern(r"\+\d[\d\s().-]{6,}\d"), _separate_digits),
    (_pattern(r"(?<![\w-])(?:1-)?\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}(?![\w-])"), _separate_digits),
    (_pattern(r"(?<![\w-])\d{3}-\d{4}(?![\w-])"), _separate_digits),
    (_pattern(r"(?<![\d,.])\d{13,}"), _separate_digits),
    # Money: its sign before the number, its size as a word.
    (_pattern(rf"\b({_names(_CODES)}) ?(?=\d)"), lambda found: _CODES[found[1]]),
    (_pattern(r"\bUS\$"), "$"),
    (
        _pattern(rf"({_MONEY}) ?({_NUMBER}) ?({_names(sorted(_SCALES, key=len, reverse=True))})\b", True),
        lambda found: f"{found[1]}{found[2]} {_SCALES[found[3].lower()]}",
    ),
    (_pattern(rf"({_NUMBER}) (thousand|million|billion|trillion) ?({_MONEY})"), r"\3\1 \2"),
    (_pattern(rf"({_NUMBER})(k|K|M|bn)\b(?! ?{_MONEY})"), lambda found: f"{found[1]} {_SCALES[found[2].lower()]}"),
    (_pattern(rf"({_MONEY}) ?({_NUMBER}) ?[-–] ?{_MONEY}?({_NUMBER})(?!\S*-)"), r"\2 to \1\3"),
    # Numbers.
    (_pattern(r"(?<![\w.])([-−]?)\.(?=\d)"), r"\g<1>0."),
    (_pattern(r"(\d)[eE]([-+]?\d+)\b"), r"\1 times 10^\2"),
    (_pattern(r"\^\+?\(?([-−])(\d+)\)?"), r" to the power of minus \2"),
    (_pattern(r"(?<![\d/.,])(\d{1,6}) (\d{1,3})/(\d{1,3})(?![\w/.])"), _mixed),
    (_pattern(r"(?<![\d/.,])(\d{1,3})/(\d{1,3})(?![\d/.])"), _over),
    (_pattern(r"(?<=\d)[xX]\b(?! ?\d)"), " times"),
    (_pattern(r"(?<=\d)x(?=\d)"), " by "),
    (_pattern(r"(?<=\d) x (?=\d)"), " times "),
    (_pattern(r"(?<![\d:])(\d{1,2}):(\d)(?![\d:])"), r"\1 to \2"),
    (_pattern(r"(?<![\w:-])(\d[\d,.:]*%?)(?:-| ?[–—] ?)(\d[\d,.:]*)(?![\d-])(?! ?=)"), _range),
    (_pattern(r"(?<=\d) in\.(?= [a-z]|$)"), " inches"),
    # Mathematics.
    (_pattern(_names(map(re.escape, _COMPARISONS))), lambda found: f" {_COMPARISONS[found[0]]} "),
    (_pattern(r"(?<=\d) ?([<>]) ?(?=[\d\w])"), r" \1 "),
    (_pattern(r"(?:^|(?<=\s))~ ?(?=[\d$£€])"), "about "),
    (_pattern(r"^\s*≈ ?(?=[\d$£€])"), "approximately "),
]
