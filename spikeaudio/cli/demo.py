"""What `spikeaudio demo` shows: sample clips to words, words to speech, that speech back to words, and a picture.

The clips lie in ``samples/`` with ``samples.json``, which says for each file what there is to find:

    {"digits.wav": "three five one",                                              the words spoken
     "clarinet.wav": {"question": "which instrument is this", "text": "clarinet"},   the answer to a question about it
     "question.wav": {"text": "what is two plus three", "answer": "five"}}        words, and the answer to them
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from spikeaudio.audio.files import load_audio, save_audio
from spikeaudio.audio.mel import kimi_log_mel
from spikeaudio.pipeline import SpikeAudio
from spikeaudio.speech.result import Speech

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
SENTENCE = "seven plus five is twelve"
_HEARING_HZ = 16000
_CODES_HZ = 12.5

Result = TypeVar("Result")


class DemoRow(NamedTuple):
    """One thing that was done."""

    clip: str
    text: str
    expected: str
    rtf: float  # seconds of work per second of sound
    path: Path


def run_demo(model: SpikeAudio, output: Path, samples: Path = SAMPLES) -> list[DemoRow]:
    """Run the model on the samples in both directions; write ``spoken.wav``, ``*-answer.wav`` and ``spoken.png``.

    Args:
        model: a checkpoint that hears and speaks.
        output: folder to write to, made if need be.
        samples: folder of clips with a ``samples.json``; other wav files in it are transcribed as well.

    Raises:
        ValueError: if the checkpoint lacks a part.
        OSError: if the folder cannot be written to.
    """
    output.mkdir(parents=True, exist_ok=True)
    rows: list[DemoRow] = []
    described = json.loads(path.read_text()) if (path := samples / "samples.json").is_file() else {}
    for clip in sorted(samples.glob("*.wav")):
        notes = described.get(clip.name, {})
        rows += _hear(model, clip, {"text": notes} if isinstance(notes, str) else notes, output)

    spoken = output / "spoken.wav"
    speech, seconds = _timed(lambda: model.speak(SENTENCE, spoken))
    lasts = len(speech.wav) / speech.sampling_rate
    rows.append(DemoRow("speak", speech.text, SENTENCE, seconds / lasts, spoken))
    text, seconds = _timed(lambda: model.transcribe(str(spoken)))
    rows.append(DemoRow("spoken.wav", str(text), SENTENCE, seconds / lasts, spoken))

    picture = output / "spoken.png"
    draw(speech, picture)
    rows.append(DemoRow("picture", "waveform, mel, codes", "", 0.0, picture))
    return rows


def _hear(model: SpikeAudio, clip: Path, notes: dict[str, str], output: Path) -> list[DemoRow]:
    """Rows of one sample clip: its words or the answer to a question about it, and the answer to what it asks."""
    lasts = len(load_audio(clip, _HEARING_HZ)) / _HEARING_HZ
    if "question" in notes:
        text, seconds = _timed(lambda: model.ask(str(clip), notes["question"]))
        name = f"{clip.name}: {notes['question']}?"
        return [DemoRow(name, text, notes.get("text", ""), seconds / lasts, clip)]
    words, seconds = _timed(lambda: model.transcribe(str(clip)))
    rows = [DemoRow(clip.name, str(words), notes.get("text", ""), seconds / lasts, clip)]
    if "answer" in notes:
        reply, seconds = _timed(lambda: model.chat(str(clip)))
        path = clip
        if reply.wav is not None and reply.sampling_rate is not None and len(reply.wav):
            path = output / f"{clip.stem}-answer.wav"
            save_audio(path, reply.wav, reply.sampling_rate)
            lasts = len(reply.wav) / reply.sampling_rate
        rows.append(DemoRow(f"{clip.name}: answer", reply.text, notes["answer"], seconds / lasts, path))
    return rows


def draw(speech: Speech, path: Path) -> None:
    """One PNG of a spoken text: waveform, log-mel and codes over the same seconds."""
    mel = kimi_log_mel(speech.wav[None], sampling_rate=speech.sampling_rate)[0]
    seconds = len(speech.wav) / speech.sampling_rate
    figure = Figure(figsize=(10, 7), layout="constrained")
    FigureCanvasAgg(figure)
    wave, spectrum, codes = figure.subplots(3, 1, sharex=True)
    wave.plot([index / speech.sampling_rate for index in range(len(speech.wav))], speech.wav.tolist(), linewidth=0.4)
    wave.set(title=f"“{speech.text}”", ylabel="waveform", xlim=(0, seconds), ylim=(-1, 1))
    spectrum.imshow(mel.numpy(), origin="lower", aspect="auto", extent=(0, seconds, 0, len(mel)), cmap="magma")
    spectrum.set(ylabel="mel bin (log-mel, 50 Hz)")
    ids = speech.codes.tolist()
    codes.stairs(ids, [index / _CODES_HZ for index in range(len(ids) + 1)], baseline=None)
    codes.set(ylabel=f"code ({_CODES_HZ} Hz)", xlabel="seconds")
    figure.savefig(path, dpi=120)


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start
