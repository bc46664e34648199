"""TIFFs of any depth and interpretation, written as the specification says."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

GRAY, WHITE_IS_ZERO = 1, 0
RGB, PALETTE, CMYK, YCBCR, CIELAB, ICCLAB = 2, 3, 5, 6, 8, 9
UNSPECIFIED, ASSOCIATED, UNASSOCIATED = 0, 1, 2


def raw_tiff(
    values: Any,
    photometric: int,
    *,
    bits: int | None = None,
    order: str = "<",
    extra: tuple[int, ...] = (),
    planar: bool = False,
    reversed_bits: bool = False,
    palette: Any = None,
    tags: tuple[tuple[int, str, tuple[int, ...]], ...] = (),
) -> bytes:
    """Return a TIFF of one uncompressed strip (a band, if planar).

    Args:
        values: (h, w, bands); unsigned, signed or floats.
        photometric: How colors are stored.
        bits: Depth of unsigned values, packed; default: that of their type.
        order: ``<`` or ``>``.
        extra: What the bands beyond the colors are.
        planar: One band after the other.
        reversed_bits: The first pixel is in the lowest bits of a byte.
        palette: (colors, 3), 16 bits.
        tags: Further ones: number, type as in ``struct``, numbers.
    """
    height, width, bands = values.shape
    sample_format = {"u": 1, "i": 2, "f": 3, "c": 6}[values.dtype.kind]
    bits = bits or 8 * values.dtype.itemsize
    planes = [values[..., [i]] for i in range(bands)] if planar else [values]
    strips = []
    for plane in planes:
        if bits % 8 == 0 and bits == 8 * values.dtype.itemsize:
            strips.append(plane.astype(plane.dtype.newbyteorder(order)).tobytes())
        elif bits == 24:
            octets = plane.astype("<u4")[..., None].view(np.uint8)[..., :3]
            strips.append((octets if order == "<" else octets[..., ::-1]).tobytes())
        else:
            single = (plane[..., None] >> np.arange(bits - 1, -1, -1, dtype=plane.dtype)) & 1
            packed = np.packbits(single.reshape(height, -1).astype(np.uint8), axis=1)
            strips.append(packed.tobytes())
    if reversed_bits:
        turned = np.arange(256, dtype=np.uint8)[:, None]
        table = np.packbits(np.unpackbits(turned, axis=1)[:, ::-1], axis=1).tobytes()
        strips = [strip.translate(table) for strip in strips]

    fields: dict[int, tuple[str, list[int]]] = {
        256: ("H", [width]),
        257: ("H", [height]),
        258: ("H", [bits] * bands),
        259: ("H", [1]),
        262: ("H", [photometric]),
        266: ("H", [2 if reversed_bits else 1]),
        273: ("I", [0] * len(strips)),
        277: ("H", [bands]),
        278: ("H", [height]),
        279: ("I", [len(strip) for strip in strips]),
        284: ("H", [2 if planar else 1]),
        339: ("H", [sample_format] * bands),
    }
    if extra:
        fields[338] = ("H", list(extra))
    if palette is not None:
        fields[320] = ("H", np.asarray(palette).T.ravel().tolist())
    if photometric == YCBCR:
        fields[530] = ("H", [1, 1])
    fields |= {number: (kind, list(numbers)) for number, kind, numbers in tags}

    # Entries, then what does not fit into them, then the strips
    count = len(fields)
    start = 8 + 2 + 12 * count + 4
    sizes = {"H": 2, "I": 4, "R": 8}

    def pack(kind: str, numbers: list[int]) -> bytes:
        letter = "I" if kind == "R" else kind
        return struct.pack(f"{order}{len(numbers)}{letter}", *numbers)

    longer = sum(
        len(pack(kind, numbers))
        for kind, numbers in fields.values()
        if len(pack(kind, numbers)) > 4
    )
    position = start + longer
    offsets = []
    for strip in strips:
        offsets.append(position)
        position += len(strip)
    fields[273] = ("I", offsets)
    entries, heap = b"", b""
    for number, (kind, numbers) in sorted(fields.items()):
        content = pack(kind, numbers)
        amount = len(content) // sizes[kind]
        entries += struct.pack(f"{order}HHI", number, {"H": 3, "I": 4, "R": 5}[kind], amount)
        if len(content) <= 4:
            entries += content.ljust(4, b"\0")
        else:
            entries += struct.pack(f"{order}I", start + len(heap))
            heap += content
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, count)
    return head + entries + bytes(4) + heap + b"".join(strips)
