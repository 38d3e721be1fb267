"""Instrument clips for audio question answering: eight instruments, one to six notes, fast or slow.

Clips are written into one long MIDI file (a slot of 8 s each) which fluidsynth renders in one go, then cut apart.
"""

import random
import subprocess
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

INSTRUMENTS = {
    "piano": 0,
    "guitar": 25,
    "violin": 40,
    "trumpet": 56,
    "flute": 73,
    "organ": 19,
    "xylophone": 13,
    "harmonica": 22,
}  # General MIDI programs
SLOT_SECONDS, RATE, CLIPS_PER_FILE = 8.0, 16000, 300


def clip_notes(rng: random.Random) -> dict:
    """Draw one clip: instrument, tempo, and (onset, duration, pitch, velocity) of every note, in seconds."""
    tempo = rng.choice(["fast", "slow"])
    step = rng.uniform(0.22, 0.34) if tempo == "fast" else rng.uniform(0.6, 0.85)
    count = rng.randint(1, 6)
    onset, notes, pitch = 0.1, [], rng.randint(55, 79)
    for _ in range(count):
        notes.append((onset, step * rng.uniform(0.7, 0.95), pitch, rng.randint(70, 120)))
        onset += step * rng.uniform(0.95, 1.05)
        pitch = min(
            84, max(52, pitch + rng.choice([-7, -5, -4, -3, -2, 2, 3, 4, 5, 7]))
        )  # a new pitch: every note can be heard as one
    return {"instrument": rng.choice(list(INSTRUMENTS)), "tempo": tempo, "notes": notes}


def write_midi(clips: list[dict], path: Path) -> None:
    """One track, 1000 ticks per second, clip i in [8 i, 8 i + 8) seconds."""
    import mido  # of the extra `corpus`: nothing else here needs it

    events = []
    for i, clip in enumerate(clips):
        start = SLOT_SECONDS * i
        events.append((start, mido.Message("program_change", program=INSTRUMENTS[clip["instrument"]])))
        for onset, duration, pitch, velocity in clip["notes"]:
            events.append((start + onset, mido.Message("note_on", note=pitch, velocity=velocity)))
            events.append((start + onset + duration, mido.Message("note_off", note=pitch)))
    file, track, now = mido.MidiFile(ticks_per_beat=500), mido.MidiTrack(), 0
    file.tracks.append(track)
    track.append(mido.MetaMessage("set_tempo", tempo=500_000))
    for seconds, message in sorted(events, key=lambda event: event[0]):
        tick = round(seconds * 1000)
        track.append(message.copy(time=tick - now))
        now = tick
    file.save(path)


def music_rows(folder: Path, soundfont: Path, count: int) -> list[dict]:
    """Render `count` clips into `folder`; every ninth one is held out."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(1)
    clips = [clip_notes(rng) for _ in range(count)]
    rows = []
    for first in tqdm(range(0, count, CLIPS_PER_FILE), desc="music", unit="file"):
        part = clips[first : first + CLIPS_PER_FILE]
        wav_path = folder / f"part_{first}.wav"
        if not wav_path.exists():
            midi, raw = folder / f"part_{first}.mid", folder / f"raw_{first}.wav"
            write_midi(part, midi)
            subprocess.run(
                [
                    "fluidsynth",
                    "-ni",
                    "-R",
                    "0",
                    "-C",
                    "0",
                    "-g",
                    "0.8",
                    "-r",
                    str(RATE),
                    "-F",
                    str(raw),
                    str(soundfont),
                    str(midi),
                ],
                check=True,
                capture_output=True,
            )
            raw.rename(wav_path)
        audio = soundfile.read(wav_path, dtype="float32")[0].mean(1)
        for i, clip in enumerate(part):
            start = int(SLOT_SECONDS * i * RATE)
            end = start + int((clip["notes"][-1][0] + clip["notes"][-1][1] + 0.3) * RATE)
            path = folder / f"clip_{first + i}.wav"
            wav = audio[start:end]
            soundfile.write(path, wav * (0.06 / (np.sqrt((wav**2).mean()) + 1e-9)), RATE, subtype="PCM_16")
            symbol = list(INSTRUMENTS).index(clip["instrument"])
            rows.append(
                {
                    "id": f"music_{first + i}",
                    "text": "",
                    "voice": "fluid",
                    "kind": "music",
                    "split": "test" if (first + i) % 9 == 0 else "train",
                    "file": str(path),
                    "instrument": clip["instrument"],
                    "tempo": clip["tempo"],
                    "count": len(clip["notes"]),
                    "symbols": [symbol] * len(clip["notes"]),
                }
            )
    return rows
