"""Playable samples of a task on the page: the worst ones and some drawn at random, run beside run."""

import html
import random
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from eval.metrics.case import Case
from eval.metrics.speech import already_heard
from eval.pages.clip import LONGEST, Clip
from eval.run.finished_run import FinishedRun
from eval.scores.figure import written_value
from eval.scores.scored_run import ScoredRun
from eval.texts.word_diff import marked_words

_LONGEST_TEXT = 600  # characters of a text on a card


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

    def cards(self, task: str) -> tuple[str, int, int]:
        """(HTML, samples shown, samples that the task has)."""
        cases = {name: _by_id(run, task) for name, (run, _) in self.runs.items()}
        known = list(dict.fromkeys(key for of_run in cases.values() for key in of_run))
        chosen = self._chosen(task, known)
        cards = "".join(self._card(task, key, why, cases) for key, why in chosen.items())
        return f'<div class="cards">{cards}</div>', len(chosen), len(known)

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

    def _card(self, task: str, key: str, why: str, cases: Mapping[str, Mapping[str, Case]]) -> str:
        case = next(of_run[key] for of_run in cases.values() if key in of_run)
        sample = case.sample
        subset = f", {sample.meta['subset']}" if "subset" in sample.meta else ""
        parts = [f"<h4>{_text(key + subset)} <small>({why})</small></h4>"]
        if sample.text is not None:
            parts.append(f"<p>{_text(sample.text)}</p>")
        if sample.choices:
            parts.append(f'<p class="soft">{_text(" / ".join(sample.choices))}</p>')
        if sample.audio is not None:
            parts.append(self._recording(Path(sample.audio), f"recording of sample {key}"))
        right = " / ".join(sample.references) if sample.references else None
        if right is not None:
            parts.append(f'<p><span class="soft">right:</span> {_text(right) or "<i>nothing is said</i>"}</p>')
        for name, of_run in cases.items():
            if key in of_run:
                parts.append(self._answer(task, name, of_run[key]))
        return f'<article class="card">{"".join(parts)}</article>'

    def _answer(self, task: str, name: str, case: Case) -> str:
        figures = self.runs[name][1].tasks[task].metrics
        own = [
            f"{metric} {written_value(figure, top / (bottom or 1.0))}"
            for metric, figure in figures.items()
            if case.sample.id in figure.samples
            for top, bottom in [figure.samples[case.sample.id]]
        ]
        parts = [f"<h5>{_text(name)} <small>{_text(', '.join(own))}</small></h5>"]
        if case.failure is not None:
            parts.append(f'<p class="failed">failed: {_text(case.failure)}</p>')
        elif case.prediction is not None and case.prediction.text is not None:
            parts.append(_compared("wrote", case.sample.references, case.text, case.language))
        if case.speech is not None:
            parts.append(self._recording(case.speech, f"what {name} said to sample {case.sample.id}"))
            if (heard := already_heard(case)) is not None:
                parts.append(_compared("heard by the ASR judge", case.words_to_say, heard, case.language))
        return "".join(parts)

    def _recording(self, path: Path, what: str) -> str:
        try:
            clip = Clip.of(path)
        except (OSError, ValueError):
            return f'<p class="soft">({_text(what)} is not at hand)</p>'
        if clip.size > self.room:
            self.left_out += 1
            return f'<p class="soft">({_text(what)}: no room left on this page)</p>'
        self.room -= clip.size
        self.shown += 1
        length = f"{clip.seconds:.1f} s" + (f", the first {LONGEST:.0f} s" if clip.seconds > LONGEST else "")
        label = html.escape(f"{what}, {length}", quote=True)
        picture = f'<img class="spectrogram" src="{clip.picture}" alt="spectrogram of {label}">' if clip.picture else ""
        return f'{picture}<audio controls preload="none" src="{clip.audio}" aria-label="{label}"></audio>'


def _by_id(run: FinishedRun, task: str) -> dict[str, Case]:
    return {case.sample.id: case for case in run.tasks[task].cases} if task in run.tasks else {}


def _compared(how: str, references: Sequence[str], answer: str, language: str) -> str:
    """An answer; where it differs from the first reference, both with what differs marked."""
    right, wrote = "", _text(answer)
    if references and len(answer) <= _LONGEST_TEXT:
        right, marked = marked_words(references[0], answer, language)
        wrote, right = (marked, right) if "<" in right + marked else (wrote, "")
    lost = f'<p><span class="soft">right:</span> {right}</p>' if right else ""
    return f'<p><span class="soft">{how}:</span> {wrote or "<i>nothing</i>"}</p>{lost}'


def _text(text: str) -> str:
    return html.escape(text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 3] + "...")
