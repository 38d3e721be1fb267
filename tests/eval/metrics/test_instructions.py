"""IFEval: for every kind an answer that follows the instruction, and one that does not; strict and loose accuracy."""

import json
from pathlib import Path

import pytest

from eval.judges.judgements import Judgements
from eval.metrics import METRICS
from eval.metrics.case import Case
from eval.metrics.instructions import KINDS, follows, sentences, variants
from eval.sample import ARGUMENTS, Prediction, Sample
from eval.sample import KINDS as KINDS_KEY
from eval.task import CONVERSATION

ENGLISH = "this is a short english sentence about the weather of today"
SAMPLES = [
    ("keywords:existence", {"keywords": ["Sea", "salt (dry)"]}, "the seaside, and salt (dry)", "only the sea"),
    ("keywords:frequency", {"keyword": "rain", "frequency": 2, "relation": "at least"}, "Rain, rain", "rain"),
    ("keywords:frequency", {"keyword": "rain", "frequency": 2, "relation": "less than"}, "rain", "rain rain"),
    ("keywords:forbidden_words", {"forbidden_words": ["war"]}, "a warm day", "no War today"),
    ("keywords:letter_frequency", {"letter": "E", "let_frequency": 3, "let_relation": "at least"}, "seeE", "see"),
    ("language:response_language", {"language": "de"}, "Heute ist das Wetter in Hamburg sehr schön.", ENGLISH),
    ("language:response_language", {"language": "en"}, ENGLISH, "12345"),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"}, "One. Two!", "One, two."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", "a\n***\n***\nb"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***\na\n***\nb\n***", "a\nb"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "two words", "now three words"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "however"},
        'It rains.\n\n"However, it stops.',
        "However, it rains.\n\nIt stops.",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name], [street]", "[name]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\nP.S. one more", "Bye, tips."),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye.\nP. P. S. more", "Bye.\nP.S. more"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* one\n- two", "* one\n**two**"),
    ("detectable_format:constrained_response", {}, "Well. My answer is maybe.", "Maybe."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a b* and **c**", "*a* and ** **"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Part", "num_sections": 2},
        "Part 1 a\nPart 2",
        "Part 1",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', 'Here it is: {"a": 1}'),
    ("detectable_format:title", {}, "<<On rain>>\nIt rains.", "<< >>\nIt rains."),
    ("combination:two_responses", {}, "yes\n******\nno", "yes\n******\nyes"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, "say it. Here: it", "Here: it. Say it."),
    ("startend:end_checker", {"end_phrase": "Any questions?"}, 'So. "Any questions?"', "Any questions? No."),
    ("startend:quotation", {}, '"all of it"', '"some" of it'),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        "NASA I",
        "Nasa I",
    ),
    ("change_case:english_capital", {}, ENGLISH.upper(), ENGLISH.title()),
    ("change_case:english_lowercase", {}, ENGLISH, ENGLISH.capitalize()),
    ("punctuation:no_comma", {}, "one and two", "one, two"),
]


def test_every_kind_has_a_sample() -> None:
    assert {kind for kind, *_ in SAMPLES} == set(KINDS)


@pytest.mark.parametrize("kind,given,done,left", SAMPLES)
def test_followed_or_not(kind: str, given: dict, done: str, left: str) -> None:
    if kind.startswith(("language", "change_case:english")):
        pytest.importorskip("langdetect", reason="langdetect is not installed (spikeaudio[eval])")
    assert follows(done, kind, given) and not follows(left, kind, given)
    assert not follows("  \n", kind, given)


@pytest.mark.parametrize(
    "text,number",
    [
        ("Dr. A. Smith paid 3.50 dollars. He left!", 2),
        ('Really?! "Yes." (No.) 2 more', 4),
        ("no mark at all", 1),
        ("see e.g. this", 1),
        ("", 0),
    ],
)
def test_sentences(text: str, number: int) -> None:
    assert sentences(text) == number


def test_variants() -> None:
    assert variants("*a*\nb\nc") == ["*a*\nb\nc", "b\nc", "*a*\nb", "b", "a\nb\nc", "b\nc", "a\nb", "b"]


def case(tmp_path: Path, answer: str | None, kinds: object, given: object) -> Case:
    meta = {KINDS_KEY: json.dumps(kinds), ARGUMENTS: json.dumps(given)}
    prediction = Prediction("t", "a", "k", answer, error="it raised" if answer is None else None)
    return Case(CONVERSATION, "en", Sample("a", meta=meta), prediction, tmp_path, Judgements(tmp_path / "j.jsonl"))


@pytest.mark.parametrize(
    "answer,shares",
    [
        ("no comma", (1, 1, 2, 2)),
        ("Sure, here it is:\nno comma", (0, 1, 0, 2)),
        ("one, two", (0, 0, 1, 1)),
        ("", (0, 0, 0, 0)),
        (None, (0, 0, 0, 0)),
    ],
)
def test_accuracies(tmp_path: Path, answer: str | None, shares: tuple[int, ...]) -> None:
    """Of two instructions: no comma, and less than four words (None is no argument)."""
    given = [{"num_words": None}, {"num_words": 4, "relation": "less than", "keywords": None}]
    asked = case(tmp_path, answer, ["punctuation:no_comma", "length_constraints:number_words"], given)
    names = ("prompt_strict", "prompt_loose", "instruction_strict", "instruction_loose")
    counts = [METRICS[f"ifeval_{name}"].measure(asked) for name in names]
    assert tuple(count.numerator for count in counts if count) == shares
    assert [count.denominator for count in counts if count] == [1, 1, 2, 2]


@pytest.mark.parametrize(
    "kinds,given,message",
    [
        (["punctuation:no_commas"], [{}], "unknown kind of instruction 'punctuation:no_commas'; there are keywords"),
        (["startend:end_checker"], [{"end": "x"}], "startend:end_checker needs the argument 'end_phrase', got"),
        (["punctuation:no_comma"], [], "sample 'a' needs instructions: JSON lists of one length"),
        (None, None, "sample 'a' needs instructions"),
        (
            ["keywords:frequency"],
            [{"keyword": "x", "frequency": 1, "relation": "around"}],
            "expected the relation 'less than' or 'at least', got 'around'",
        ),
    ],
)
def test_broken_instructions(tmp_path: Path, kinds: object, given: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        METRICS["ifeval_prompt_strict"].measure(case(tmp_path, "x", kinds, given))
