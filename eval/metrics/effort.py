"""What an answer took: time, which differs from run to run, and counted operations, which do not."""

from eval.metrics.case import Case
from eval.metrics.count import Count

# Sums in `Prediction.costs` that NeuroBench (arXiv:2304.04640) has a name for; it gives them per sample.
NEUROBENCH = {"dense_operations": "SynapticOperations.Dense"}


def first_audio(case: Case) -> Count | None:
    """Seconds until the first audio; None: not measured, or the answer failed, which takes no time to compare."""
    seconds = _measured(case, "first_audio_seconds")
    return None if seconds is None else Count(seconds, 1.0)


def real_time_factor(case: Case) -> Count | None:
    """Seconds of computing over seconds of audio; None: not measured."""
    seconds, audio = _measured(case, "seconds"), _measured(case, "audio_seconds")
    return None if seconds is None or not audio else Count(seconds, audio)


def cost(case: Case, name: str) -> Count | None:
    """One counted sum over seconds of audio; None: it was not counted, or no length of audio is known."""
    costs = case.prediction.costs if case.prediction else {}
    audio = costs.get("audio_seconds") or _measured(case, "audio_seconds")
    return Count(float(costs[name]), audio) if name in costs and audio else None


def activation_sparsity(case: Case) -> Count | None:
    """Silent elements over elements that could fire (NeuroBench's ActivationSparsity); None: none could."""
    costs = case.prediction.costs if case.prediction else {}
    return Count(costs["silent_elements"], costs["elements"]) if costs.get("elements") else None


def _measured(case: Case, name: str) -> float | None:
    if case.failure is not None or case.prediction is None or name not in case.prediction.measured:
        return None
    return float(case.prediction.measured[name])
