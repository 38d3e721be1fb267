"""The delay pattern on tables small enough to check by eye."""

import pytest
import torch

from spikeaudio.lm.streams import IGNORED, DelayPattern, Streams, codes_of

BLANK, EOS, STOP, THINK, OFFSET = 90, 91, 92, 93, 100


def pattern(**changes) -> DelayPattern:
    fields = dict(delay=2, audio_token_offset=OFFSET, num_audio_codes=10, blank_token_id=BLANK, text_eos_token_id=EOS)
    return DelayPattern(**{**fields, "stop_token_ids": (STOP,), "think_end_token_id": THINK, **changes})


TABLE = [
    # delay, text, codes, thoughts -> text stream, audio stream
    (2, [1, 2, 3], [4, 5, 6], None, [1, 2, 3, EOS, BLANK, BLANK], [BLANK, BLANK, 104, 105, 106, STOP]),
    (0, [1], [7], None, [1, EOS], [107, STOP]),
    (1, [1, 2, 3, 4], [0], None, [1, 2, 3, 4, EOS], [BLANK, 100, STOP, BLANK, BLANK]),
    (2, [1], None, None, [1, EOS], [BLANK, BLANK]),
    (2, [], [], None, [EOS, BLANK, BLANK], [BLANK, BLANK, STOP]),
    (1, [3], [9], [1, 2], [1, 2, THINK, 3, EOS, BLANK], [BLANK, BLANK, BLANK, BLANK, 109, STOP]),
    (1, [3], [9], [], [THINK, 3, EOS, BLANK], [BLANK, BLANK, 109, STOP]),
    (3, [4], None, [1], [1, THINK, 4, EOS], [BLANK] * 4),
]


@pytest.mark.parametrize("delay,text,codes,thoughts,text_stream,audio_stream", TABLE)
def test_align_and_split(delay, text, codes, thoughts, text_stream, audio_stream):
    p = pattern(delay=delay)
    streams = p.align(text, codes, thoughts)
    assert streams.text.tolist() == text_stream
    assert streams.audio.tolist() == audio_stream
    answer = p.split(*streams)
    assert answer.text.tolist() == text
    assert answer.codes.tolist() == (codes or [])
    assert (answer.thoughts.tolist() if answer.thoughts is not None else None) == thoughts


def test_two_stop_ids_as_in_the_published_targets():
    streams = pattern(stop_token_ids=(80, 81)).align([1], [2])
    assert streams.audio.tolist() == [BLANK, BLANK, 102, 80, 81]
    assert pattern(stop_token_ids=(80, 81)).split(*streams).codes.tolist() == [2]


def test_labels_ignore_blanks_only():
    labels = pattern().labels(pattern().align([1, 2], [3]))
    assert labels.text.tolist() == [1, 2, EOS, IGNORED]
    assert labels.audio.tolist() == [IGNORED, IGNORED, 103, STOP]


def test_split_reads_streams_cut_short():
    answer = pattern().split(torch.tensor([1, 2, 3]), torch.tensor([BLANK, BLANK, 105]))
    assert answer.text.tolist() == [1, 2, 3] and answer.codes.tolist() == [5] and answer.thoughts is None


def test_codes_of_drops_what_is_no_code():
    assert codes_of(torch.tensor([BLANK, 100, 110, 109, 5]), OFFSET, 10).tolist() == [0, 9]


@pytest.mark.parametrize(
    "call,message",
    [
        (lambda: pattern().align([1], [10]), r"\[0, 10\), got 10 to 10"),
        (lambda: pattern(think_end_token_id=None).align([1], [2], [3]), "think_end_token_id"),
        (lambda: pattern(delay=-1), "negative, got -1"),
        (lambda: pattern(stop_token_ids=()), "at least one id"),
        (lambda: pattern().split(*Streams(torch.zeros(3), torch.zeros(2))), r"\(3,\) and \(2,\)"),
    ],
)
def test_bad_input_is_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
