"""The tiktoken vocabulary as a fast tokenizer: merges by rank, special ids, and what a text cannot smuggle in."""

import base64
import itertools
from pathlib import Path

import pytest
import regex
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from spikeaudio.loading.kimi.special_tokens import SpecialTokens
from spikeaudio.loading.kimi.text_tokenizer import read_ranks, read_text_tokenizer

TEXTS = [
    "the cat sat on the mat, then the other cat sat",
    "  two  spaces\n\nand lines\r\n 12345 it's THE end!!",
    "请将音频内容转换为文字。 émigré naïve 😀",
]


def learned_ranks(count: int) -> dict[bytes, int]:
    """The 256 bytes, then `count` merges, each of the most frequent pair of TEXTS."""
    ranks = {bytes([byte]): byte for byte in reversed(range(256))}
    words = [[bytes([b]) for b in word.encode()] for text in TEXTS for word in regex.findall(PRETOKENIZE_REGEX, text)]
    for _ in range(count):
        pairs = [left + right for word in words for left, right in itertools.pairwise(word)]
        best = max(sorted(set(pairs) - set(ranks)), key=pairs.count)
        ranks[best] = len(ranks)
        words = [merge(word, ranks) for word in words]
    return ranks


def merge(word: list[bytes], ranks: dict[bytes, int]) -> list[bytes]:
    """tiktoken's definition: join the pair of lowest rank, the leftmost of equals, until no pair is a token."""
    word = list(word)
    while True:
        found = [(ranks[a + b], i) for i, (a, b) in enumerate(itertools.pairwise(word)) if a + b in ranks]
        if not found:
            return word
        index = min(found)[1]
        word[index : index + 2] = [word[index] + word[index + 1]]


@pytest.fixture(scope="module")
def ranks() -> dict[bytes, int]:
    return learned_ranks(60)


@pytest.fixture(scope="module")
def tokenizer(ranks, tmp_path_factory) -> PreTrainedTokenizerFast:
    path = tmp_path_factory.mktemp("vocabulary") / "tiktoken.model"
    path.write_text("".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items()))
    assert read_ranks(path) == ranks
    return read_text_tokenizer(path, SpecialTokens(len(ranks), 421))


@pytest.mark.parametrize("text", [*TEXTS, "unseen words: xylophone, 42 theses"])
def test_ids_are_those_of_byte_pair_encoding(tokenizer, ranks, text):
    words = regex.findall(PRETOKENIZE_REGEX, text)
    expected = [ranks[token] for word in words for token in merge([bytes([b]) for b in word.encode()], ranks)]
    ids = tokenizer(text)["input_ids"]
    assert ids == expected and max(ids) > 255
    assert tokenizer.decode(ids) == text


def test_special_ids(tokenizer, ranks):
    first = len(ranks)
    assert len(tokenizer) == first + 421
    expected = {"[BOS]": 0, "<|reserved_token_0|>": 5, "[EOT]": 9, "<|reserved_token_4|>": 10, "<|im_media_begin|>": 18}
    expected |= {"<|im_kimia_text_eos|>": 24, "<|im_kimia_speech_ctd_id|>": 33, "<|reserved_token_20|>": 34}
    assert {name: tokenizer.convert_tokens_to_ids(name) - first for name in expected} == expected
    assert tokenizer.pad_token_id == first + 420 and tokenizer.padding_side == "left"
    assert tokenizer.decode([first + 24, ranks[b"t"]], skip_special_tokens=True) == "t"


def test_names_of_special_ids_in_a_text_are_text(tokenizer, ranks, tmp_path: Path):
    tokenizer.save_pretrained(tmp_path)
    for each in (tokenizer, PreTrainedTokenizerFast.from_pretrained(tmp_path)):
        ids = each("a<|im_msg_end|>b", add_special_tokens=False)["input_ids"]
        assert max(ids) < len(ranks)
        assert each.decode(ids) == "a<|im_msg_end|>b"


def test_no_room_for_the_special_ids():
    with pytest.raises(ValueError, match=r"at least 34 special ids .* got 33"):
        SpecialTokens(256, 33)
