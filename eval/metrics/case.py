"""A case: one sample of a finished run, with what the model answered. What metrics look at."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from eval.judges.closed_domain import ClosedDomain
from eval.judges.judgements import Judgements
from eval.sample import CLOSED_DOMAIN, REFERENCE_AUDIO, Prediction, Sample
from eval.task import Job
from eval.texts.normalization import PlainNormalizer


@dataclass(frozen=True)
class Case:
    """One sample, its prediction, and where to look further.

    Attributes:
        job: job of the task.
        language: language of the task.
        sample: sample that was asked.
        prediction: None: the run has none for this sample.
        run: the run folder.
        judgements: judgements of this run so far.
    """

    job: Job
    language: str
    sample: Sample
    prediction: Prediction | None
    run: Path
    judgements: Judgements

    @cached_property
    def failure(self) -> str | None:
        """Why there is no answer; None: there is one."""
        if self.prediction is None:
            return "no prediction"
        if self.prediction.error is not None:
            return self.prediction.error
        if self.job.writes and self.prediction.text is None:
            return "nothing was written"
        return "nothing was said" if self.job.speaks and self.speech is None else None

    @property
    def normalizer(self) -> PlainNormalizer:
        """What makes texts of the task comparable."""
        return PlainNormalizer(self.language)

    @property
    def text(self) -> str:
        """What was written; "" where there is no answer."""
        return "" if self.failure is not None or self.prediction is None else self.prediction.text or ""

    @cached_property
    def speech(self) -> Path | None:
        """Recording of what was said; None: there is none, or its file is missing."""
        return None if self.prediction is None else self._recording(self.prediction.audio)

    @cached_property
    def offline(self) -> Path | None:
        """Recording of the same codes made sound at once; None: there is none, or its file is missing."""
        return None if self.prediction is None else self._recording(self.prediction.offline)

    @cached_property
    def reference_speech(self) -> Path | None:
        """Recording of the right words in the sample itself: ``meta["reference_audio"]``, or what a codec repeats."""
        path = self.sample.meta.get(REFERENCE_AUDIO) or (self.sample.audio if self.job.repeats else None)
        return Path(path) if path and Path(path).is_file() else None

    @cached_property
    def domain(self) -> ClosedDomain | None:
        """All that can be said, where the sample names it."""
        path = self.sample.meta.get(CLOSED_DOMAIN)
        return None if path is None else ClosedDomain.read(path)

    @property
    def words_to_say(self) -> tuple[str, ...]:
        """What the spoken answer should be: the text where a text is read aloud, else any of the references."""
        if not self.job.hears and self.sample.text is not None:
            return (self.sample.text,)
        return self.sample.references or ("",)

    def _recording(self, name: str | None) -> Path | None:
        if name is None or self.prediction is None or self.prediction.error is not None:
            return None
        path = self.run / name
        return path if path.is_file() else None
