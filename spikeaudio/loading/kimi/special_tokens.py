"""Kimi-Audio's special ids: named ones behind the text, the rest reserved.

    id = num_text_tokens + index,    index 0 .. count - 1 (421 in the 7B model)

Source: the published tokenizer and the lists of three independent ports, which agree.
"""

from dataclasses import dataclass

_NAMED = {
    0: "[BOS]",
    1: "[EOS]",
    2: "<|im_msg_end|>",
    3: "<|im_user_msg_start|>",
    4: "<|im_assistant_msg_start|>",
    9: "[EOT]",
    18: "<|im_media_begin|>",
    20: "<|im_media_end|>",
    23: "<|im_kimia_text_blank|>",
    24: "<|im_kimia_text_eos|>",
    27: "<|im_kimia_user_msg_start|>",
    28: "<|im_kimia_assistant_msg_start|>",
    32: "<|im_kimia_speech_ct_id|>",
    33: "<|im_kimia_speech_ctd_id|>",
}
_INDEX = {name: index for index, name in _NAMED.items()}


@dataclass(frozen=True)
class SpecialTokens:
    """The special ids of one vocabulary.

    Args:
        first_id: id of the first one; ids below it are text.
        count: how many there are.

    Raises:
        ValueError: there is no room for the named ones.
    """

    first_id: int
    count: int

    def __post_init__(self) -> None:
        if self.count <= max(_NAMED):
            raise ValueError(
                f"Kimi-Audio has at least {max(_NAMED) + 1} special ids between its text and its codes, "
                f"got {self.count} (kimia_token_offset - num_base_tokens)"
            )

    @property
    def names(self) -> list[str]:
        """All names in the order of their ids; the unnamed ones are counted."""
        unnamed = iter(range(self.count))
        return [_NAMED.get(index) or f"<|reserved_token_{next(unnamed)}|>" for index in range(self.count)]

    @property
    def pad_id(self) -> int:
        """The last one pads."""
        return self.first_id + self.count - 1

    def id_of(self, name: str) -> int:
        """Id of one of the named ones."""
        return self.first_id + _INDEX[name]
