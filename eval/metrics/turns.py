"""Taking turns: figures of simulated dialogues (`eval.dialogue.conversation`), in seconds of their own clock.

The questions are those of Full-Duplex-Bench (arXiv:2503.04721): does the model take the turn, how soon, does it leave
the user's pauses alone, how soon does it stop. What computing takes is in none of them: see ``first_audio_seconds``.
"""

from eval.dialogue.conversation import PATIENCE_SECONDS
from eval.metrics.case import Case
from eval.metrics.count import Count

PAUSE = "pause_seconds"  # key of `Sample.meta`: how long the user pauses within the question


def takeover(case: Case) -> Count:
    """1 where the model can be heard after the user's end; failing is 0."""
    return Count(float(_audible_after_the_end(case) is not None), 1.0)


def response_latency(case: Case) -> Count:
    """Seconds from the user's last sound to the model's first one; an answer that never comes counts as 10 s."""
    audible = _audible_after_the_end(case)
    waited = PATIENCE_SECONDS if audible is None else audible - _turns(case)["user_end"]
    return Count(min(waited, PATIENCE_SECONDS), 1.0)


def pause_takeover(case: Case) -> Count | None:
    """1 where the model can be heard before the user's end; failing is 1; None: the user makes no pause."""
    if PAUSE not in case.sample.meta:
        return None
    turns = _turns(case)
    early = [at for name, at in turns.items() if name.startswith("audible_") and at < turns["user_end"]]
    return Count(float(bool(early) or not turns), 1.0)


def stop_latency(case: Case) -> Count | None:
    """Seconds from the interruption to the model's silence; failing, or stopping unasked, counts as 10 s.

    None: the answer was over before anybody could interrupt it.
    """
    turns = _turns(case)
    if not turns:
        return Count(PATIENCE_SECONDS, 1.0)
    if "interruption" not in turns:
        return None
    stopped = turns.get("stopped", float("inf")) - turns["interruption"]
    return Count(stopped if 0 <= stopped <= PATIENCE_SECONDS else PATIENCE_SECONDS, 1.0)


def listening_factor(case: Case) -> Count | None:
    """Seconds that the turn detector computed over seconds that it heard; None: there was none."""
    measured = case.prediction.measured if case.prediction else {}
    if case.failure is not None or "listening_seconds" not in measured:
        return None
    return Count(measured["listening_seconds"], measured["heard_seconds"])


def _turns(case: Case) -> dict[str, float]:
    """Events of the dialogue; none where the model failed."""
    return {} if case.failure is not None or case.prediction is None else case.prediction.turns


def _audible_after_the_end(case: Case) -> float | None:
    """When the model's last answer can be heard, if it begins after the user's end."""
    turns = _turns(case)
    late = [at for name, at in turns.items() if name.startswith("audible_") and at >= turns["user_end"]]
    return min(late) if late else None
