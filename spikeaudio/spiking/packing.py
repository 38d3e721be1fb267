"""Small integers in bytes: how weight codes lie in a checkpoint.

Codes of b = 2, 4 or 8 bits, -2^(b-1)..2^(b-1) - 1, are stored with an offset of 2^(b-1), 8 / b of them in a byte, the
first one in the lowest bits; a row is padded with zeros to whole bytes.
"""

import torch
from torch import Tensor

_BITS = (2, 4, 8)


def packed_width(columns: int, bits: int) -> int:
    """Bytes of a row of `columns` codes.

    Raises:
        ValueError: bits other than 2, 4 and 8.
    """
    if bits not in _BITS:
        raise ValueError(f"codes are packed with 2, 4 or 8 bits, got {bits}")
    return -(-columns * bits // 8)


def pack(codes: Tensor, bits: int) -> Tensor:
    """(O, C) int8 codes -> (O, packed_width(C, bits)) uint8.

    Raises:
        ValueError: bits other than 2, 4 and 8, or a code that does not fit.
    """
    width, offset = packed_width(codes.shape[1], bits), 2 ** (bits - 1)
    if codes.numel() and not -offset <= int(codes.min()) <= int(codes.max()) < offset:
        raise ValueError(f"{bits}-bit codes lie in {-offset}..{offset - 1}, got {int(codes.min())}..{int(codes.max())}")
    per_byte = 8 // bits
    padded = torch.zeros(codes.shape[0], width * per_byte, dtype=torch.int16, device=codes.device)
    padded[:, : codes.shape[1]] = codes.to(torch.int16) + offset
    shifts = bits * torch.arange(per_byte, dtype=torch.int16, device=codes.device)
    shifted: Tensor = padded.reshape(-1, width, per_byte) << shifts
    return shifted.sum(-1).to(torch.uint8)


def unpack(packed: Tensor, columns: int, bits: int) -> Tensor:
    """(O, packed_width(columns, bits)) uint8 -> (O, columns) int8 codes.

    Raises:
        ValueError: bits other than 2, 4 and 8, or another number of bytes.
    """
    if packed.shape[1] != packed_width(columns, bits):
        raise ValueError(
            f"{columns} codes of {bits} bits take {packed_width(columns, bits)} bytes a row, got {packed.shape[1]}"
        )
    shifts = bits * torch.arange(8 // bits, dtype=torch.int16, device=packed.device)
    codes: Tensor = (packed.to(torch.int16).unsqueeze(-1) >> shifts) & (2**bits - 1)
    centred: Tensor = codes.flatten(1)[:, :columns] - 2 ** (bits - 1)
    return centred.to(torch.int8)
