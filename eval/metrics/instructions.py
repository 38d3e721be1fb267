"""Verifiable instructions of IFEval (Zhou et al. 2023, arXiv:2311.07911): does an answer do as it was told?

One function per kind of instruction, by the paper's description, under the dataset's names of kinds and arguments.

    strict  the answer as it is follows the instruction
    loose   it, or one of its variants does: without its first line, its last, or both (an introduction, a farewell),
            each with and without the asterisks of Markdown

An empty answer follows nothing. Where we differ from the published code on purpose: a keyword is a text, not a regular
expression. A language that cannot be told is not the demanded one. Sentences are split by one rule (`sentences`)
instead of NLTK's trained splitter, which needs a download. A missing argument is an error, not a random number.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from eval import sample as keys
from eval.metrics.case import Case
from eval.metrics.count import Count, Metric
from eval.sample import Sample

Arguments = Mapping[str, Any]

_CONSTRAINED = ("My answer is yes.", "My answer is no.", "My answer is maybe.")  # named by the paper's table
_SENTENCE_END = re.compile(r"[.!?\u2026]+[\"'\u201d\u2019)\]]*(?=\s+[\"'\u201c\u2018(\[]*[^\Wa-z_]|\s*$)")
_NO_END = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|No)|\b[A-Z]|\be\.g|\bi\.e)\.$")
_CAPITAL_WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*")


def sentences(text: str) -> int:
    """How many sentences: ends are . ! ? … before a capital, a digit or the end, not after a title or an initial."""
    ends = [found for found in _SENTENCE_END.finditer(text) if not _NO_END.search(text[: found.end()])]
    rest = text[ends[-1].end() :] if ends else text
    return len(ends) + bool(rest.strip())


def keywords_exist(answer: str, given: Arguments) -> bool:
    return all(_occurrences(answer, word) for word in given["keywords"])


def keyword_frequency(answer: str, given: Arguments) -> bool:
    return _related(_occurrences(answer, given["keyword"].strip()), given, "frequency")


def forbidden_words(answer: str, given: Arguments) -> bool:
    words = given["forbidden_words"]
    return not any(re.search(rf"\b{re.escape(word)}\b", answer, re.IGNORECASE) for word in words)


def letter_frequency(answer: str, given: Arguments) -> bool:
    count = answer.lower().count(given["letter"].lower())
    return _related(count, given, "let_frequency", "let_relation")


def response_language(answer: str, given: Arguments) -> bool:
    return _language(answer) == given["language"]


def number_sentences(answer: str, given: Arguments) -> bool:
    return _related(sentences(answer), given, "num_sentences")


def number_paragraphs(answer: str, given: Arguments) -> bool:
    """Paragraphs are divided by "***"; none between two dividers is empty."""
    parts = [part.strip() for part in answer.split("***")]
    inner = parts[bool(parts and not parts[0]) :]
    inner = inner[: len(inner) - bool(inner and not inner[-1])]
    return all(inner) and len(inner) == given["num_paragraphs"]


def number_words(answer: str, given: Arguments) -> bool:
    return _related(len(re.findall(r"\w+", answer)), given, "num_words")


def nth_paragraph_first_word(answer: str, given: Arguments) -> bool:
    """So many paragraphs, divided by a blank line, the n-th of which begins with that word."""
    parts = [part.strip() for part in answer.split("\n\n")]
    place = given["nth_paragraph"] - 1
    if sum(map(bool, parts)) != given["num_paragraphs"] or not 0 <= place < len(parts) or not parts[place]:
        return False
    word = re.split(r"[.,?!'\"]", parts[place].split()[0].lstrip("'\""))[0]
    return word.lower() == given["first_word"].lower()


def number_placeholders(answer: str, given: Arguments) -> bool:
    return len(re.findall(r"\[.*?\]", answer)) >= given["num_placeholders"]


def postscript(answer: str, given: Arguments) -> bool:
    letters = re.findall(r"[a-z]", given["postscript_marker"].lower())
    pattern = r"(?<![^\W_])" + r"\.?\s?".join(letters) + r"\b"
    return re.search(pattern, answer, re.IGNORECASE) is not None


def number_bullet_lists(answer: str, given: Arguments) -> bool:
    return len(re.findall(r"^[ \t]*(?:\*[^*]|-)", answer, re.MULTILINE)) == given["num_bullets"]


def constrained_response(answer: str, given: Arguments) -> bool:
    return any(option in answer for option in _CONSTRAINED)


def number_highlighted_sections(answer: str, given: Arguments) -> bool:
    marked = re.findall(r"\*\*([^\n*]*)\*\*|\*([^\n*]+)\*", answer)
    return sum(bool("".join(found).strip()) for found in marked) >= given["num_highlights"]


def multiple_sections(answer: str, given: Arguments) -> bool:
    """Sections begin with their name and a number: "SECTION 1"."""
    name = re.escape(given["section_spliter"].strip())
    return len(re.findall(rf"{name}\s?\d+", answer)) >= given["num_sections"]


def json_format(answer: str, given: Arguments) -> bool:
    """All of the answer is JSON; a fence of Markdown around it is let pass."""
    inside = re.fullmatch(r"\s*```(?:json)?(.*)```\s*", answer, re.DOTALL | re.IGNORECASE)
    try:
        json.loads(inside[1] if inside else answer)
    except ValueError:
        return False
    return True


def title(answer: str, given: Arguments) -> bool:
    """A title in double angular brackets: "<<title>>"."""
    return any(found.strip("<> ") for found in re.findall(r"<<([^\n]+)>>", answer))


def two_responses(answer: str, given: Arguments) -> bool:
    """Two different answers, divided by six asterisks."""
    parts = [part.strip() for part in answer.split("******")]
    inner = [part for place, part in enumerate(parts) if part or 0 < place < len(parts) - 1]
    return len(inner) == 2 and all(inner) and inner[0] != inner[1]


def repeat_prompt(answer: str, given: Arguments) -> bool:
    return answer.strip().lower().startswith(given["prompt_to_repeat"].strip().lower())


def end_phrase(answer: str, given: Arguments) -> bool:
    return answer.strip().strip('"').lower().endswith(given["end_phrase"].strip().lower())


def quotation(answer: str, given: Arguments) -> bool:
    said = answer.strip()
    return len(said) > 1 and said[0] == said[-1] == '"'


def capital_word_frequency(answer: str, given: Arguments) -> bool:
    count = sum(word.isupper() for word in _CAPITAL_WORD.findall(answer))
    return _related(count, given, "capital_frequency", "capital_relation")


def english_capital(answer: str, given: Arguments) -> bool:
    return answer.isupper() and _language(answer) == "en"


def english_lowercase(answer: str, given: Arguments) -> bool:
    return answer.islower() and _language(answer) == "en"


def no_comma(answer: str, given: Arguments) -> bool:
    return "," not in answer


KINDS: dict[str, Callable[[str, Arguments], bool]] = {
    "keywords:existence": keywords_exist,
    "keywords:frequency": keyword_frequency,
    "keywords:forbidden_words": forbidden_words,
    "keywords:letter_frequency": letter_frequency,
    "language:response_language": response_language,
    "length_constraints:number_sentences": number_sentences,
    "length_constraints:number_paragraphs": number_paragraphs,
    "length_constraints:number_words": number_words,
    "length_constraints:nth_paragraph_first_word": nth_paragraph_first_word,
    "detectable_content:number_placeholders": number_placeholders,
    "detectable_content:postscript": postscript,
    "detectable_format:number_bullet_lists": number_bullet_lists,
    "detectable_format:constrained_response": constrained_response,
    "detectable_format:number_highlighted_sections": number_highlighted_sections,
    "detectable_format:multiple_sections": multiple_sections,
    "detectable_format:json_format": json_format,
    "detectable_format:title": title,
    "combination:two_responses": two_responses,
    "combination:repeat_prompt": repeat_prompt,
    "startend:end_checker": end_phrase,
    "startend:quotation": quotation,
    "change_case:capital_word_frequency": capital_word_frequency,
    "change_case:english_capital": english_capital,
    "change_case:english_lowercase": english_lowercase,
    "punctuation:no_comma": no_comma,
}


def follows(answer: str, kind: str, given: Arguments) -> bool:
    """Whether the answer as it is follows one instruction; an empty one follows nothing.

    Args:
        answer: text that was written.
        kind: name of `KINDS`.
        given: its arguments, those that are None being absent.

    Raises:
        ValueError: there is no such kind, or it lacks an argument.
        ImportError: with the install hint, if a language is to be told and langdetect is missing.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of instruction {kind!r}; there are {', '.join(KINDS)}")
    try:
        return bool(answer.strip()) and KINDS[kind](answer, given)
    except KeyError as error:
        raise ValueError(f"the instruction {kind} needs the argument {error}, got {sorted(given)}") from error


def variants(answer: str) -> list[str]:
    """The answer, and what the loose accuracy also looks at."""
    lines = answer.split("\n")
    cut = [answer, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [*cut, *(text.replace("*", "") for text in cut)]


def instructions(sample: Sample) -> list[tuple[str, dict[str, Any]]]:
    """(kind, arguments) of every instruction of a sample.

    Raises:
        ValueError: its meta holds none, or not one list of arguments per kind.
    """
    try:
        kinds, given = (json.loads(sample.meta[key]) for key in (keys.KINDS, keys.ARGUMENTS))
        return [
            (kind, {name: value for name, value in (arguments or {}).items() if value is not None})
            for kind, arguments in zip(kinds, given, strict=True)
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"sample {sample.id!r} needs instructions: JSON lists of one length as meta {keys.KINDS!r} and "
            f"{keys.ARGUMENTS!r} ({error})"
        ) from error


def followed(title: str, loose: bool, whole: bool) -> Metric:
    """An accuracy of IFEval; a failed answer follows nothing.

    Args:
        title: for readers.
        loose: any variant of the answer will do.
        whole: whether prompts are counted, all of whose instructions have to be followed; else of instructions.
    """

    def measure(case: Case) -> Count:
        answer = "" if case.failure is not None else case.text
        given = instructions(case.sample)
        looked_at = variants(answer) if loose else [answer]
        done = [any(follows(text, kind, arguments) for text in looked_at) for kind, arguments in given]
        return Count(float(all(done)), 1.0) if whole else Count(float(sum(done)), float(len(done)))

    return Metric(title, "share", "higher", measure)


def _occurrences(answer: str, words: str) -> int:
    return len(re.findall(re.escape(words), answer, re.IGNORECASE))


def _related(count: int, given: Arguments, number: str, relation: str = "relation") -> bool:
    wanted, how = given[number], given[relation]
    if how not in ("less than", "at least"):
        raise ValueError(f"expected the relation 'less than' or 'at least', got {how!r}")
    return bool(count < wanted if how == "less than" else count >= wanted)


def _language(text: str) -> str | None:
    """ISO 639-1 of a text; None: it cannot be told."""
    try:
        from langdetect import DetectorFactory, LangDetectException, detect
    except ImportError as error:
        raise ImportError("IFEval's languages need langdetect: pip install spikeaudio[eval]") from error
    DetectorFactory.seed = 0  # it draws at random: the same text must have the same language twice
    try:
        return str(detect(text))
    except LangDetectException:
        return None
