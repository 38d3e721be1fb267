"""Clips without words: coloured noise of changing level, so that the model learns to write nothing for it."""

from pathlib import Path

import numpy as np
import soundfile

RATE = 16000


def noise(rng: np.random.Generator) -> np.ndarray:
    """0.5 to 5 s of noise, (N,) float32, RMS 0.06.

    Spectrum: a power law between white and brown inside a random band, with none to three hums on top. Level: constant,
    or swelling and fading up to three times a second, as wind, traffic and footsteps do.
    """
    samples = int(RATE * rng.uniform(0.5, 5.0))
    hertz = np.fft.rfftfreq(samples, 1 / RATE)
    low, high = rng.choice([0.0, rng.uniform(50, 1000)]), rng.choice([8000.0, rng.uniform(1500, 6000)])
    spectrum = np.fft.rfft(rng.standard_normal(samples)) * np.maximum(hertz, 60.0) ** -rng.uniform(0, 1)
    wav = np.fft.irfft(spectrum * ((hertz >= low) & (hertz <= high)), samples)
    wav /= np.sqrt((wav**2).mean())
    seconds = np.arange(samples) / RATE
    for _ in range(rng.integers(0, 4)):
        wav += rng.uniform(0.1, 1.0) * np.sin(2 * np.pi * (rng.uniform(50, 2000) * seconds + rng.random()))
    if rng.random() < 0.5:
        wav *= np.exp(rng.uniform(0.5, 2.0) * np.sin(2 * np.pi * (rng.uniform(0.2, 3.0) * seconds + rng.random())))
    return (wav * (0.06 / np.sqrt((wav**2).mean()))).astype(np.float32)


def noise_rows(folder: Path, count: int) -> list[dict]:
    """Write `count` clips into `folder`; every ninth one is held out."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(count):
        path = folder / f"noise_{i}.wav"
        soundfile.write(path, noise(np.random.default_rng((5, i))), RATE, subtype="PCM_16")
        rows.append(
            {
                "id": f"noise_{i}",
                "text": "",
                "voice": "noise",
                "kind": "noise",
                "split": "test" if i % 9 == 0 else "train",
                "file": str(path),
            }
        )
    return rows
