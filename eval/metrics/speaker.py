"""Whether the voice is the one that was to be imitated: cosine of x-vectors by a WavLM-type model.

As in seed-tts-eval and VALL-E: embeddings of the prompt's recording and of the spoken answer, -1 to 1. The model is one
of transformers' layout ``WavLMForXVector`` (Chen et al. 2022, arXiv:2110.13900) whose weights are on this machine: the
folder or id in $SPIKEAUDIO_EVAL_SPEAKER_MODEL, by default microsoft/wavlm-base-plus-sv. Nothing is downloaded.
Figures of different models cannot be compared; the model is part of the figure's signature.
"""

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.judges.judgements import content_key
from eval.metrics.case import Case
from eval.metrics.count import Count, NotMeasurable
from eval.metrics.signal import SAMPLING_RATE, load
from eval.sample import PROMPT_AUDIO

MODEL_VARIABLE = "SPIKEAUDIO_EVAL_SPEAKER_MODEL"
_DEFAULT = "microsoft/wavlm-base-plus-sv"
_LOWEST = -1.0


def similarity(first: NDArray[np.float32], second: NDArray[np.float32], model: str) -> float:
    """Cosine of the x-vectors of two recordings.

    Args:
        first: (N,) at 16 kHz.
        second: (M,) at 16 kHz.
        model: folder or id whose weights are on this machine.

    Raises:
        NotMeasurable: there are no such weights; says how to get them.
    """
    import torch

    extractor, network = _speaker_model(model)
    vectors = []
    for wav in (first, second):
        inputs = extractor(wav, sampling_rate=SAMPLING_RATE, return_tensors="pt")
        with torch.inference_mode():
            vectors.append(network(**inputs).embeddings[0])
    return float(torch.nn.functional.cosine_similarity(*vectors, dim=0))


def speaker_similarity(case: Case) -> Count | None:
    """Similarity of the spoken answer to the voice of the sample; nothing said is -1; None: no voice is given."""
    given = case.sample.meta.get(PROMPT_AUDIO)
    voice = Path(given) if given else case.reference_speech
    if voice is None:
        return None
    spoken = case.speech
    if case.failure is not None or spoken is None:
        return Count(_LOWEST, 1.0)
    model = _model_name()
    judge = case.judgements.judge_of("transformers", f"xvector-{Path(model).name}")
    key = content_key(voice.read_bytes(), spoken.read_bytes())
    reply = case.judgements.obtain(judge, key, lambda: json.dumps(similarity(load(voice), load(spoken), model)))
    return Count(float(json.loads(reply)), 1.0)


def signature(case: Case) -> str:
    """The model's name."""
    return f"x-vector:{Path(_model_name()).name}"


def _model_name() -> str:
    return os.environ.get(MODEL_VARIABLE) or _DEFAULT


@lru_cache(maxsize=1)
def _speaker_model(model: str) -> tuple[Any, Any]:
    from transformers import AutoFeatureExtractor, WavLMForXVector

    try:
        extractor = AutoFeatureExtractor.from_pretrained(model, local_files_only=True)
        return extractor, WavLMForXVector.from_pretrained(model, local_files_only=True).eval()
    except OSError as error:
        raise NotMeasurable(
            f"speaker similarity needs the weights of a WavLM x-vector model, and {model} is not on this machine: "
            f"download it (hf download {_DEFAULT}), or give a folder as ${MODEL_VARIABLE}"
        ) from error
