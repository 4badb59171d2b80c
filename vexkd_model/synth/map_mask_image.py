"""Map mask of one town: nuScenes' semantic prior, a PNG in which road and walkways are white."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from vexkd_model.files import atomic_file
from vexkd_model.synth.presets import PATCH_EDGE_M

CELL_M = 0.1  # nuScenes' own resolution, which the devkit takes for granted
LAYERS = ("drivable_area", "walkway")
BAND = round(PATCH_EDGE_M / CELL_M)  # rows that are drawn and compressed at a time: one row of scenes
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ZLIB_HEADER = b"\x78\x01"


def write_mask(path: Path, scenes: dict[str, dict[str, list]], canvas_edge: tuple[float, float]) -> None:
    """Write the mask of scenes (name → `maps.scene_geometry`) on a map of canvas_edge [m].

    It is 255 on roads and walkways; row 0 is in the north. A town of 213 scenes has two thousand million pixels. The
    image is therefore written in bands, of which the empty ones, all alike, are compressed once: 100 MB of memory
    instead of 4 GB, and a second where few scenes are written.
    """
    width, height = (round(edge / CELL_M) for edge in canvas_edge)
    with atomic_file(path) as partial, partial.open("wb") as file:
        file.write(_SIGNATURE)
        _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))  # 8 bits of grey
        _chunk(file, b"IDAT", _ZLIB_HEADER)
        checksum = 1
        empty = np.zeros((BAND, width + 1), np.uint8)
        packed_empty = None
        for band in _bands(scenes, width, height):
            if band is None:
                packed_empty = packed_empty or _deflate(empty)
                band, packed = empty, packed_empty
            else:
                packed = _deflate(band)
            checksum = zlib.adler32(band.data, checksum)
            _chunk(file, b"IDAT", packed)
        end = zlib.compressobj(wbits=-zlib.MAX_WBITS).flush()
        _chunk(file, b"IDAT", end + struct.pack(">I", checksum))
        _chunk(file, b"IEND", b"")


def _bands(scenes: dict[str, dict[str, list]], width: int, height: int) -> Iterator[np.ndarray | None]:
    """Yield bands of BAND rows from north to south, each row after PNG's filter byte; None for an empty band."""
    rings = [
        [np.round(np.array(ring) / CELL_M * [1, -1] + [0, height]).astype(np.int32) for ring in polygon]
        for geometry in scenes.values()
        for layer in LAYERS
        for polygon in geometry[layer]
    ]
    reach = [(polygon[0][:, 1].min(), polygon[0][:, 1].max()) for polygon in rings]
    for top in range(0, height, BAND):
        inside = [
            polygon for polygon, (first, last) in zip(rings, reach, strict=True) if last >= top and first < top + BAND
        ]
        if not inside:
            yield None
            continue
        mask = np.zeros((BAND, width), np.uint8)
        for polygon in inside:
            cv2.fillPoly(mask, [ring - [0, top] for ring in polygon], (255,))
        yield np.pad(mask, ((0, 0), (1, 0)))


def _deflate(band: np.ndarray) -> bytes:
    """Compress to a piece of a deflate stream that refers to nothing before it and ends at a whole byte."""
    compressor = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    return compressor.compress(band.data) + compressor.flush(zlib.Z_SYNC_FLUSH)


def _chunk(file, kind: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
