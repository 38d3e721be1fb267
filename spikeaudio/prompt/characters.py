"""Unicode as people type it -> characters that the rules of English can read.

    "ﬁne ２０ 10⁶ 1½ in\u00adfor\u00adma\u00adtion"  ->  "fine 20 10^6 1 1/2 information"

Nothing is lost here: what has another form gets it, what is invisible goes, everything else stays as it is.
"""

import re
import unicodedata

_REWRITTEN = str.maketrans(
    {
        **dict.fromkeys("‘’ʼ`´ˈ", "'"),
        **dict.fromkeys("‐‑", "-"),
        "«": '"',
        "»": '"',
        "№": " number ",
        "©": " copyright ",
        "®": " registered ",
        "™": " trademark ",
        "℠": " service mark ",
        "§": " section ",
        "¶": " paragraph ",
        "ß": "ss",
        "ẞ": "SS",
        "þ": "th",
        "Þ": "Th",
    }
)
_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-", strict=True))
_RAISED = re.compile(rf"(.?)([{''.join(_SUPERSCRIPTS)}]+)")
_COMPOSED = re.compile(r"[^²³]+")  # units have these two: m², m³
_LATIN = re.compile(r"LATIN (SMALL|CAPITAL) (?:LETTER|LIGATURE) (?:DOTLESS )?([A-Z]{1,2})(?: WITH .*)?")


def plain_characters(text: str) -> str:
    """One spelling per character: see the module.

    Args:
        text: any Unicode text. Bytes that Python could not decode (surrogates, from a command line in an ASCII
            locale) are read as UTF-8 where they are that.
    """
    text = _decoded(text).translate(_REWRITTEN)
    text = "".join(_vulgar_fraction(char) for char in text)
    text = _RAISED.sub(_power, text)
    text = _COMPOSED.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    return "".join(_digit(char) for char in text if unicodedata.category(char) != "Cf")


def without_accents(text: str) -> str:
    """Latin letters as their plain forms: é -> e, ø -> o, æ -> ae; other characters stay."""
    letters = (char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return "".join(char if char.isascii() else _latin(char) for char in letters)


def _decoded(text: str) -> str:
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        return text


def _vulgar_fraction(char: str) -> str:
    """½ -> " 1/2", so that 1½ becomes "1 1/2"."""
    if not unicodedata.decomposition(char).startswith("<fraction>"):
        return char
    return " " + unicodedata.normalize("NFKC", char).replace("⁄", "/")


def _power(found: re.Match[str]) -> str:
    """Raised digits: a power after a number or a single letter, a number of its own elsewhere (a footnote)."""
    before, raised = found[1], found[2]
    if raised in ("²", "³"):
        return found[0]
    digits = "".join(_SUPERSCRIPTS[char] for char in raised)
    base = before.isdigit() or before == ")"
    base = base or (before.isalpha() and not found.string[: found.start()][-1:].isalpha())
    return f"{before}^{digits}" if base else f"{before} {digits}"


def _digit(char: str) -> str:
    """Decimal digits of every script as 0-9."""
    return str(unicodedata.decimal(char)) if unicodedata.category(char) == "Nd" else char


def _latin(char: str) -> str:
    found = _LATIN.fullmatch(unicodedata.name(char, ""))
    if found is None:
        return char
    return found[2].lower() if found[1] == "SMALL" else found[2]
