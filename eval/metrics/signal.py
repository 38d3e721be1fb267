"""What can be heard in a signal without knowing its words: DNSMOS, and STOI and PESQ where the right signal is known.

DNSMOS P.835 (Reddy et al., ICASSP 2022): overall quality from 1 to 5 as people would rate it, by the networks in the
package speechmos. STOI (Taal et al. 2011): 0 to 1, of a copy against its original; by pystoi. PESQ (ITU-T P.862.2, wide
band): 1 to 4.64, of the same pair, aligned in time; by the package pesq, which is compiled where it is installed.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.judges.judgements import content_key
from eval.metrics.case import Case
from eval.metrics.count import Count

SAMPLING_RATE = 16000
_WORST_MOS = 1.0
_WORST_PESQ = 1.0
_SHORTEST_PESQ = 0.25  # seconds, the package's own limit
_SHORTEST_STOI = 0.4  # seconds: 30 frames of speech, below which pystoi returns a constant


def dnsmos(wav: NDArray[np.float32]) -> dict[str, float]:
    """DNSMOS of one clip: "ovrl_mos", "sig_mos", "bak_mos" and "p808_mos".

    Args:
        wav: (N,) at 16 kHz; clipped to [-1, 1], which is all that the networks accept.

    Raises:
        ImportError: with the install hint, if speechmos or onnxruntime is missing.
    """
    try:
        from speechmos import dnsmos as networks
    except ImportError as error:
        raise ImportError("DNSMOS needs speechmos and onnxruntime: pip install spikeaudio[eval]") from error
    figures = networks.run(np.clip(wav, -1, 1), sr=SAMPLING_RATE)
    return {name: float(figures[name]) for name in ("ovrl_mos", "sig_mos", "bak_mos", "p808_mos")}


def stoi(clean: NDArray[np.float32], copy: NDArray[np.float32]) -> float:
    """Short-time objective intelligibility of a copy, 0 to 1; the longer signal is cut to the shorter one's length.

    Args:
        clean: (N,) at 16 kHz.
        copy: (M,) at 16 kHz.

    Raises:
        ValueError: less than 0.4 s in common.
        ImportError: with the install hint, if pystoi is missing.
    """
    try:
        from pystoi import stoi as measure
    except ImportError as error:
        raise ImportError("STOI needs pystoi: pip install spikeaudio[eval]") from error
    common = min(len(clean), len(copy))
    if common < _SHORTEST_STOI * SAMPLING_RATE:
        raise ValueError(f"STOI needs {_SHORTEST_STOI} s of both signals, got {common / SAMPLING_RATE:.2f} s")
    return float(np.clip(measure(clean[:common], copy[:common], SAMPLING_RATE), 0, 1))


def pesq(clean: NDArray[np.float32], copy: NDArray[np.float32]) -> float | None:
    """Wide-band PESQ of a copy, 1 to 4.64; None: no speech is found in one of the two.

    Args:
        clean: (N,) at 16 kHz.
        copy: (M,) at 16 kHz.

    Raises:
        ValueError: less than 0.25 s of one of them.
        ImportError: with the install hint, if pesq is missing.
    """
    try:
        from pesq import NoUtterancesError
        from pesq import pesq as measure
    except ImportError as error:
        raise ImportError("PESQ needs pesq, which needs a C compiler: pip install spikeaudio[pesq]") from error
    shortest = min(len(clean), len(copy))
    if shortest < _SHORTEST_PESQ * SAMPLING_RATE:
        raise ValueError(f"PESQ needs {_SHORTEST_PESQ} s of both signals, got {shortest / SAMPLING_RATE:.2f} s")
    if not clean.any() or not copy.any():  # which the package would divide by
        return None
    try:
        return float(measure(SAMPLING_RATE, clean, copy, "wb"))
    except NoUtterancesError:
        return None


def spoken_dnsmos(case: Case) -> Count:
    """Overall DNSMOS of the spoken answer; nothing said is the scale's lowest, 1."""
    path = case.speech
    if case.failure is not None or path is None:
        return Count(_WORST_MOS, 1.0)
    networks = case.judgements.judge_of("speechmos")
    reply = case.judgements.obtain(networks, content_key(path.read_bytes()), lambda: json.dumps(dnsmos(load(path))))
    figures = json.loads(reply)
    return Count(figures["ovrl_mos"], 1.0, figures)


def copy_stoi(case: Case) -> Count | None:
    """STOI of what was said against the sample's recording; 0 where nothing usable was said; None: no recording."""
    if case.reference_speech is None:
        return None
    if case.failure is not None or case.speech is None:
        return Count(0.0, 1.0)
    clean, copy = load(case.reference_speech), load(case.speech)
    if len(clean) < _SHORTEST_STOI * SAMPLING_RATE:
        return None
    return Count(stoi(clean, copy) if len(copy) >= _SHORTEST_STOI * SAMPLING_RATE else 0.0, 1.0)


def copy_pesq(case: Case) -> Count | None:
    """PESQ of what was said against the sample's recording; 1 where nothing usable was said; None: no recording."""
    if case.reference_speech is None:
        return None
    if case.failure is not None or case.speech is None:
        return Count(_WORST_PESQ, 1.0)
    clean, copy = load(case.reference_speech), load(case.speech)
    shortest = _SHORTEST_PESQ * SAMPLING_RATE
    if len(clean) < shortest or pesq(clean, clean) is None:
        return None
    figure = pesq(clean, copy) if len(copy) >= shortest else None
    return Count(_WORST_PESQ if figure is None else figure, 1.0)


def load(path: Path) -> NDArray[np.float32]:
    """A recording, (N,) at 16 kHz."""
    from spikeaudio.audio.files import load_audio

    return np.asarray(load_audio(path, SAMPLING_RATE), dtype=np.float32)
