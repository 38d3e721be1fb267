"""Answers as models give them to MMAU, MMAR and VoiceBench, and the option that each one names."""

import time

import pytest

from eval.texts.right_answer import chosen, is_right

SOUNDS = ("flute", "violin", "drum", "piano")
DOGS = ("dog", "dog barking", "cat")
ANSWERS: list[tuple[str, tuple[str, ...], int | None]] = [
    # the text of an option
    ("drum", SOUNDS, 2),
    ("Drum.", SOUNDS, 2),
    ("The answer is a drum.", SOUNDS, 2),
    ("A drum.", SOUNDS, 2),
    ("A drum is playing, I think.", SOUNDS, 2),
    ("I hear a drum", SOUNDS, 2),
    ("It is a drum...", SOUNDS, 2),
    ("It’s a drum…", SOUNDS, 2),
    ("**drum**", SOUNDS, 2),
    ("The correct answer is: violin", SOUNDS, 1),
    ("The instrument in the recording is the piano.", SOUNDS, 3),
    ("Dog barking.", DOGS, 1),
    ("I hear a dog barking loudly", DOGS, 1),
    ("a cat, I think", DOGS, 2),
    ("two people", ("2 people", "3 people"), 0),
    ("There are 2 people.", ("two people", "three people"), 0),
    ("The colour is grey", ("gray", "blue"), 0),
    # a letter
    ("C", SOUNDS, 2),
    ("c", SOUNDS, 2),
    ("C.", SOUNDS, 2),
    ("C)", SOUNDS, 2),
    ("(C)", SOUNDS, 2),
    ("(c)", SOUNDS, 2),
    ("[C]", SOUNDS, 2),
    ("A", SOUNDS, 0),
    ("a.", SOUNDS, 0),
    ("C. drum", SOUNDS, 2),
    ("C: drum", SOUNDS, 2),
    ("(C) drum", SOUNDS, 2),
    ("drum (C)", SOUNDS, 2),
    ("option c", SOUNDS, 2),
    ("Option C", SOUNDS, 2),
    ("option a", SOUNDS, 0),
    ("Option A seems best.", SOUNDS, 0),
    ("The answer is C", SOUNDS, 2),
    ("The answer is A.", SOUNDS, 0),
    ("the answer is a", SOUNDS, 0),
    ("The answer is option (B).", SOUNDS, 1),
    ("The answer is: C", SOUNDS, 2),
    ("Answer: C", SOUNDS, 2),
    ("Answer:\nC", SOUNDS, 2),
    ("The final answer is C) drum.", SOUNDS, 2),
    ("I would choose B.", SOUNDS, 1),
    ("B is the correct answer.", SOUNDS, 1),
    ("C because the beat is struck, unlike the flute.", SOUNDS, 2),
    ("答案是C", SOUNDS, 2),
    ("答案是选项B。", SOUNDS, 1),
    # marked
    ("**C**", SOUNDS, 2),
    ("Answer: **C**", SOUNDS, 2),
    ("**Answer:** C", SOUNDS, 2),
    ("**C. drum**", SOUNDS, 2),
    ("The answer is **A**.", SOUNDS, 0),
    (r"\boxed{C}", SOUNDS, 2),
    (r"The answer is $\boxed{\text{C}}$.", SOUNDS, 2),
    (r"Not \boxed{A}, so \boxed{drum}", SOUNDS, 2),
    ("<answer>C</answer>", SOUNDS, 2),
    ("<answer> drum </answer>", SOUNDS, 2),
    ("<think>A flute? Option B?</think> <answer>(C) drum</answer>", SOUNDS, 2),
    ("<think>It is a flute.</think>\nC", SOUNDS, 2),
    ('{"answer": "C"}', SOUNDS, 2),
    ('The answer is "C".', SOUNDS, 2),
    ("`C`", SOUNDS, 2),
    # denied
    ("Option A is wrong; the answer is C.", SOUNDS, 2),
    ("Option A is incorrect and option B is correct.", SOUNDS, 1),
    ("A and B are wrong, so it must be C.", SOUNDS, 2),
    ("It is not a flute but a drum.", SOUNDS, 2),
    ("It's a drum, not a flute.", SOUNDS, 2),
    ("It isn't the violin. It is the drum.", SOUNDS, 2),
    ("C rather than A", SOUNDS, 2),
    ("I don't think it is A; it's C", SOUNDS, 2),
    ("Neither A nor B; C.", SOUNDS, 2),
    ("The flute can be ruled out, which leaves the drum.", SOUNDS, 2),
    ("The answer is not A.", SOUNDS, None),
    ("It is not a drum.", SOUNDS, None),
    ("It sounds more like a violin than a drum.", SOUNDS, 1),
    ("We can exclude A, B and D. The answer must be C.", SOUNDS, 2),
    ("A is not correct. B is not correct. C is correct.", SOUNDS, 2),
    ("I am not sure, but I think it is the drum.", SOUNDS, 2),
    # the last stated choice counts
    ("The answer is A. Wait, no: the answer is C.", SOUNDS, 2),
    ("The answer is flute. Actually, the answer is drum.", SOUNDS, 2),
    ("A\n\nWait, C.", SOUNDS, 2),
    ("It sounds like a flute at first, but the correct answer is the drum.", SOUNDS, 2),
    ("A flute is blown and a piano is struck. Therefore, the answer is (C) drum.", SOUNDS, 2),
    ("The answer is C. A flute would be softer.", SOUNDS, 2),
    ("(A) flute (B) violin (C) drum (D) piano\nAnswer: B", SOUNDS, 1),
    ("Either A or B, but I lean towards B.", SOUNDS, 1),
    ("**Answer**: (B)\n\n**Explanation**: A drum has no bow. The flute is blown.", SOUNDS, 1),
    ("The audio features a violin. Therefore, the correct answer is **B**.", SOUNDS, 1),
    ("Is it a flute? No, it is a drum.", SOUNDS, 2),
    # a text against a letter: the text
    ("The answer is C: violin.", SOUNDS, 1),
    ("C. violin", SOUNDS, 1),
    # none, or more than one
    ("", SOUNDS, None),
    ("I do not know.", SOUNDS, None),
    ("A flute or a drum", SOUNDS, None),
    ("The answer is A or B.", SOUNDS, None),
    ("A. flute\nB. violin\nC. drum\nD. piano", SOUNDS, None),
    ("The options are A, B, C and D.", SOUNDS, None),
    ("Vitamin C is healthy.", SOUNDS, None),
    ("A guitar.", SOUNDS, None),
    ("The answer is a guitar.", SOUNDS, None),
    ("I think I heard a band.", SOUNDS, None),
    ("F", SOUNDS, None),
    ("drumming", SOUNDS, None),
    ("a dog and a cat", DOGS, None),
    ("concatenated", DOGS, None),
    # keys of music, options that are letters
    ("The key is C major.", ("A minor", "C major", "G major"), 1),
    ("The key is C major.", ("flute", "violin", "drum"), None),
    ("B", ("C", "B", "A"), 1),
    # yes and no
    ("Yes, it is", ("yes", "no"), 0),
    ("**Yes**", ("yes", "no"), 0),
    ("No, there is no dog.", ("yes", "no"), 1),
    ("No it is not", ("yes", "no"), 1),
    ("She does, so the answer is yes.", ("yes", "no"), 0),
    ("B", ("yes", "no"), 1),
    ("I do not know", ("yes", "no"), None),
    ("no idea, yes?", ("yes", "no"), None),
    ("nothing", ("yes", "no"), None),
]


@pytest.mark.parametrize(("answer", "choices", "place"), ANSWERS)
def test_the_chosen_option(answer: str, choices: tuple[str, ...], place: int | None) -> None:
    assert chosen(answer, choices) == place
    right = [is_right(answer, [choice], choices) for choice in choices]
    assert right == [number == place for number in range(len(choices))]


# VoiceBench's openbookqa, mmsu and bbh: the options are only heard, the reference is a letter or a label.
LETTERS: list[tuple[str, str, bool]] = [
    ("The answer is B.", "B", True),
    ("b", "B", True),
    ("(B)", "B", True),
    ("B. dog", "B", True),
    ("B. dog", "C", False),
    ("a dog", "A", False),
    ("The answer is a drum.", "A", False),
    ("The correct adjective order is (a)", "(A)", True),
    ("The correct sentence is option B.", "(B)", True),
    ("Option A is wrong; the answer is C.", "C", True),
    ("Option A is wrong; the answer is C.", "A", False),
    ("Answer: **C**", "C", True),
    (r"\boxed{D}", "D", True),
    ("<answer>D</answer>", "D", True),
    ("I know", "I", False),
    ("I would say it depends.", "I", False),
    ("Yes, the sentence is plausible.", "yes", True),
    ("No, it is not plausible.", "yes", False),
    ("The argument is valid, so the answer is valid.", "valid", True),
    ("yesterday", "yes", False),
]


@pytest.mark.parametrize(("answer", "reference", "right"), LETTERS)
def test_options_that_are_only_heard(answer: str, reference: str, right: bool) -> None:
    assert is_right(answer, [reference]) is right


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [("Twenty one!", "21", True), ("London...", "london", True), ("", "x", False), ("the cat", "cat", False)],
)
def test_free_answers_are_compared_as_normalized(answer: str, reference: str, right: bool) -> None:
    assert is_right(answer, [reference]) is right


def test_a_reference_is_a_text_or_a_letter() -> None:
    assert is_right("B", ["cat"], ["dog", "cat"]) and is_right("cat", ["B"], ["dog", "cat"])
    assert not is_right("", ["B"], ["dog", "cat"]) and not is_right("neither", ["neither"], ["dog", "cat"])


@pytest.mark.parametrize("loop", ["the answer is not a ", "A B C D, ", "( ", "drum flute "])
def test_a_model_that_repeats_itself_is_read_at_once(loop: str) -> None:
    chosen("C", SOUNDS)  # imports what normalizes
    began = time.perf_counter()
    assert chosen(loop * 3000 + ". So the answer is C.", SOUNDS) == 2
    assert time.perf_counter() - began < 5
