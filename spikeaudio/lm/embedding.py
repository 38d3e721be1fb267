"""Input of the two-stream model: both streams' embeddings, fused with continuous audio features.

At every position t, with one embedding table E for text ids X and audio ids A, and M the positions of
heard audio codes, whose features are f:

    e[t] = E[A[t]]                                 where not M[t]
    e[t] = (E[A[t]] + adaptor(f[t])) * sqrt(2)     where M[t]
    e[t] = e[t] + E[X[t]]                          everywhere, blanks included

sqrt(2) is taken in the working dtype (1.4140625 in bf16). Source: Kimi-Audio, ``modeling_kimia.py``,
``MoonshotKimiaModel.forward`` and ``VQAdaptor``. It differs in one way: the published code lays the features
of the whole prompt out in one (T, D) buffer without a batch axis, so it takes one row only. Here each row has
its own features, and the adaptor runs on the feature positions alone (it is position-wise).
"""

import math

import torch
from torch import Tensor, nn


class FeatureAdaptor(nn.Module):
    """Map continuous features to the model's width: Linear, SiLU, Linear, LayerNorm.

    Args:
        feature_dim: channels of one feature.
        hidden_size: channels of the language model.
        eps: eps of the layer norm; the published model uses its config's ``rms_norm_eps``, not PyTorch's default.

    Shape:
        features: (..., feature_dim)
        return: (..., hidden_size), dtype of the adaptor's weights.
    """

    def __init__(self, feature_dim: int, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.in_proj = nn.Linear(feature_dim, hidden_size)
        self.out_proj = nn.Linear(hidden_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=eps)

    def forward(self, features: Tensor) -> Tensor:
        features = features.to(self.in_proj.weight.dtype)
        return self.norm(self.out_proj(nn.functional.silu(self.in_proj(features))))


def fuse_features(audio_embeds: Tensor, adapted: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
    """Put ``(e + w) * sqrt(2)`` at the feature positions and leave the others as they are.

    Args:
        audio_embeds: (B, T, D), E[A].
        adapted: (N, D), adaptor output of the N feature positions of the batch.
        rows: (N,) long, the row of each.
        positions: (N,) long, the position of each in its row.

    Returns:
        (B, T, D), a new tensor.
    """
    sqrt2 = torch.tensor(math.sqrt(2.0), dtype=audio_embeds.dtype, device=audio_embeds.device)
    fused = (audio_embeds[rows, positions] + adapted.to(audio_embeds.dtype)) * sqrt2
    return audio_embeds.index_put((rows, positions), fused)


def gather_features(features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pair features with their positions: the k-th True of row b gets ``features[b, k]``.

    Args:
        features: (B, S, D), right-padded per row; S is the largest number of positions in any row (a batch without
            any position may bring padding of any length).
        mask: (B, T) bool, True at the positions that have a feature.

    Returns:
        features (N, D), rows (N,), positions (N,), in reading order.

    Raises:
        ValueError: the mask does not have room for exactly S features in its fullest row.
    """
    counts = mask.sum(dim=1)
    fullest = int(counts.max()) if counts.numel() else 0
    if fullest not in (0, features.shape[1]):
        raise ValueError(
            f"audio_features holds {features.shape[1]} features per row, but audio_feature_mask marks {fullest} "
            f"positions in its fullest row; the two numbers must be equal"
        )
    rows, positions = mask.nonzero(as_tuple=True)
    nth = mask.long().cumsum(dim=1)[rows, positions] - 1
    return features[rows, nth], rows, positions
