"""The true length of a wav, whose header may tell none or more than there is."""

import io
from typing import BinaryIO, NamedTuple

_UNKNOWN_SIZES = (0x7FFFFFFF, 0xFFFFFFFF)  # sizes that programs write which do not know them yet
_SLACK = 65536  # a little below them: some count the header
_LARGEST = 0xFFFFFFFE


class DataChunk(NamedTuple):
    """Where the samples of a wav lie.

    Attributes:
        start: first byte.
        declared: number of bytes that the header tells; None: it tells none.
        held: number of bytes that follow.
    """

    start: int
    declared: int | None
    held: int


def data_chunk(file: BinaryIO) -> DataChunk | None:
    """The samples of a wav; None: it is no wav, or has none.

    Args:
        file: an open file that can seek. It is at its start afterwards.
    """
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(12)
    found = None
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        while len(chunk := file.read(8)) == 8:
            size = int.from_bytes(chunk[4:], "little")
            if chunk[:4] == b"data":
                start = file.tell()
                told = size != 0 and not any(0 <= unknown - size <= _SLACK for unknown in _UNKNOWN_SIZES)
                told = told or _chunks_follow(file, end)
                found = DataChunk(start, size if told else None, end - start)
                break
            file.seek(size + size % 2, io.SEEK_CUR)
    file.seek(0)
    return found


def with_size(file: BinaryIO, chunk: DataChunk) -> BinaryIO:
    """A copy of a wav whose header tells the size that the samples have."""
    file.seek(0)
    data = bytearray(file.read())
    data[chunk.start - 4 : chunk.start] = min(chunk.held, _LARGEST).to_bytes(4, "little")
    data[4:8] = min(len(data) - 8, _LARGEST).to_bytes(4, "little")
    return io.BytesIO(bytes(data))


def _chunks_follow(file: BinaryIO, end: int) -> bool:
    """Whether other chunks, and no samples, fill the rest of a file."""
    while len(chunk := file.read(8)) == 8 and chunk[:4].isascii() and chunk[:4].strip().isalnum():
        size = int.from_bytes(chunk[4:], "little")
        file.seek(size + size % 2, io.SEEK_CUR)
    return not chunk and file.tell() <= end + 1
