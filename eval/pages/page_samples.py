"""Playable samples of a task on the page: the worst ones and some drawn at random, run beside run."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from eval.metrics.case import Case
from eval.metrics.speech import already_heard
from eval.pages.clip import LONGEST, Clip
from eval.run.finished_run import FinishedRun
from eval.scores.figure import written_value
from eval.scores.scored_run import ScoredRun
from eval.texts.normalization import COUNTED_BY_CHARACTER
from eval.texts.word_diff import Passage, marked_words

_LONGEST_TEXT = 600  # characters of a text on a card


@dataclass(frozen=True)
class Recording:
    """A recording of a card.

    Attributes:
        what: description of the sound, for readers who cannot play it.
        clip: sound and picture; None: there is none on the page.
        missing: why there is none.
    """

    what: str
    clip: Clip | None = None
    missing: str = ""


@dataclass(frozen=True)
class Comparison:
    """A text beside the right one.

    Attributes:
        how: whether it was written or heard.
        answer: the text, in passages where it differs from the right one.
        right: the right text in passages; none where the two agree.
        space: separator between passages.
    """

    how: str
    answer: tuple[Passage, ...]
    right: tuple[Passage, ...] = ()
    space: str = ""


@dataclass(frozen=True)
class ShownAnswer:
    """One run's answer on a card.

    Attributes:
        run: name of the run.
        figures: the sample's own figures.
        failure: why there is no answer; None: there is one.
        wrote: the text; None: there is none.
        speech: the recording; None: there is none.
        heard: transcript of the ASR judge; None: it was not asked.
    """

    run: str
    figures: str
    failure: str | None
    wrote: Comparison | None
    speech: Recording | None
    heard: Comparison | None


@dataclass(frozen=True)
class Card:
    """One sample.

    Attributes:
        title: its id and subset.
        why: why it is shown.
        text: the question, or what is to be said; None: there is none.
        choices: options of a multiple-choice question; "": there are none.
        recording: sound that the question plays; None: there is none.
        right: the right answers; None: none is known.
        answers: one answer for every run.
    """

    title: str
    why: str
    text: str | None
    choices: str
    recording: Recording | None
    right: str | None
    answers: tuple[ShownAnswer, ...]


class PageSamples:
    """Cards of samples; recordings are put on the page until it is full.

    Args:
        runs: folders as read and their scores, by name.
        per_task: samples of each task, one half the worst of all runs in turn, the other drawn at random.
        room: bytes that recordings may take.
    """

    def __init__(self, runs: Mapping[str, tuple[FinishedRun, ScoredRun]], per_task: int, room: int) -> None:
        self.runs, self.per_task, self.room = runs, per_task, room
        self.shown = self.left_out = 0

    def cards(self, task: str) -> tuple[list[Card], int]:
        """(cards, samples that the task has)."""
        cases = {name: _by_id(run, task) for name, (run, _) in self.runs.items()}
        known = list(dict.fromkeys(key for of_run in cases.values() for key in of_run))
        return [self._card(task, key, why, cases) for key, why in self._chosen(task, known).items()], len(known)

    def _chosen(self, task: str, known: list[str]) -> dict[str, str]:
        """Why a sample is shown, by id."""
        rankings = [
            next(iter(scores.tasks[task].metrics.values())).worst_first()
            for _, scores in self.runs.values()
            if task in scores.tasks and scores.tasks[task].metrics
        ]
        ranked = list(dict.fromkeys(key for place in zip_longest(*rankings) for key in place if key is not None))
        chosen = dict.fromkeys(ranked[: (self.per_task + 1) // 2], "among the worst")
        rest = [key for key in known if key not in chosen]
        drawn = random.Random(0).sample(rest, min(len(rest), self.per_task - len(chosen)))
        return chosen | dict.fromkeys(drawn, "drawn at random")

    def _card(self, task: str, key: str, why: str, cases: Mapping[str, Mapping[str, Case]]) -> Card:
        sample = next(of_run[key] for of_run in cases.values() if key in of_run).sample
        subset = f", {sample.meta['subset']}" if "subset" in sample.meta else ""
        audio = None if sample.audio is None else self._recording(Path(sample.audio), f"recording of sample {key}")
        return Card(
            _short(key + subset),
            why,
            None if sample.text is None else _short(sample.text),
            _short(" / ".join(sample.choices)),
            audio,
            _short(" / ".join(sample.references)) if sample.references else None,
            tuple(self._answer(task, name, of_run[key]) for name, of_run in cases.items() if key in of_run),
        )

    def _answer(self, task: str, name: str, case: Case) -> ShownAnswer:
        own = [
            f"{metric} {written_value(figure, top / (bottom or 1.0))}"
            for metric, figure in self.runs[name][1].tasks[task].metrics.items()
            if case.sample.id in figure.samples
            for top, bottom in [figure.samples[case.sample.id]]
        ]
        wrote = speech = heard = None
        if case.failure is None and case.prediction is not None and case.prediction.text is not None:
            wrote = _compared("wrote", case.sample.references, case.text, case.language)
        if case.speech is not None:
            speech = self._recording(case.speech, f"what {name} said to sample {case.sample.id}")
            if (words := already_heard(case)) is not None:
                heard = _compared("heard by the ASR judge", case.words_to_say, words, case.language)
        failure = None if case.failure is None else _short(case.failure)
        return ShownAnswer(name, ", ".join(own), failure, wrote, speech, heard)

    def _recording(self, path: Path, what: str) -> Recording:
        try:
            clip = Clip.of(path)
        except (OSError, ValueError):
            return Recording(what, missing="is not at hand")
        if clip.size > self.room:
            self.left_out += 1
            return Recording(what, missing="finds no room left on this page")
        self.room -= clip.size
        self.shown += 1
        length = f"{clip.seconds:.1f} s" + (f", the first {LONGEST:.0f} s" if clip.seconds > LONGEST else "")
        return Recording(f"{what}, {length}", clip)


def _by_id(run: FinishedRun, task: str) -> dict[str, Case]:
    return {case.sample.id: case for case in run.tasks[task].cases} if task in run.tasks else {}


def _compared(how: str, references: Sequence[str], answer: str, language: str) -> Comparison:
    """An answer; where it differs from the first reference, both with what differs marked."""
    if references and len(answer) <= _LONGEST_TEXT:
        right, wrote = marked_words(references[0], answer, language)
        if any(passage.differs for passage in right + wrote):
            return Comparison(how, tuple(wrote), tuple(right), "" if language in COUNTED_BY_CHARACTER else " ")
    return Comparison(how, (Passage(_short(answer), differs=False),) if answer else ())


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 3] + "..."
