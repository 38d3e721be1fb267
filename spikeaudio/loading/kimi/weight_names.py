"""What every published weight is called here: one table per source.

A rule says how a name begins there and here; ``*`` stands for a number. What no rule fits and no pattern of leftovers
knows is an error, and so is a weight of ours that no file brings.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

_LISTED = 8  # names in a message

Value = TypeVar("Value")


@dataclass(frozen=True)
class WeightNames:
    """Names of one source.

    Attributes:
        rules: beginning of a published name -> of ours.
        leftovers: patterns, searched for, of published names that are nobody's weights.
    """

    rules: Mapping[str, str]
    leftovers: tuple[str, ...] = ()

    def ours(self, name: str) -> str | None:
        """Our name of a published weight; None: no rule fits."""
        return _renamed(name, self.rules.items())

    def published(self, name: str) -> str | None:
        """The published name of a weight of ours; None: no rule fits."""
        return _renamed(name, ((ours, theirs) for theirs, ours in self.rules.items()))

    def wanted(self, names: Iterable[str]) -> list[str]:
        """Those of the published `names` that are not leftovers."""
        return [name for name in names if not any(re.search(pattern, name) for pattern in self.leftovers)]

    def rename(self, weights: Mapping[str, Value], source: Path) -> dict[str, Value]:
        """`weights` under our names, without leftovers.

        Raises:
            ValueError: a name that no rule fits.
        """
        renamed = {name: self.ours(name) for name in self.wanted(weights)}
        if unknown := [name for name, ours in renamed.items() if ours is None]:
            raise ValueError(f"{source} holds weights that have no place in the model: {listed(unknown)}")
        return {ours: weights[name] for name, ours in renamed.items() if ours is not None}

    def check(self, weights: Mapping[str, Tensor], model: nn.Module, source: Path) -> None:
        """Raise ValueError unless `weights`, renamed, are those of `model` (on the meta device): names and shapes."""
        expected = model.state_dict()
        said = {
            "missing": expected.keys() - weights.keys(),
            "left over": weights.keys() - expected.keys(),
            "of another shape than its configuration says": {
                name for name in expected.keys() & weights.keys() if expected[name].shape != weights[name].shape
            },
        }
        wrong = [
            f"{what}: {listed(self.published(name) or name for name in names)}" for what, names in said.items() if names
        ]
        if wrong:
            raise ValueError(f"the weights in {source} do not fit: {'; '.join(wrong)}")


def listed(names: Iterable[str]) -> str:
    """The first of `names`, and how many more there are."""
    ordered = sorted(names)
    more = len(ordered) - _LISTED
    return ", ".join(ordered[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _renamed(name: str, rules: Iterable[tuple[str, str]]) -> str | None:
    for beginning, replacement in rules:
        pattern = re.escape(beginning).replace(r"\*", r"(\d+)")
        if match := re.match(pattern, name):
            start = replacement.replace("*", match[1]) if match.groups() else replacement
            return start + name[match.end() :]
    return None


LANGUAGE_MODEL = WeightNames(
    {
        "model.embed_tokens.": "model.embed_tokens.",
        "model.layers.*.": "model.layers.*.",
        "model.norm.": "model.norm.",
        "lm_head.": "lm_head.",
        "model.mimo_layers.*.": "model.audio_layers.*.",
        "model.mimo_norm.": "model.audio_norm.",
        "mimo_output.": "audio_head.",
        "model.vq_adaptor.layers.0.": "model.feature_adaptor.in_proj.",
        "model.vq_adaptor.layers.3.": "model.feature_adaptor.out_proj.",
        "model.vq_adaptor.layers.4.": "model.feature_adaptor.norm.",
    },
    leftovers=(r"\.self_attn\.rotary_emb\.inv_freq$",),  # rounded to bf16; the angles are computed in fp32
)

ENCODER = WeightNames({"model.encoder.": "model.audio_encoder."}, leftovers=(r"^model\.decoder\.", r"^proj_out\."))

WITH_ENCODER = WeightNames({**LANGUAGE_MODEL.rules, **ENCODER.rules})
"""Both, for messages about the language model with its encoder; the two files are renamed apart."""

SPEECH_TOKENIZER = WeightNames(
    {name: name for name in ("conv1.", "conv2.", "embed_positions.", "layers.*.", "codebook.")},
    leftovers=(r"^embed_positions2\.", r"^ema_count$", r"^ema_weight$"),  # used after the codes, and in training
)

# Behind ``speech_model.``, which `weights.detokenizer_weights` takes off.
DETOKENIZER = WeightNames(
    {
        "semantic_token_embedding.": "dit.code_embedding.",
        "input_linear.": "dit.mel_in.",
        "t_embedder.mlp.": "dit.time_embedding.",
        "blocks.*.attn.qkv.": "dit.blocks.*.qkv.",
        "blocks.*.attn.proj.": "dit.blocks.*.out.",
        "blocks.*.mlp.fc1.": "dit.blocks.*.up.",
        "blocks.*.mlp.fc2.": "dit.blocks.*.down.",
        "blocks.*.adaLN_modulation.1.": "dit.blocks.*.modulation.",
        "final_layer.adaLN_modulation.1.": "dit.final_modulation.",
        "final_layer.linear.": "dit.mel_out.",
    },
)

VOCODER = WeightNames(
    {name: name for name in ("conv_pre.", "ups.*.", "resblocks.*.", "activation_post.", "conv_post.")}
)
