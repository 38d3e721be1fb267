"""Vector quantization: the nearest row of a codebook, and how the rows are learnt.

Inference, exactly as published (no normalisation, fp32, the first row wins ties):

    code(x) = argmin_k |c_k|^2 + |x|^2 - 2 x.c_k

Training: row k is the moving average of the vectors assigned to it (van den Oord et al. 2017, appendix A.1),

    n_k <- d n_k + (1 - d) count_k,    m_k <- d m_k + (1 - d) sum_k,    c_k = m_k / smoothed(n_k)

with Laplace smoothing smoothed(n) = (n + eps) / (N + K eps) * N, N = sum n. Two measures keep a codebook from
collapsing. The first `warmup_steps` train the network without quantization; then k-means over a reservoir of real
hidden states sets all rows at once, so that every row starts where data is. Later, every `restart_interval` steps, a
row that received less than `dead_share` of its fair share is moved onto a random vector of the reservoir.

The published checkpoint carries the training buffers (``ema_count``, ``ema_weight``) inside the encoder. Here they live
in `CodebookTrainer`, next to the optimizer, so that a tokenizer in use holds weights only.
"""

import torch
from torch import Tensor, distributed, nn


class Codebook(nn.Module):
    """K vectors of D dimensions. The rows are a parameter without gradient: they learn by moving averages.

    Args:
        num_codes: K.
        dim: D.
    """

    def __init__(self, num_codes: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_codes, dim) * 0.02, requires_grad=False)

    def nearest(self, features: Tensor) -> Tensor:
        """Index of the nearest row. (..., D), any float dtype -> (...,) long."""
        rows = self.weight.float()
        flat = features.reshape(-1, features.shape[-1]).float()
        products = flat @ rows.T  # (N, K)
        distances = rows.square().sum(-1) + flat.square().sum(-1, keepdim=True) - 2 * products
        return distances.argmin(-1).reshape(features.shape[:-1])

    def forward(self, codes: Tensor) -> Tensor:
        """Rows of the codes. (...) long -> (..., D)."""
        return nn.functional.embedding(codes, self.weight)


class CodebookTrainer(nn.Module):
    """The state that trains a codebook: moving averages, a reservoir of recent vectors, a step counter.

    All of it lies in buffers, so saving and loading the state dict resumes training exactly. With several processes
    (``torch.distributed``) counts and sums are those of all of them, and rank 0 says where rows start and restart; the
    reservoirs differ, so buffers must not be broadcast.

    Args:
        num_codes: K.
        dim: D.
        decay: d of the moving averages.
        restart_interval: updates between restarts of unused rows.
        warmup_steps: updates that only fill the reservoir; the last of them runs k-means.
        reservoir_size: vectors kept, at least K of them real when the warm-up ends.
        dead_share: a row is unused if its average count is below this share of N / K.
    """

    steps: Tensor
    seen: Tensor
    count: Tensor
    total: Tensor
    reservoir: Tensor

    def __init__(
        self,
        num_codes: int,
        dim: int,
        decay: float = 0.99,
        restart_interval: int = 100,
        warmup_steps: int = 0,
        reservoir_size: int = 16384,
        dead_share: float = 0.05,
    ) -> None:
        super().__init__()
        if reservoir_size < num_codes:
            raise ValueError(f"reservoir_size must be at least num_codes = {num_codes}, got {reservoir_size}")
        self.decay = decay
        self.restart_interval = restart_interval
        self.warmup_steps = warmup_steps
        self.dead_share = dead_share
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.register_buffer("count", torch.ones(num_codes))
        self.register_buffer("total", torch.zeros(num_codes, dim))
        self.register_buffer("reservoir", torch.zeros(reservoir_size, dim))

    @property
    def ready(self) -> bool:
        """Whether the warm-up is over and codes mean something."""
        return int(self.steps) > self.warmup_steps

    @torch.no_grad()
    def update(self, codebook: Codebook, features: Tensor, codes: Tensor) -> None:
        """Learn from one batch.

        Args:
            codebook: changed in place.
            features: (N, D), the vectors that were quantized, without padding.
            codes: (N,) long, their nearest rows; unused during the warm-up.

        Raises:
            ValueError: if the warm-up ends before the reservoir holds one vector per row.
        """
        features = features.detach().float()
        self._remember(features)
        self.steps += 1
        step = int(self.steps)
        if step <= self.warmup_steps:
            return
        if step == self.warmup_steps + 1:
            self._initialise(codebook)
            self._share(codebook.weight)
            return
        num_codes = codebook.weight.shape[0]
        counts = torch.bincount(codes, minlength=num_codes).float()
        sums = torch.zeros_like(self.total).index_add_(0, codes, features)
        if distributed.is_initialized():
            distributed.all_reduce(counts)
            distributed.all_reduce(sums)
        self.count.lerp_(counts, 1 - self.decay)
        self.total.lerp_(sums, 1 - self.decay)
        if step % self.restart_interval == 0:
            self._restart()
            self._share()
        mass = self.count.sum()
        smoothed = (self.count + 1e-5) / (mass + num_codes * 1e-5) * mass
        codebook.weight.copy_(self.total / smoothed.unsqueeze(-1))

    def _share(self, *others: Tensor) -> None:
        """Give every process the averages (and `others`) of rank 0."""
        if distributed.is_initialized():
            for tensor in (self.count, self.total, *others):
                distributed.broadcast(tensor, src=0)

    def _remember(self, features: Tensor) -> None:
        """Write the batch over the oldest vectors of the reservoir (a ring)."""
        size = self.reservoir.shape[0]
        features = features[-size:]
        slots = (int(self.seen) + torch.arange(len(features), device=features.device)) % size
        self.reservoir[slots] = features
        self.seen += len(features)

    def _generator(self) -> torch.Generator:
        """Random numbers of this step: the same ones after a resume."""
        return torch.Generator().manual_seed(int(self.steps))

    def _initialise(self, codebook: Codebook, iterations: int = 10) -> None:
        """Set all rows by k-means over the reservoir."""
        num_codes, filled = codebook.weight.shape[0], min(int(self.seen), self.reservoir.shape[0])
        if filled < num_codes:
            raise ValueError(
                f"{filled} vectors seen in {self.warmup_steps} warm-up steps, {num_codes} codes need as many"
            )
        data = self.reservoir[:filled]
        codebook.weight.copy_(data[torch.randperm(filled, generator=self._generator())[:num_codes].to(data.device)])
        for _ in range(iterations):
            codes = codebook.nearest(data)
            counts = torch.bincount(codes, minlength=num_codes).float().unsqueeze(-1)
            sums = torch.zeros_like(self.total).index_add_(0, codes, data)
            codebook.weight.copy_(torch.where(counts > 0, sums / counts.clamp_min(1), codebook.weight))
        # As if the reservoir had been the average so far, in units of one row's fair share per batch.
        counts = torch.bincount(codebook.nearest(data), minlength=num_codes).float() * num_codes / filled
        self.count.copy_(counts)
        self.total.copy_(codebook.weight * counts.unsqueeze(-1))

    def _restart(self) -> None:
        """Move unused rows onto random vectors of the reservoir, with an average row's count."""
        fair = self.count.mean()
        dead = (self.count < self.dead_share * fair).nonzero().squeeze(-1)
        filled = min(int(self.seen), self.reservoir.shape[0])
        picks = torch.randperm(filled, generator=self._generator())[: len(dead)].to(dead.device)
        self.count[dead] = fair
        self.total[dead] = self.reservoir[picks] * fair


def perplexity(codes: Tensor, num_codes: int) -> Tensor:
    """exp of the entropy of the code histogram: how many codes are in even use. (N,) long -> (), in [1, K]."""
    shares = torch.bincount(codes, minlength=num_codes).float()
    shares = shares / shares.sum().clamp_min(1)
    return (-(shares * shares.clamp_min(1e-10).log()).sum()).exp()
