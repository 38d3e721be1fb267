"""What an answer took: time, which differs from run to run, and counted operations, which do not."""

from eval.case import Case
from eval.metrics.count import Count

# Names of `Prediction.costs` that have one in NeuroBench (arXiv:2304.04640), per sample; here they are summed.
NEUROBENCH = {
    "dense_operations": "SynapticOperations.Dense",
    "effective_acs": "SynapticOperations.Effective_ACs",
    "effective_macs": "SynapticOperations.Effective_MACs",
}


def first_audio(case: Case) -> Count | None:
    """Seconds until the first audio; None: not measured, or the answer failed, which takes no time to compare."""
    seconds = _measured(case, "first_audio_seconds")
    return None if seconds is None else Count(seconds, 1.0)


def real_time_factor(case: Case) -> Count | None:
    """Seconds of computing over seconds of audio; None: not measured."""
    seconds, audio = _measured(case, "seconds"), _measured(case, "audio_seconds")
    return None if seconds is None or not audio else Count(seconds, audio)


def cost(case: Case, name: str) -> Count | None:
    """One counted figure over seconds of audio; None: not counted, or no length of audio is known."""
    audio = _measured(case, "audio_seconds")
    if case.prediction is None or name not in case.prediction.costs or not audio:
        return None
    return Count(float(case.prediction.costs[name]), audio)


def _measured(case: Case, name: str) -> float | None:
    if case.failure is not None or case.prediction is None or name not in case.prediction.measured:
        return None
    return float(case.prediction.measured[name])
