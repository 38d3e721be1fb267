"""Which option of a multiple-choice question an answer names, by its text or by its letter.

Models answer in many forms: "C", "(c)", "**C. drum**", "Option A is wrong; the answer is C.". The rules, in order:

    1. Only the content of the last <answer> tag or LaTeX box counts, where there is one.
    2. A mention is the text of an option in whole words, or a letter that stands as a letter. "A drum" names no letter.
    3. A mention that the answer denies ("not A", "A is wrong", "A, rather than B" for B) does not count.
    4. Mentions are ranked: stated as the answer, said of the sound ("it is a drum"), alone in their sentence, or in
       passing. Only the highest rank counts. Of statements the last one counts. Mentions of lower rank must agree.
    5. Where a text and a letter of the same rank disagree, the text counts.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from eval.texts.normalization import contains_words, normalize

_ASCII = str.maketrans(
    "\u2018\u2019\u201c\u201d\u2013\u2014\u2026\uff1a\uff0c\uff08\uff09\u3010\u3011\u3002", "''\"\"--.:,()()."
)  # quotes, dashes, dots and full-width signs
_THOUGHT = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.I | re.S)
_TAGGED = re.compile(r"<answer>(.*?)(?:</answer>|$)", re.I | re.S)
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_LATEX = re.compile(r"\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}")
_MARKED = re.compile(r"(?<![A-Za-z])(\*\*|__|\*|`|\"|')\(?([A-Za-z])\)?[.:]?(?:\*\*|__|\*|`|\"|')(?![A-Za-z])")
_MARKUP = re.compile(r"\*+|__+|`+|[\"$#{}]")

_BRACKETED = re.compile(r"[(\[]\s*([A-Za-z])\s*[)\]]")
_CAPITAL = re.compile(
    r"(?<![A-Za-z0-9_'.&+-])([B-HJ-Z])(?![A-Za-z0-9_'&+#]|-[A-Za-z]|\s(?:major|minor|sharp|flat|note)\b)[).:]*"
)
_CAPITAL_A = re.compile(
    r"(?<![A-Za-z0-9_'.&+-])(A)(?:[).:]+|(?=\s*(?:$|[,;!?\]\n])|\s+(?:-|(?:is|was|and|or|because|since|would|seems|fits)\b)))"
)
_NUMERAL_I = re.compile(r"(?<![A-Za-z0-9_'.&+-])(I)(?:[).:]|\s*$)")
_NAMED = re.compile(r"\b(?:option|choice|letter)\s+([A-Za-z])\b(?!')[).:]*", re.I)
_NAMED_SENTENCE = re.compile(r"\b(?:sentence|answer)\s+(A)\b(?!')[).:]*")
_SMALL = re.compile(
    r"\b(?i:answer|choice|option|order|sentence|one)\b\s*(?:is|:|would be|should be|must be)?\s*:?\s*"
    r"([a-z])(?=\s*(?:$|[.,;:!?)\n]|(?:because|since|and|or)\b))[).:]*",
    re.M,
)
_LISTED = re.compile(r"^\s*([A-Za-z])[).](?=\s)", re.M)
_NO_OPTION = re.compile(r"\b(?:vitamin|plan|hepatitis|note|grade|key of)\s+$", re.I)  # "vitamin C"

_FILLING = (
    r"(?:[\s'(\[*:,=-]|\b(?:is|be|to|that|option|choice|letter|answer|number|an?|the|most|likely|probably|clearly|"
    r"definitely|actually|simply|just|found|provided|in|therefore|thus|without|any|modification)\b)*"
)
_STATED = re.compile(
    r"(?:\b(?:answer|choice|option|selection|response|order|sentence|match|one)\s*(?:to|for)?(?:\s(?:this|the|your)\s\w+)?"
    r"[^.;!?\n]{0,30}?\s*(?:\b(?:is|was|would be|should be|must be|will be)\b|[:=])"
    r"|\b(?:choose|chose|select(?:ed)?|pick(?:ed)?|go(?:ing)? with|opt for|settle on|lean(?:ing)? towards?|answer)\b"
    r"|\b(?:wait|actually|no|sorry|correction|instead|rather|i mean|on second thought)\b[\s,:;.-]+"
    r"|答案[^A-Za-z]{0,8}|选项?|选择)" + _FILLING + r"$",
    re.I,
)
_STATED_AFTER = re.compile(
    r"^[\s')\]]*(?:is|are|seems|would be|must be)(?: to be)?(?: the)?(?: most| more| best| only| grammatically)*\s*"
    r"(?:correct|right|best|likely|accurate|true|closest|appropriate|answer|choice|one)\b"
    r"|^[\s')\]]*(?:remains|is left)\b|^\s*是正确",
    re.I,
)
_SAID_OF_IT = re.compile(
    r"(?:\b(?:it|this|that|sound|instrument|recording|clip|audio|music|speaker)(?:\s(?:is|was)|'s)|\bmust be|"
    r"\b(?:sounds? like|seems? to be|appears? to be))" + _FILLING + r"$",
    re.I,
)
_DENIED = re.compile(
    r"(?:\b(?:not|never|neither|nor|cannot|without|no|unlike|except|eliminat(?:e|ed|ing)|exclud(?:e|ed|ing)|"
    r"rul(?:e|ed|ing) out|than|instead of)|n't)\s+"
    r"(?:(?:be|been|an?|the|option|choice|answer|letter|likely|really|exactly|actually|it|it's|is|by|like|sound|sounds|to|"
    r"any|either|think|believe|hear|seem|say|choose|that|this|of|both)\s+)*['(\[]*$",
    re.I,
)
_DENIED_AFTER = re.compile(
    r"^[\s')\]]*(?:(?:is|are|was|were|would be|seems?|looks?|must be)\s+(?:also\s+|both\s+|clearly\s+|definitely\s+)*"
    r"(?:wrong|incorrect|false|eliminated|excluded|ruled out|out\b|unlikely|impossible|"
    r"not\b(?! (?:wrong|incorrect|only)))"
    r"|(?:isn|aren|wasn|doesn|don|can|couldn|wouldn)'t\b(?! be wrong)|(?:does|do|cannot|can|could|would) ?not\b"
    r"|(?:can|could|may|must) be (?:ruled out|excluded|eliminated))",
    re.I,
)
_JOINED = re.compile(
    r"(?:[ \t,/&()\[\]'=-]|\b(?:and|or|nor|both|either|an?|the|option|choice|letter|answer|possibly|maybe|also)\b)*",
    re.I,
)
_GOES_ON = re.compile(r"\s*(?:[-,:]|(?:because|since|as|for)\b)", re.I)
_END = re.compile(r"[.!?;\n]")
_REACH = 120  # characters around a mention that may state or deny it
_HEAD, _TAIL = 500, 1500  # characters read of an answer: a choice stands at the beginning or at the end
_ONE_WORD = frozenset({"yes", "no", "true", "false"})  # words that also stand in answers which mean something else
_BEGINS_WITH = re.compile(
    r"\W*(yes|no|true|false)\b(?=\s*(?:$|[,.;:!?\n-]|(?:it|the|this|that|there|he|she|they|you)\b))", re.I
)


class Rank(IntEnum):
    """How firmly a mention is meant as the answer."""

    IN_PASSING = 0
    ALONE = 1
    SAID_OF_IT = 2
    STATED = 3


@dataclass(frozen=True)
class Mention:
    """One place where an answer names an option.

    Attributes:
        start: first character.
        end: character behind the last one.
        place: number of the option, from 0.
        letter: whether the option's letter stands there, not its text.
    """

    start: int
    end: int
    place: int
    letter: bool


def named_choice(answer: str, choices: Sequence[str], language: str) -> int | None:
    """Number of the option that an answer names; None: the answer names none, or several alike.

    Args:
        answer: text of the model.
        choices: texts of the options; empty: any letter may be an option.
        language: ISO 639-1.
    """
    text = _plain(answer)
    mentions = _mentions(text, choices, language)
    ranked: dict[Rank, list[list[Mention]]] = {}
    groups = _groups(text, mentions)
    for number, group in enumerate(groups):
        begin = groups[number - 1][-1].end if number else 0
        end = groups[number + 1][0].start if number + 1 < len(groups) else len(text)
        before, after = text[begin : group[0].start][-_REACH:], text[group[-1].end : end][:_REACH]
        one_word = any(not one.letter and choices[one.place].strip().lower() in _ONE_WORD for one in group)
        if one_word or not (_DENIED.search(before) or _DENIED_AFTER.search(after)):
            ranked.setdefault(_rank(text, group, before, after), []).append(group)
    if not ranked:
        return None
    highest = max(ranked)
    kept = ranked[highest]
    return _agreed(kept[-1] if highest >= Rank.SAID_OF_IT else [one for group in kept for one in group], choices)


def _plain(answer: str) -> str:
    """The part of an answer that counts, with marked letters in brackets and without other markup."""
    text = _THOUGHT.sub(" ", answer.translate(_ASCII))
    for pattern in (_TAGGED, _BOXED):
        if found := pattern.findall(text):
            text = found[-1]
    text = _LATEX.sub(r"\1", text)
    text = _MARKED.sub(r"(\2)", text)
    text = _MARKUP.sub("", text).strip()
    return text if len(text) <= _HEAD + _TAIL else f"{text[:_HEAD]}\n{text[-_TAIL:]}"


def _mentions(text: str, choices: Sequence[str], language: str) -> list[Mention]:
    """All mentions by place in the text; of overlapping ones the longest text."""
    texts = sorted(_texts(text, choices, language), key=lambda one: (one.start - one.end, one.start))
    found: list[Mention] = []
    for one in [*texts, *_letters(text, choices)]:
        if all(one.end <= other.start or one.start >= other.end for other in found):
            found.append(one)
    if not any(not one.letter for one in found):
        found += _respelled(text, choices, language, found)
    return sorted(found, key=lambda one: one.start)


def _texts(text: str, choices: Sequence[str], language: str) -> Iterator[Mention]:
    for place, choice in enumerate(choices):
        if len(choice.strip()) == 1 and choice.strip().isalpha():
            continue  # such an option is its letter
        if choice.strip().lower() in _ONE_WORD:
            yield from _one_word(text, place, choice.strip().lower())
            continue
        spelled = {tuple(re.findall(r"[^\W_]+", one.lower())) for one in (choice, normalize(choice, language))}
        for words in spelled - {()}:
            core = words[1:] if len(words) > 1 and words[0] in ("a", "an", "the") else words
            spread = r"[\W_]+".join(map(re.escape, core))
            pattern = rf"(?<![^\W_]){spread}(?![^\W_])"
            for found in re.finditer(pattern, text, re.I):
                yield Mention(found.start(), found.end(), place, letter=False)


def _one_word(text: str, place: int, word: str) -> Iterator[Mention]:
    """Yes, no, true and false count at the beginning of an answer, and where they are stated as the answer."""
    begins = _BEGINS_WITH.match(text)
    if begins and begins[1].lower() == word:
        yield Mention(begins.start(1), begins.end(1), place, letter=False)
    for found in re.finditer(rf"\b{word}\b", text, re.I):
        before = text[: found.start()][-_REACH:]
        if _STATED.search(before) and re.search(r"\banswer\b|答案", before, re.I):
            yield Mention(found.start(), found.end(), place, letter=False)


def _letters(text: str, choices: Sequence[str]) -> Iterator[Mention]:
    """Letters that stand as letters; the more telling patterns first."""
    own = {choice.strip().upper(): place for place, choice in enumerate(choices) if len(choice.strip()) == 1}
    options = len(choices) or 26
    whole = re.fullmatch(r"\s*([A-Za-z])\s*[).:]*\s*", text)
    patterns = (_BRACKETED, _NAMED, _NAMED_SENTENCE, _LISTED, _SMALL, _CAPITAL, _CAPITAL_A, _NUMERAL_I)
    for found in [whole] if whole else [found for pattern in patterns for found in pattern.finditer(text)]:
        letter = found[1].upper()
        place = own.get(letter, ord(letter) - ord("A"))
        if place < options and not _NO_OPTION.search(text[: found.start()][-_REACH:]):
            start = found.start(1) if found.re is not _BRACKETED else found.start()
            yield Mention(start, found.end(), place, letter=True)


def _respelled(text: str, choices: Sequence[str], language: str, letters: Sequence[Mention]) -> list[Mention]:
    """Options that stand in the text only as normalized ("2" as "two"); none where a letter is named."""
    if letters:
        return []
    said = normalize(text, language)
    options = [normalize(choice, language) for choice in choices]
    return [
        Mention(0, len(text), place, letter=False)
        for place, option in enumerate(options)
        if option not in _ONE_WORD and len(option) > (not option.isdigit()) and contains_words(said, option)
    ]


def _groups(text: str, mentions: Sequence[Mention]) -> list[list[Mention]]:
    """Mentions that are said together: "A or B", "C. drum"."""
    groups: list[list[Mention]] = []
    for one in mentions:
        last = groups[-1][-1] if groups else None
        if last is not None and _are_joined(text, last, one):
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups


def _are_joined(text: str, one: Mention, other: Mention) -> bool:
    ends = one.letter and text[one.end - 1 : one.end] == "."
    if ends and one.place != other.place:  # the letter ends its sentence
        return False
    return _JOINED.fullmatch(text[one.end : max(one.end, other.start)]) is not None


def _rank(text: str, group: Sequence[Mention], before: str, after: str) -> Rank:
    if _STATED.search(before) or _STATED_AFTER.search(after):
        return Rank.STATED
    if _SAID_OF_IT.search(before):
        return Rank.SAID_OF_IT
    start, end = group[0].start, group[-1].end
    head = _END.split(text[max(0, start - _REACH) : start])[-1]
    tail = "" if text[end - 1 : end] == "." else _END.split(text[end : end + _REACH])[0]
    bare = re.fullmatch(_FILLING, head, re.I) is not None
    alone = bare and re.fullmatch(r"[^\w]*", tail) is not None
    listed = not head.strip() and group[0].letter and (text[group[0].end - 1] in ").:]" or _GOES_ON.match(after))
    return Rank.ALONE if alone or listed else Rank.IN_PASSING


def _agreed(mentions: Iterable[Mention], choices: Sequence[str]) -> int | None:
    """The one option that mentions name; texts before letters, and the longer of two texts that hold each other."""
    listed = list(mentions)
    places = {one.place for one in listed if not one.letter} or {one.place for one in listed}
    if len(places) > 1 and choices:
        plain = {place: " ".join(re.findall(r"[^\W_]+", choices[place].lower())) for place in places}
        places = {
            place
            for place in places
            if not any(plain[place] != plain[other] and contains_words(plain[other], plain[place]) for other in places)
        }
    return places.pop() if len(places) == 1 else None
