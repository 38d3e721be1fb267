"""Small integers in bytes: how weight codes lie in a checkpoint.

Codes of b = 2 to 8 bits, -2^(b-1)..2^(b-1) - 1, are stored with an offset of 2^(b-1), their bits back to back. Code i
of a row has the bits i b to i b + b - 1, and bit k is bit k mod 8 of byte k // 8, counted from the lowest. A row is
padded with zeros to whole bytes.

    4 bits    [c1 c0]  [c3 c2]  ...                      3 bits    [.. c2 c1 c0]  [c5' c4 c3 c2'']  [c7 c6 c5'']

The pattern repeats after the least common multiple of b and 8 bits, which is how both directions are computed. By
shifts of whole columns, one or two for each code of a period.
"""

from math import gcd

import torch
from torch import Tensor
from torch.nn import functional


def packed_width(columns: int, bits: int) -> int:
    """Bytes of a row of `columns` codes.

    Raises:
        ValueError: bits other than 2 to 8.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"codes are packed with 2 to 8 bits, got {bits}")
    return -(-columns * bits // 8)


def _period(bits: int) -> tuple[int, int]:
    """Codes and bytes after which the pattern repeats."""
    return 8 // gcd(8, bits), bits // gcd(8, bits)


def pack(codes: Tensor, bits: int) -> Tensor:
    """(O, C) int8 codes -> (O, packed_width(C, bits)) uint8.

    Raises:
        ValueError: bits other than 2 to 8, or a code that does not fit.
    """
    rows, columns = codes.shape
    width, offset = packed_width(columns, bits), 2 ** (bits - 1)
    if codes.numel() and not -offset <= int(codes.min()) <= int(codes.max()) < offset:
        raise ValueError(f"{bits}-bit codes lie in {-offset}..{offset - 1}, got {int(codes.min())}..{int(codes.max())}")
    period, period_bytes = _period(bits)
    shifted = (codes.to(torch.int16) + offset).to(torch.uint8)
    parts = functional.pad(shifted, (0, -columns % period)).reshape(rows, -(-columns // period), period)
    packed = parts.new_zeros(rows, parts.shape[1], period_bytes)
    for index in range(period):
        byte, shift = divmod(index * bits, 8)
        packed[..., byte] |= parts[..., index] << shift  # what leaves the byte is dropped
        if shift + bits > 8:
            packed[..., byte + 1] |= parts[..., index] >> (8 - shift)
    return packed.flatten(1)[:, :width].contiguous()


def unpack(packed: Tensor, columns: int, bits: int) -> Tensor:
    """(O, packed_width(columns, bits)) uint8 -> (O, columns) int8 codes.

    Raises:
        ValueError: bits other than 2 to 8, or another number of bytes.
    """
    if packed.shape[1] != packed_width(columns, bits):
        raise ValueError(
            f"{columns} codes of {bits} bits take {packed_width(columns, bits)} bytes a row, got {packed.shape[1]}"
        )
    period, period_bytes = _period(bits)
    if missing := -packed.shape[1] % period_bytes:
        packed = functional.pad(packed, (0, missing))
    parts = packed.reshape(len(packed), -(-columns // period), period_bytes)
    codes = []
    for index in range(period):
        byte, shift = divmod(index * bits, 8)
        code = parts[..., byte] >> shift if shift else parts[..., byte]
        if shift + bits > 8:
            code = code | (parts[..., byte + 1] << (8 - shift))
        codes.append(code if shift + bits == 8 else code & (2**bits - 1))  # a byte's last code has no bits above it
    centred: Tensor = torch.stack(codes, dim=-1).view(torch.int8).sub_(2 ** (bits - 1))  # modulo 256
    return centred.flatten(1)[:, :columns]
