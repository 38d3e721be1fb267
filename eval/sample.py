"""What is asked of a model, and what it gave back: one JSON object each.

    Sample      a row of a dataset: audio or text, and what would be right
    Prediction  one model's answer to one sample, or the reason why there is none

A sample whose prediction failed, or has none, keeps its place in every denominator.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

REFERENCE_AUDIO = "reference_audio"  # key of `Sample.meta`: path of a recording of the right words
CLOSED_DOMAIN = "closed_domain"  # the same: path of all that can be answered (`eval.judges.closed_domain`)
FILES = (REFERENCE_AUDIO, CLOSED_DOMAIN)
PROMPT_AUDIO = "prompt_audio"  # the same: path of the voice to imitate
KINDS, ARGUMENTS = "instruction_id_list", "kwargs"  # the same: IFEval's instructions, JSON as in its columns


def text_of(value: Any) -> str | None:
    """A text as a model or a server gives it: as it is, or in parts that are joined; None: there is none.

        >>> from eval.sample import text_of
        >>> text_of([{"type": "text", "text": "a "}, {"type": "text", "text": "flute"}])
        'a flute'

    Raises:
        ValueError: the value is of another form.
    """
    if value is None:
        return None
    if isinstance(value, list):
        parts = [text_of(part.get("text")) if isinstance(part, dict) else text_of(part) for part in value]
        texts = [part for part in parts if part is not None]
        return "".join(texts) if texts else None
    if not isinstance(value, str):
        raise ValueError(f"expected a text, got {type(value).__name__}: {str(value)[:80]}")
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # half a character is none


@dataclass(frozen=True)
class Sample:
    """One row of a task.

    Attributes:
        id: unique within its task.
        audio: path of the recording; None: there is none.
        text: text to say aloud (TTS), or the question about the recording (AQA); None: the task's own request.
        references: right answers, any of which will do; for ASR the words, "" where nothing is said.
        choices: choices of a multiple-choice question; empty: free answer.
        meta: other facts that are known, such as subset, speaker or domain. Figures are also given by
            `meta["subset"]`. An ASR judge's errors on the answer stand beside those on `meta["reference_audio"]`, a
            teacher's recording of the same words. `meta["closed_domain"]` names all that can be answered, for the ASR
            judge.
    """

    id: str
    audio: str | None = None
    text: str | None = None
    references: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    meta: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> "Sample":
        """The sample that `to_dict` wrote."""
        return cls(**row | {"references": tuple(row["references"]), "choices": tuple(row["choices"])})

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Prediction:
    """One answer.

    Attributes:
        task: name of the task.
        id: id of the sample.
        key: hex digest of model, request and sample, under which it is stored.
        text: text that was written; None where the model failed or the job asks for none.
        audio: path of what was said, seen from the run folder; None: nothing.
        error: why there is no answer; None: there is one.
        measured: figures of this generation that are not the same in every run: ``seconds``,
            ``first_audio_seconds``, ``audio_seconds``, ``listening_seconds``, ``heard_seconds``.
        costs: figures that are: ``tokens``, ``unary_operations``, ``dense_operations``, ``picojoules`` ... (sums).
        pieces: pieces of speech that came in pieces: (seconds from the request until the piece was there, its samples).
        offline: path of the same speech, made of the same codes at once, seen from the run folder; None: not made.
        turns: events of a simulated dialogue, in seconds of its clock, in which computing takes no time
            (`eval.dialogue.conversation` lists their names).
    """

    task: str
    id: str
    key: str
    text: str | None = None
    audio: str | None = None
    error: str | None = None
    measured: dict[str, float] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    pieces: tuple[tuple[float, int], ...] = ()
    offline: str | None = None
    turns: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> "Prediction":
        """The prediction that `to_dict` wrote; one whose text is no text is a failed answer that says so."""
        pieces = tuple((seconds, samples) for seconds, samples in row.get("pieces", ()))
        try:
            read = {"text": text_of(row.get("text"))}
        except ValueError as error:
            read = {"text": None, "error": row.get("error") or f"{error}"}
        return cls(**row | read | {"pieces": pieces})

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)
