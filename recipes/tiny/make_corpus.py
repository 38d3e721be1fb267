"""Stage 1: synthesise the training corpus with freely licensed engines and pack it beside the real recordings.

    python recipes/tiny/make_corpus.py --data DIR --corpus OUT [--scale 1.0] [--music-clips N]

Needs (Debian): flite, espeak-ng, festival + festvox-kdlpc16k, fluidsynth + fluid-soundfont-gm, wordnet-base; from the
non-free component libttspico-utils and RHVoice (recipes/tiny/install_engines.sh gets all of them). `--data` is a folder
with `fsdd/`, `ljspeech_subset/` as published at github.com/Jakobovski/free-spoken-digit-dataset and
keithito.com/LJ-Speech-Dataset.

Every utterance is one job with its own seed and its own file, so a killed run goes on where it stopped. Audio is
trimmed, set to an RMS of 0.06 and packed into two flat int16 arrays (16 kHz for listening, 24 kHz for the model's own
voice) with a manifest beside them.
"""

import argparse
import collections
import csv
import hashlib
import json
import random
import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import soxr
from music import music_rows
from noise import noise_rows
from questions import facts
from tqdm import tqdm

TTS_VOICE = (
    "rh_bdl"  # the model's own voice: RHVoice "bdl", the clearest of the free ones by pocketsphinx word error rate
)
# weight, lowest and highest speaking rate and pitch in percent
VOICES = {
    "rh_bdl": (2.0, 85, 120, 92, 110),
    "rh_clb": (2.0, 85, 120, 92, 110),
    "rh_slt": (2.0, 85, 120, 92, 110),
    "rh_alan": (1.5, 85, 120, 92, 110),
    "pico_en-US": (1.0, 85, 120, 90, 115),
    "pico_en-GB": (1.0, 85, 120, 90, 115),
    "flite_slt": (1.0, 85, 120, 100, 100),
    "flite_awb": (0.7, 85, 120, 100, 100),
    "flite_kal16": (0.7, 85, 120, 100, 100),
    "espeak_en-us": (0.4, 85, 110, 90, 110),
    "espeak_en-us+f3": (0.4, 85, 110, 90, 110),
}
STRANGERS = {  # a few clips of each: voices the model hears too seldom to learn by heart, so that it minds them less
    "festival_ked_diphone": (1.0, 85, 120, 100, 100),
    "espeak_en-gb": (1.0, 85, 110, 90, 110),
    "espeak_en-us+m3": (0.5, 85, 110, 80, 100),
    "espeak_en-us+f2": (0.5, 85, 110, 90, 120),
}
STRANGERS_SHARE = {"question": 0.5, "open": 0.1}  # of the training sentences said by one of them as well
UNHEARD_VOICES = 4  # of every open sentence that is neither trained nor tested on: a spiking student's lessons
HELD_OUT_VOICE = "flite_rms"  # never in training: how the recogniser does on a stranger
BLOCKED = {
    "killed",
    "kill",
    "murder",
    "shot",
    "rape",
    "sex",
    "damn",
    "hell",
    "gun",
    "bitch",
    "negro",
    "slave",
    "bastard",
    "whore",
    "bloody",
}
VOCABULARY_WORDS = 1500


def synthesise(text: str, voice: str, rate: int, pitch: int, path: Path) -> None:
    """Run one engine once: text -> wav at the engine's own rate."""
    engine, name = voice.split("_", 1)
    if engine == "rh":
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as source:
            source.write(text + "\n")
            source.flush()
            command = ["rhvoice", "-p", name, "-i", source.name, "-o", str(path), "-r", str(rate), "-t", str(pitch)]
            subprocess.run(command, check=True, capture_output=True)
        return
    if engine == "pico":
        command = [
            "pico2wave",
            "-l",
            name,
            "-w",
            str(path),
            f'<speed level="{rate}"><pitch level="{pitch}">{text}</pitch></speed>',
        ]
    elif engine == "flite":
        command = ["flite", "-voice", name, "--setf", f"duration_stretch={100 / rate:.3f}", "-t", text, "-o", str(path)]
    elif engine == "espeak":
        command = [
            "espeak-ng",
            "-v",
            name,
            "-s",
            str(int(1.6 * rate)),
            "-p",
            str(min(99, pitch // 2)),
            "-w",
            str(path),
            text,
        ]
    elif engine == "festival":
        stretch = f"(Parameter.set 'Duration_Stretch {100 / rate:.3f})"
        command = ["text2wave", "-eval", f"(begin (voice_{name}) {stretch})", "-o", str(path)]
        subprocess.run(command, input=text.encode(), check=True, capture_output=True)
        return
    else:
        raise ValueError(f"unknown engine in voice {voice!r}")
    subprocess.run(command, check=True, capture_output=True)


def trimmed(wav: np.ndarray, rate: int, keep_seconds: float = 0.05) -> np.ndarray:
    """Cut leading and trailing silence (40 dB under the loudest 20 ms), set the RMS to 0.06."""
    frame = rate // 50
    power = (wav[: len(wav) // frame * frame].reshape(-1, frame) ** 2).mean(1)
    loud = np.flatnonzero(power > power.max() * 1e-4)
    keep = int(keep_seconds * rate)
    wav = wav[max(0, loud[0] * frame - keep) : (loud[-1] + 1) * frame + keep]
    return wav * (0.06 / (np.sqrt((wav**2).mean()) + 1e-9))


def open_sentences(wordnet: Path, lj_metadata: Path) -> list[str]:
    """Sentences of 3-12 words over the 1,500 commonest words of WordNet's examples and LJ Speech's texts."""

    def clean(text: str) -> str | None:
        text = re.sub(r"\s+", " ", re.sub(r"[,;:.?!\"()]", " ", text.lower().replace("\u2019", "'"))).strip()
        return text if re.fullmatch(r"[a-z' ]+", text) else None

    examples = []
    for part in ("adj", "adv", "noun", "verb"):
        for line in (wordnet / f"data.{part}").read_text().splitlines():
            if not line.startswith("  "):
                examples += re.findall(r'"([^"]+)"', line.split("|", 1)[1])
    with lj_metadata.open() as file:
        for row in csv.reader(file, delimiter="|", quoting=csv.QUOTE_NONE):
            examples += re.split(r"[,;:.?!()\"]| -- ", row[2])
    sentences = [text for text in map(clean, examples) if text]
    counts = collections.Counter(word for text in sentences for word in text.split())
    for letter in "bcdefghjklmnpqrstuvwxyz":  # single letters are remains of abbreviations
        counts.pop(letter, None)
    words = {word for word, _ in counts.most_common(VOCABULARY_WORDS)} - BLOCKED
    return sorted({t for t in sentences if 3 <= len(t.split()) <= 12 and all(w in words for w in t.split())})


def speech_jobs(sentences: list[str], scale: float) -> list[dict]:
    """Every utterance to synthesise: id, text, voice, rate, pitch, kind, split (and domain, answer of a question)."""
    rng = random.Random(0)
    names, weights = list(VOICES), [v[0] for v in VOICES.values()]
    jobs: list[dict] = []

    def job(text: str, kind: str, voice: str | None = None, split: str = "train", plain: bool = False, **extra) -> None:
        voice = voice or rng.choices(names, weights)[0]
        _, low, high, flat, sharp = (VOICES | STRANGERS).get(voice, (1, 90, 110, 100, 100))
        rate, pitch = (100, 100) if plain else (rng.randint(low, high), rng.randint(flat, sharp))
        key = f"{split}|{kind}|{text}|{voice}|{rate}|{pitch}"
        row = {
            "id": hashlib.sha1(key.encode()).hexdigest()[:16],
            "text": text,
            "voice": voice,
            "rate": rate,
            "pitch": pitch,
            "kind": kind,
            "split": split,
        }
        jobs.append(row | extra)

    others = [name for name in names if name != TTS_VOICE]
    other_weights = [VOICES[name][0] for name in others]
    for fact in facts():
        rare = fact.domain not in ("add", "sub", "mul", "next", "compare")
        # six answers in a hundred are never spoken to the model: they measure synthesis of unseen sentences
        test_answer = rng.random() < 0.06
        job(fact.answer, "answer", TTS_VOICE, "test" if test_answer else "train", plain=True, domain=fact.domain)
        for question in fact.questions:
            extra = {"domain": fact.domain, "answer": fact.answer}
            job(question, "question", TTS_VOICE, plain=True, **extra)
            for _ in range(max(1, round(scale * (4 if rare else 2)))):
                job(question, "question", rng.choices(others, other_weights)[0], **extra)
            if rng.random() < (0.4 if rare else 0.12):
                job(question, "question", None, "test", **extra)
            if rng.random() < 0.05:
                job(question, "question", HELD_OUT_VOICE, "test", **extra)
    shuffled = sentences[:]
    rng.shuffle(shuffled)
    test, train = shuffled[:200], shuffled[200 : 200 + round(5000 * scale)]
    for i, text in enumerate(train):
        job(text, "open", rng.choices(others, other_weights)[0])
        if i < 2200 * scale:
            job(text, "open", TTS_VOICE, plain=True)
        elif i < 3700 * scale:
            job(text, "open", rng.choices(names, weights)[0])
    for i, text in enumerate(test):
        job(text, "open", None if i < 150 else TTS_VOICE, "test", plain=i >= 150)
        if i < 50:
            job(text, "open", HELD_OUT_VOICE, "test")
    strangers, stranger_weights = list(STRANGERS), [voice[0] for voice in STRANGERS.values()]
    for kind, share in STRANGERS_SHARE.items():
        said = [row for row in jobs if row["kind"] == kind and row["split"] == "train"]
        for row in list({row["text"]: row for row in said}.values()):
            if rng.random() < share * scale:
                extra = {key: row[key] for key in ("domain", "answer") if key in row}
                job(row["text"], kind, rng.choices(strangers, stranger_weights)[0], **extra)
    for text in shuffled[200 + round(5000 * scale) :][: round(1000 * scale)]:
        for _ in range(UNHEARD_VOICES):
            job(text, "open", rng.choices(others, other_weights)[0], "unheard")
    return list({row["id"]: row for row in jobs}.values())


def run_jobs(jobs: list[dict], folder: Path, workers: int) -> list[dict]:
    """Synthesise what is not there yet; a job whose engine fails is left out and counted."""
    folder.mkdir(parents=True, exist_ok=True)

    def one(row: dict) -> dict | None:
        path = folder / f"{row['id']}.wav"
        if not path.exists():
            part = path.with_suffix(".part.wav")
            try:
                synthesise(row["text"], row["voice"], row["rate"], row["pitch"], part)
                wav, rate = soundfile.read(part, dtype="float32")
                if wav.ndim != 1 or len(wav) < rate // 4:
                    raise ValueError("no speech came out")
                soundfile.write(part, trimmed(wav, rate), rate, subtype="PCM_16")
            except (subprocess.CalledProcessError, soundfile.LibsndfileError, ValueError, IndexError):
                part.unlink(missing_ok=True)
                return None
            part.rename(path)
        return row

    with ThreadPoolExecutor(workers) as pool:
        rows = list(tqdm(pool.map(one, jobs), total=len(jobs), desc="synthesis", unit="utt", mininterval=5))
    failed = sum(row is None for row in rows)
    if failed:
        print(f"{failed} of {len(jobs)} utterances could not be synthesised and are left out")
    return [row for row in rows if row is not None]


def real_rows(data: Path) -> list[dict]:
    """FSDD digits (published split: takes 0-4 are the test set) and the LJ Speech subset."""
    rows = []
    digits = "zero one two three four five six seven eight nine".split()
    for path in sorted((data / "fsdd" / "recordings").glob("*.wav")):
        digit, speaker, take = path.stem.split("_")
        split = "test" if int(take) < 5 else "train"
        rows.append(
            {
                "id": f"fsdd_{path.stem}",
                "text": digits[int(digit)],
                "voice": f"fsdd_{speaker}",
                "speaker": speaker,
                "take": int(take),
                "kind": "digit",
                "split": split,
                "file": str(path),
            }
        )
    with (data / "ljspeech_subset" / "metadata.csv").open() as file:
        texts = {row[0]: row[2] for row in csv.reader(file, delimiter="|", quoting=csv.QUOTE_NONE)}
    for i, path in enumerate(sorted((data / "ljspeech_subset" / "audio").glob("*.flac"))):
        text = re.sub(r"\s+", " ", re.sub(r"[^a-z' ]", " ", texts[path.stem].lower())).strip()
        rows.append(
            {
                "id": path.stem,
                "text": text,
                "voice": "lj",
                "kind": "open",
                "split": "test" if i % 14 == 0 else "train",
                "file": str(path),
            }
        )
    return rows


def pack(rows: list[dict], folder: Path, out: Path) -> None:
    """Write manifest.jsonl, audio_16k.npy and (for the model's own voice) audio_24k.npy."""
    streams: dict[int, list[np.ndarray]] = {16000: [], 24000: []}
    lengths = {16000: 0, 24000: 0}
    done = []
    for row in tqdm(rows, desc="packing", unit="utt", mininterval=5):
        path = Path(row.pop("file", None) or folder / f"{row['id']}.wav")
        wav, rate = soundfile.read(path, dtype="float32")
        wav = trimmed(wav, rate) if row["kind"] == "digit" else wav * (0.06 / (np.sqrt((wav**2).mean()) + 1e-9))
        row = {key: value for key, value in row.items() if key not in ("rate", "pitch")}
        for target, name in ((16000, "16k"), (24000, "24k")):
            if target == 24000 and not (row["voice"] == TTS_VOICE and rate == 24000):
                continue
            new = wav if rate == target else soxr.resample(wav, rate, target)
            pcm = np.clip(np.round(new * 32767), -32768, 32767).astype(np.int16)
            row |= {f"start_{name}": lengths[target], f"samples_{name}": len(pcm)}
            streams[target].append(pcm)
            lengths[target] += len(pcm)
        row["seconds"] = round(row["samples_16k"] / 16000, 3)
        done.append(row)
    out.mkdir(parents=True, exist_ok=True)
    for target, name in ((16000, "16k"), (24000, "24k")):
        np.save(out / f"audio_{name}.npy", np.concatenate(streams[target]))
    (out / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in done))
    for kind in sorted({row["kind"] for row in done}):
        for split in ("train", "test", "unheard"):
            chosen = [row["seconds"] for row in done if (row["kind"], row["split"]) == (kind, split)]
            print(f"{kind:9s} {split:5s} {len(chosen):6d} clips {sum(chosen) / 3600:6.2f} h")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with fsdd/ and ljspeech_subset/")
    parser.add_argument("--corpus", type=Path, required=True, help="output folder")
    parser.add_argument(
        "--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="folder with WordNet's data.* files"
    )
    parser.add_argument("--soundfont", type=Path, default=Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"))
    parser.add_argument("--scale", type=float, default=1.0, help="share of the sentences to synthesise")
    parser.add_argument("--music-clips", type=int, default=9000)
    parser.add_argument("--noise-clips", type=int, default=720)
    parser.add_argument("--workers", type=int, default=4)
    args = parser.parse_args()
    sentences = open_sentences(args.wordnet, args.data / "ljspeech_subset" / "metadata.csv")
    jobs = speech_jobs(sentences, args.scale)
    print(f"{len(sentences)} open sentences, {len(facts())} facts, {len(jobs)} utterances to synthesise")
    rows = run_jobs(jobs, args.corpus / "raw", args.workers)
    rows += music_rows(args.corpus / "music", args.soundfont, args.music_clips)
    rows += real_rows(args.data) + noise_rows(args.corpus / "noise", args.noise_clips)
    rows.sort(key=lambda row: row["split"] == "unheard")  # last: renderings are seeded by where a clip begins
    pack(rows, args.corpus / "raw", args.corpus)


if __name__ == "__main__":
    main()
