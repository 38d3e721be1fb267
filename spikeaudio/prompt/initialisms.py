"""Initialisms are spelled (USB -> U S B); acronyms are words (NASA), and so is a word in capitals (STOP)."""

import re

_CAPITALS = re.compile(r"(?<![A-Za-z'])([A-Z]{2,5})(s?)(?![A-Za-z])")
_MIXED = re.compile(r"(?<![A-Za-z])(PhD|BSc|MSc|pH)(s?)(?![A-Za-z])")
_DOTTED = re.compile(r"(?<![A-Za-z.])((?:[A-Za-z]\.){2,})")
_INITIAL = re.compile(r"(?<![A-Za-z.'])([A-HJ-Z])\.(?= [A-Z])")
# Words that people write in capitals to stress them.
_WORDS = frozenset(
    "am an and any are as at bad be big but by can day did do end few for get go god had has he her him his how if in "
    "is it its job let man may me men my new no nor not now of off oh ok old on one or our out own put red run saw say "
    "see set she sir six so ten the to too top try two up use war was way we who why yes yet you".split()
)
# Pronounced as words although they are short or look like none.
_ACRONYMS = frozenset("aids asap gif pin ram rom sim vat zip".split())
_VOWELS = frozenset("AEIOUY")
# Spelled even in a text that is shouted.
_SPELLED = frozenset("ATM CEO CIA EU FAQ FBI IEEE IOU UFO UK UN USA USB USSR".split())


def spell_initialisms(text: str) -> str:
    """Put spaces between the letters of initialisms.

    A text without small letters is shouted: of its capitals only those without a vowel are spelled.
    """
    shouted = not any(char.islower() for char in text) and len(text.split()) > 1
    text = _DOTTED.sub(lambda found: " ".join(found[1].replace(".", " ").split()), text)
    text = _INITIAL.sub(r"\1", text)
    text = _MIXED.sub(lambda found: _spelled(found[1], found[2]), text)
    return _CAPITALS.sub(lambda found: _read(found[1], found[2], shouted), text)


def _read(capitals: str, plural: str, shouted: bool) -> str:
    if capitals in _SPELLED:
        return _spelled(capitals, plural)
    has_vowel = bool(_VOWELS & set(capitals))
    word = capitals.lower() in _WORDS | _ACRONYMS or (has_vowel and (shouted or len(capitals) > 3))
    return capitals + plural if word else _spelled(capitals, plural)


def _spelled(letters: str, plural: str) -> str:
    return f"{' '.join(letters)}{plural}"
