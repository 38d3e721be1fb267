"""Choosing one id per row from logits: repetition penalty, temperature, top-k, and whose random numbers.

    z'[v] = z[v] * p if z[v] < 0 else z[v] / p     for each id v among the last w generated ids, once w are exceeded
    id    = argmax log_softmax(z')                  if temperature <= 1e-6
    id    ~ softmax over the k largest of log_softmax(z') / temperature   otherwise (k <= 0: over all)

Source: Kimi-Audio, ``kimia_infer/utils/sampler.py``. Forced ids (blanks) count as generated, as they do there.

Random numbers: a row draws exactly one uniform per step from a generator of its own, and inverts the cumulative
distribution. What a row gets therefore depends neither on the other rows of its batch nor on the device.
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

GREEDY_TEMPERATURE = 1e-6


def penalize_repetition(logits: Tensor, history: Tensor, penalty: float, window: int) -> Tensor:
    """Make ids among the last `window` of `history` less likely.

    Args:
        logits: (B, V), raw.
        history: (B, n), ids generated so far; nothing changes while n <= window.
        penalty: p > 1 lowers; p <= 1 changes nothing (as published).
        window: w >= 1, ids.

    Returns:
        (B, V); the input itself where nothing changes.
    """
    if penalty <= 1.0 or history.shape[1] <= window:
        return logits
    if window < 1:
        raise ValueError(f"a repetition window holds at least 1 id, got {window}")
    recent = history[:, -window:]
    score = logits.gather(1, recent)
    return logits.scatter(1, recent, torch.where(score < 0, score * penalty, score / penalty))


def uniforms(rows: int, generator: Generator | Sequence[Generator] | None, device: torch.device) -> Tensor:
    """One number in [0, 1) per row, (rows,) float64 on `device`; a sequence gives each row its own generator."""
    if generator is None or isinstance(generator, Generator):
        source = generator.device if generator is not None else torch.device("cpu")
        return torch.rand(rows, dtype=torch.float64, generator=generator, device=source).to(device)
    if len(generator) != rows:
        raise ValueError(f"need one generator per row: got {len(generator)} generators for {rows} rows")
    drawn = [torch.rand(1, dtype=torch.float64, generator=g, device=g.device).cpu() for g in generator]
    return torch.cat(drawn).to(device)


def draw(scores: Tensor, generator: Generator | Sequence[Generator] | None) -> Tensor:
    """Draw one index per row from softmax(scores). (B, K) -> (B,) long. -inf is never drawn."""
    mass = scores.double().softmax(dim=-1).cumsum(dim=-1)
    threshold = uniforms(scores.shape[0], generator, scores.device)[:, None] * mass[:, -1:]
    drawn = torch.searchsorted(mass, threshold, right=True).squeeze(1)
    return drawn.minimum((mass < mass[:, -1:]).sum(dim=1))  # a threshold rounded up to the total: the last likely one


def sample(
    logits: Tensor,
    history: Tensor,
    generator: Generator | Sequence[Generator] | None = None,
    temperature: float = 0.0,
    top_k: int = 5,
    repetition_penalty: float = 1.0,
    window: int = 64,
) -> Tensor:
    """Next id of every row.

    Args:
        logits: (B, V), raw; -inf for ids that must not come.
        history: (B, n) long, ids generated so far.
        generator: one for all rows, one per row, or None for torch's global one. Greedy choice draws nothing.
        temperature: <= 1e-6 is greedy.
        top_k: candidates kept; <= 0 keeps all.
        repetition_penalty: p of :func:`penalize_repetition`.
        window: w of :func:`penalize_repetition`, ids.

    Returns:
        (B,) long.
    """
    logits = penalize_repetition(logits, history, repetition_penalty, window)
    log_probs = logits.float().log_softmax(dim=-1)
    if temperature <= GREEDY_TEMPERATURE:
        return log_probs.argmax(dim=-1)
    scaled = log_probs / temperature
    if top_k <= 0 or top_k >= scaled.shape[-1]:
        return draw(scaled, generator)
    kept, ids = scaled.topk(top_k, dim=-1)
    return ids.gather(1, draw(kept, generator)[:, None]).squeeze(1)


def row_generators(
    generator: Generator | Sequence[Generator] | None, rows: int
) -> tuple[list[Generator], list[Generator]]:
    """Independent generators for the text and the audio stream of every row.

    Row b is seeded by the (2b, 2b + 1)-th number of a single `generator` (or of torch's global one), or by the first
    two of ``generator[b]``: batching leaves a row's draws as they are if it keeps its own generator.

    Returns:
        (text, audio), two lists of `rows` CPU generators.
    """
    if generator is None or isinstance(generator, Generator):
        source = [generator] * rows
    elif len(generator) == rows:
        source = list(generator)
    else:
        raise ValueError(f"need one generator per row: got {len(generator)} generators for {rows} rows")
    pairs: list[tuple[Generator, Generator]] = []
    for own in source:
        device = own.device if own is not None else torch.device("cpu")
        seeds = torch.randint(2**62, (2,), generator=own, device=device).tolist()
        pairs.append((Generator().manual_seed(seeds[0]), Generator().manual_seed(seeds[1])))
    return [text for text, _ in pairs], [audio for _, audio in pairs]
