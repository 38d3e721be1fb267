"""The text tokenizer of a tiktoken vocabulary, as a fast tokenizer of transformers and without its remote code.

``tiktoken.model`` holds one line "base64 of the bytes, rank" per token; merging the pair of lowest rank first is
byte-pair encoding. Text is cut as Qwen2's is. Names of special ids in a text are text, as in the published code: what
somebody writes cannot end a turn.
"""

import base64
import binascii
from pathlib import Path

from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from spikeaudio.loading.kimi.special_tokens import SpecialTokens


def read_ranks(path: str | Path) -> dict[bytes, int]:
    """Bytes -> rank of a tiktoken file. (tiktoken's own reader would keep a copy of every file that it has read.)

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line is not "base64 rank".
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} is not complete: it has no {path.name}")
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line:
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise ValueError(f"line {number} of {path} is not a token in base64 and its rank") from error
    return ranks


class _Converter(TikTokenConverter):
    """transformers' converter on the file as `read_ranks` reads it."""

    load_tiktoken_bpe = staticmethod(read_ranks)


def read_text_tokenizer(path: Path, special: SpecialTokens) -> PreTrainedTokenizerFast:
    """Tokenizer of a vocabulary file.

    Args:
        path: ``tiktoken.model``.
        special: the special ids behind it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged, or is another vocabulary than the model's.
    """
    ranks = read_ranks(path)
    if sorted(ranks.values()) != list(range(special.first_id)):
        raise ValueError(
            f"{path} holds {len(ranks)} tokens up to rank {max(ranks.values(), default=-1)}, but the model's text ids "
            f"are 0 to {special.first_id - 1} (num_base_tokens): this is another model's vocabulary"
        )
    if any(bytes([byte]) not in ranks for byte in range(256)):
        raise ValueError(f"{path} has no token for some of the 256 bytes: it is damaged")
    names = special.names
    backend = _Converter(str(path), pattern=PRETOKENIZE_REGEX, extra_special_tokens=names).converted()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="[BOS]",
        eos_token="[EOS]",
        pad_token=names[-1],
        padding_side="left",
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )
