"""Texts as the model reads them: a table of what people write and how it is said."""

import logging
import subprocess
import sys

import pytest

from spikeaudio.prompt.normalization import normalize_text, split_sentences

TABLE = {
    # numbers
    "121 days": "one hundred twenty one days",
    "1,250,000 people": "one million two hundred fifty thousand people",
    "007": "zero zero seven",
    "0 errors": "zero errors",
    "-4 degrees": "minus four degrees",
    "−4 points": "minus four points",
    "3.14": "three point one four",
    ".5 seconds": "zero point five seconds",
    "0.05": "zero point zero five",
    "-0.5": "minus zero point five",
    "1 000 points": "one thousand points",
    "12345678901234": "one two three four five six seven eight nine zero one two three four",
    "２０ cafés": "twenty cafes",
    "3x faster": "three times faster",
    "10x zoom": "ten times zoom",
    "#5": "number five",
    "No. 5": "number five",
    "no. No, I said no.": "no no i said no",
    "24/7": "twenty four seven",
    "1e6 cells": "one times ten to the power of six cells",
    "v2.0": "version two point zero",
    # fractions
    "1/2 cup": "one half cup",
    "3/4 of it": "three quarters of it",
    "1½ cups": "one and a half cups",
    "½ a cup": "one half a cup",
    "¾ full": "three quarters full",
    "2 1/2 hours": "two and a half hours",
    "2/3": "two thirds",
    "⅓ cup": "one third cup",
    # ordinals
    "2nd try": "second try",
    "the 21st century": "the twenty first century",
    "100th": "one hundredth",
    "3rd, 4th and 5th": "third fourth and fifth",
    # years, dates
    "in 1984": "in nineteen eighty four",
    "in 2005": "in two thousand five",
    "in 2024": "in twenty twenty four",
    "the 1990s": "the nineteen nineties",
    "the 80s": "the eighties",
    "March 3, 2024": "march third twenty twenty four",
    "July 4th": "july fourth",
    "3 March 2024": "three march twenty twenty four",
    "2024-03-15": "march fifteenth twenty twenty four",
    "I have 1984 apples": "i have one thousand nine hundred eighty four apples",
    # times
    "3:45 pm": "three forty five p m",
    "at 14:30": "at fourteen thirty",
    "7:05": "seven oh five",
    "9:00 a.m.": "nine a m",
    "5 p.m.": "five p m",
    "12:00": "twelve o'clock",
    "10:15-11:30": "ten fifteen to eleven thirty",
    # money
    "$3 million": "three million dollars",
    "$2.5 million": "two point five million dollars",
    "$5k": "five thousand dollars",
    "$3.50": "three dollars and fifty cents",
    "£12.50": "twelve pounds and fifty pence",
    "5 €": "five euros",
    "5€": "five euros",
    "€5": "five euros",
    "$1": "one dollar",
    "£1": "one pound",
    "¥500": "five hundred yen",
    "₹100": "one hundred rupees",
    "50¢": "fifty cents",
    "$1,234.56": "one thousand two hundred thirty four dollars and fifty six cents",
    "-$5": "minus five dollars",
    "$0.99": "ninety nine cents",
    "3 USD": "three dollars",
    "£3bn": "three billion pounds",
    "$5-10": "five to ten dollars",
    # percent
    "50%": "fifty percent",
    "3.5 % more": "three point five percent more",
    "5‰": "five per mille",
    # units
    "5°C": "five degrees celsius",
    "it's -3 °F": "it's minus three degrees fahrenheit",
    "100 km/h": "one hundred kilometers per hour",
    "5 kg": "five kilograms",
    "1 kg": "one kilogram",
    "16 GB": "sixteen gigabytes",
    "10 km": "ten kilometers",
    "3 cm": "three centimeters",
    "50 ms": "fifty milliseconds",
    "2 m": "two meters",
    "5 m²": "five square meters",
    "60 mph": "sixty miles per hour",
    "6 ft": "six feet",
    "90°": "ninety degrees",
    "24 kHz": "twenty four kilohertz",
    "5 ml": "five milliliters",
    # phone
    "555-1234": "five five five one two three four",
    "(555) 123-4567": "five five five one two three four five six seven",
    "call 911": "call nine hundred eleven",
    # math
    "a ≠ b": "a is not equal to b",
    "a ≤ b": "a is less than or equal to b",
    "a ≥ b": "a is greater than or equal to b",
    "5 ± 1": "five plus or minus one",
    "3 × 4 = 12": "three times four equals twelve",
    "12 ÷ 4": "twelve divided by four",
    "≈ 5": "approximately five",
    "√2": "square root of two",
    "2 < 3": "two is less than three",
    "5 > 4": "five is greater than four",
    "-4 + 1 = -3": "minus four plus one equals minus three",
    "7 - 2": "seven minus two",
    "2 + 2 = 4": "two plus two equals four",
    "10⁶ cells": "ten to the power of six cells",
    "x²": "x squared",
    "x³ + 1": "x cubed plus one",
    "2^8": "two to the power of eight",
    "10⁻³": "ten to the power of minus three",
    "π": "pi",
    "∞": "infinity",
    # roman numerals
    "Henry VIII": "henry the eighth",
    "World War II": "world war two",
    "Chapter IV": "chapter four",
    "Louis XIV": "louis the fourteenth",
    "I am here": "i am here",
    # abbreviations
    "Dr. Smith": "doctor smith",
    "Mr. Jones and Mrs. Brown": "mister jones and missus brown",
    "Ms. Lee": "miss lee",
    "Prof. Lee": "professor lee",
    "St. Paul": "saint paul",
    "12 Main St.": "twelve main street",
    "cats vs. dogs": "cats versus dogs",
    "apples, pears, etc.": "apples pears et cetera",
    "e.g. a dog": "for example a dog",
    "i.e. a cat": "that is a cat",
    "the U.S. army": "the u s army",
    "the U.K.": "the u k",
    "Jan. 5": "january fifth",
    "John Smith Jr.": "john smith junior",
    "approx. 5": "approximately five",
    # initialisms
    "NASA": "nasa",
    "USB": "u s b",
    "AI": "a i",
    "the FBI and the CIA": "the f b i and the c i a",
    "HTML and PDF": "h t m l and p d f",
    "CO2": "c o two",
    "MP3": "m p three",
    "H2O": "h two o",
    "GPT-4": "g p t four",
    "HELLO WORLD": "hello world",
    "OK": "ok",
    "PhDs": "p h ds",
    "TVs": "t vs",
    # mail, web
    "me@example.com": "me at example dot com",
    "https://example.com/a": "example dot com slash a",
    "www.example.com": "w w w dot example dot com",
    "visit example.org. Thanks": "visit example dot org thanks",
    "@anna": "at anna",
    "#spiking": "hashtag spiking",
    # signs
    "Tom & Jerry": "tom and jerry",
    "AT&T": "a t and t",
    "and/or": "and or",
    "he/she": "he she",
    "5-10 people": "five to ten people",
    "pages 5–10": "pages five to ten",
    "1990-1995": "nineteen ninety to nineteen ninety five",
    "2:1": "two to one",
    "C++": "c plus plus",
    "A+": "a plus",
    "c#": "c sharp",
    "50/50": "fifty fifty",
    "snake_case": "snake case",
    "~5": "about five",
    "© 2024": "copyright two thousand twenty four",
    # letters
    "ﬁne naïve cafés": "fine naive cafes",
    "Straße": "strasse",
    "Zoë’s “own” idea": "zoe's own idea",
    "it’s": "it's",
    "don't": "don't",
    "in\xadfor\xadma\xadtion": "information",
    "zero\u200bwidth": "zerowidth",
    "a b": "a b",
    "Hello, World!": "hello world",
    "well-known": "well known",
    "wait... what?!": "wait what",
    "O'Brien’s": "o'brien's",
    "(yes) [no]": "yes no",
    "state-of-the-art": "state of the art",
    "yes—no": "yes no",
    "A tt B\tc": "a tt b c",
    "rock 'n' roll": "rock n roll",
    "Ǆ Łódź Ørsted": "dz lodz orsted",
    "Café → bar": "cafe to bar",
    "™": "trademark",
    "at 5 p.m. Then he left": "at five p m then he left",
    "USD 5": "five dollars",
    "$1.5bn": "one point five billion dollars",
    "5 million €": "five million euros",
    "3.5M users": "three point five million users",
    "3 1/2": "three and a half",
    "120/80": "one hundred twenty over eighty",
    "1920x1080": "one thousand nine hundred twenty by one thousand eighty",
    "3 x 4": "three times four",
    "16:9": "sixteen to nine",
    "3/15/2024": "march fifteenth twenty twenty four",
    "25/12/2024": "december twenty fifth twenty twenty four",
    "+49 30 1234567": "plus four nine three zero one two three four five six seven",
    "-.5": "minus zero point five",
    "x != y": "x is not equal to y",
    "∴ x ∈ A": "therefore x element of a",
    "$": "dollars",
    "km²": "km squared",
    "6′ 2″": "six feet two inches",
    "R&D": "r and d",
    "J. R. R. Tolkien": "j r r tolkien",
    "F.B.I.": "f b i",
    "DO NOT PANIC": "do not panic",
    "this is NOT it": "this is not it",
    "٣ apples": "three apples",
    "5 µm": "five micrometers",
    "Napoleon III and Part I": "napoleon the third and part one",
    "Fig. 3": "figure three",
    "p. 7": "page seven",
    "I ate a fig. Then": "i ate a fig then",
    "wait a sec. OK": "wait a sec ok",
    "file.txt": "file dot txt",
    "it's 5°C. ok": "it's five degrees celsius ok",
    "12:30 AM": "twelve thirty a m",
    "5-year-old": "five year old",
    "twenty-one": "twenty one",
    "1st, 2nd": "first second",
    "2 < 3 > 1": "two is less than three is greater than one",
    "7-2=5": "seven two equals five",
}


@pytest.mark.parametrize("text", TABLE)
def test_table(text: str) -> None:
    assert normalize_text(text) == TABLE[text]


@pytest.mark.parametrize("text", ["it's twenty one", "say i v and ai and usb", "the st is no dr", "'quoted'  word"])
def test_what_is_spelled_out_stays(text: str) -> None:
    """Training texts are of this form."""
    assert normalize_text(text) == " ".join(word.strip("'") for word in text.split())


@pytest.mark.parametrize("reading", sorted(set(TABLE.values())))
def test_a_reading_is_its_own_reading(reading: str) -> None:
    assert normalize_text(reading) == reading


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_empty(text: str) -> None:
    with pytest.raises(ValueError, match="text is empty"):
        normalize_text(text)


@pytest.mark.parametrize("text", ["你好", "!?", "😀", "'", "\u00ad", pytest.param("\ud800", id="surrogate")])
def test_nothing_to_pronounce(text: str) -> None:
    with pytest.raises(ValueError, match="nothing in the text can be pronounced"):
        normalize_text(text)


@pytest.mark.parametrize(
    "text,dropped",
    [("hello 你好 world 😀", "你 好 😀"), ("say привет", "и"), ("a\ud800", "\\ud800"), ("ok \ue000", "\ue000")],
    ids=["chinese", "russian", "surrogate", "private"],
)
def test_what_cannot_be_read_is_named(text: str, dropped: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        normalize_text(text)
    assert len(caplog.records) == 1 and all(part in caplog.text for part in dropped.split())


def test_bytes_of_an_ascii_locale_are_read() -> None:
    assert normalize_text("café".encode().decode("ascii", "surrogateescape")) == "cafe"


@pytest.mark.parametrize(
    "text", ["“Yes” — (no); maybe… ok?", "in\u00adfor\u00admation\u200b", "**a** <b> | `c` ~ ^", "«a»"]
)
def test_punctuation_is_dropped_silently(text: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        normalize_text(text)
    assert not caplog.records


@pytest.mark.parametrize(
    "text,sentences",
    [
        ("Hi there. It is 3.5 m; 你好. Ok?\nBye", ["hi there", "it is three point five meters", "ok", "bye"]),
        ("Dr. Smith is here. He left.", ["doctor smith is here", "he left"]),
        ("dr. smith and mrs. lee, etc. are here", ["doctor smith and missus lee et cetera are here"]),
        ("apples, pears, etc. Then plums", ["apples pears et cetera", "then plums"]),
        ("The U.S. army e.g. at 5 a.m. in No. 5", ["the u s army for example at five a m in number five"]),
        ("“Go!” he said. (Really?) Yes", ["go he said", "really", "yes"]),
        ("1. First\n2. Second", ["one first", "two second"]),
        ("visit example.org. Thanks", ["visit example dot org", "thanks"]),
        ("Wait... what", ["wait", "what"]),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences
    assert normalize_text(text) == " ".join(sentences)


def test_long_sentences_are_cut() -> None:
    assert [len(part.split()) for part in split_sentences("word " * 90)] == [40, 40, 10]


def test_plain_words_load_no_rules() -> None:
    """The library of rules is loaded by the first text that needs it."""
    code = (
        "import sys; from spikeaudio.prompt.normalization import normalize_text as n; "
        "n('good morning'); assert 'normt2s' not in sys.modules; n('5'); assert 'normt2s' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
