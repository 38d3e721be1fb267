"""Roman numerals where a reader is sure that they are numbers: Henry VIII, World War II, Chapter IV, Rocky III."""

import re
from collections.abc import Callable

_RULERS = (
    "Alexander|Benedict|Catherine|Charles|Christian|Clement|Edward|Elizabeth|Ferdinand|Francis|Frederick|George|Gregory"
    "|Gustav|Henry|Innocent|Ivan|James|John|Leo|Leopold|Louis|Ludwig|Mary|Napoleon|Nicholas|Otto|Paul|Peter|Philip|Pius"
    "|Ramses|Richard|Robert|Rudolf|Urban|Victor|Wilhelm|William"
)
_COUNTED = (
    "act|appendix|article|book|chapter|class|division|episode|figure|grade|league|level|mark|olympiad|part|phase|round"
    "|scene|section|stage|table|type|unit|version|volume|war"
)
_SURE = re.compile(rf"\b(?:({_RULERS})|(?i:{_COUNTED})) ([IVX]+)\b")
_LONGER = re.compile(r"\b([IVX]{2,})\b")
_SHAPE = re.compile(r"X{0,3}(IX|IV|V?I{0,3})")
_VALUES = {"I": 1, "V": 5, "X": 10}


def read_roman_numerals(text: str, ordinal: Callable[[int], str], cardinal: Callable[[int], str]) -> str:
    """Write Roman numerals up to 39 as words; one letter alone counts only behind a word that is counted.

    Args:
        text: with its capitals.
        ordinal: 8 -> "eighth", for rulers.
        cardinal: 8 -> "eight", for everything else.
    """

    def sure(found: re.Match[str]) -> str:
        if (number := _value(found[2])) is None:
            return found[0]
        word = f"the {ordinal(number)}" if found[1] else cardinal(number)
        return f"{found[0][: -len(found[2])]}{word}"

    text = _SURE.sub(sure, text)
    return _LONGER.sub(lambda found: found[0] if (number := _value(found[1])) is None else cardinal(number), text)


def _value(numeral: str) -> int | None:
    if not _SHAPE.fullmatch(numeral):
        return None
    values = [_VALUES[letter] for letter in numeral]
    return sum(-one if one < following else one for one, following in zip(values, [*values[1:], 0], strict=True))
