# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6", "pillow==13.0.0", "scikit-image==0.26.0"]
# ///
"""Writes the images in `cases/`: one of each kind that the plugin decodes, small, and of photographs that are free.

The photographs come with scikit-image: coffee (CC0, Rachel Michetti), chelsea (CC0, Stefan van der Walt), camera (CC0, Lav
Varshney), rocket (public domain, SpaceX) and astronaut (public domain, NASA). Run it with `uv run cases.py`, and then
`compare.py --record`, which writes down what the reference says of them.

Pillow writes neither interlaced PNGs nor most depths, so those are written here, and read by Pillow to check.
"""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import skimage
from PIL import Image

CASES = Path(__file__).parent / "cases"
PHOTOGRAPHS = Path(skimage.__file__).parent / "data"

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
# Of each pass of Adam7: where it begins and how far its pixels are apart, by x and y.
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def main() -> None:
    CASES.mkdir(exist_ok=True)
    for name, content in {**jpegs(), **pngs()}.items():
        with Image.open(io.BytesIO(content)) as image:
            image.load()
        (CASES / name).write_bytes(content)


def photograph(name: str, width: int, height: int) -> Image.Image:
    return Image.open(PHOTOGRAPHS / name).convert("RGB").resize((width, height), Image.Resampling.LANCZOS)


def jpegs() -> dict[str, bytes]:
    sideways = Image.Exif()
    sideways[0x0112] = 6
    chelsea, coffee = photograph("chelsea.png", 352, 234), photograph("coffee.png", 300, 200)
    return {
        "baseline-420.jpg": jpeg(chelsea, quality=75, subsampling="4:2:0"),
        "progressive-422-exif.jpg": jpeg(
            coffee, quality=75, subsampling="4:2:2", progressive=True, exif=sideways
        ),
        "restarts-444.jpg": jpeg(
            photograph("rocket.jpg", 240, 160), quality=75, subsampling="4:4:4", restart_marker_rows=1
        ),
        "grey.jpg": jpeg(photograph("camera.png", 176, 176).convert("L"), quality=75),
        "cmyk.jpg": jpeg(coffee.resize((120, 80)).convert("CMYK"), quality=75),
    }


def jpeg(image: Image.Image, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", optimize=True, **options)
    return out.getvalue()


def pngs() -> dict[str, bytes]:
    coffee, chelsea = photograph("coffee.png", 72, 48), photograph("chelsea.png", 90, 60)
    colours = np.asarray(coffee)
    # A ramp, so that what is beneath the alpha differs from what would be blended.
    alpha = np.broadcast_to(np.linspace(0, 255, colours.shape[1], dtype=np.uint8)[:, None], (48, 72, 1))
    grey = np.asarray(photograph("camera.png", 61, 61).convert("L"))
    fine = grey.astype(np.uint16) * 257 - np.minimum(grey, 100)
    dithered = chelsea.quantize(16, dither=Image.Dither.FLOYDSTEINBERG)
    astronaut = photograph("astronaut.png", 100, 100).quantize(200)
    transparent = bytes(range(0, 200))
    return {
        "rgb.png": png(colours, RGB),
        "rgb-16.png": png(colours.astype(np.uint16) * 256 + 255 - colours, RGB, 16),
        "rgb-transparent.png": png(colours, RGB, extra=[(b"tRNS", struct.pack(">3H", *colours[20, 20]))]),
        "rgba.png": png(np.concatenate([colours, alpha], 2), RGBA),
        "rgba-16-interlaced.png": png(
            np.concatenate([colours, alpha], 2).astype(np.uint16) * 257, RGBA, 16, interlaced=True
        ),
        "grey-interlaced.png": png(grey[:, :, None], GREY, interlaced=True),
        "grey-1.png": png((grey[:, :, None] > 110).astype(np.uint8), GREY, 1),
        "grey-2.png": png(grey[:, :, None] >> 6, GREY, 2),
        "grey-4-interlaced.png": png(grey[:, :, None] >> 4, GREY, 4, interlaced=True),
        "grey-16.png": png(fine[:, :, None], GREY, 16),
        "grey-alpha.png": png(np.stack([grey, grey[::-1]], 2), GREY_ALPHA),
        "grey-alpha-16.png": png(np.stack([fine, fine[::-1]], 2), GREY_ALPHA, 16),
        "palette-8.png": png(np.asarray(astronaut)[:, :, None], PALETTE, extra=colour_table(astronaut, 200)),
        "palette-8-transparent.png": png(
            np.asarray(astronaut)[:, :, None],
            PALETTE,
            extra=[*colour_table(astronaut, 200), (b"tRNS", transparent)],
        ),
        # Fewer colours than are used: what is not there is black.
        "palette-8-short.png": png(
            np.asarray(dithered)[:, :, None], PALETTE, extra=colour_table(dithered, 9)
        ),
        "palette-4-interlaced.png": png(
            np.asarray(dithered)[:, :, None], PALETTE, 4, interlaced=True, extra=colour_table(dithered, 16)
        ),
    }


def colour_table(image: Image.Image, colours: int) -> list[tuple[bytes, bytes]]:
    return [(b"PLTE", bytes(image.getpalette()[: 3 * colours]))]


def png(
    pixels: np.ndarray,
    kind: int,
    depth: int = 8,
    interlaced: bool = False,
    extra: list[tuple[bytes, bytes]] | tuple = (),
) -> bytes:
    height, width, _ = pixels.shape
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    rows = b"".join(scanlines(pixels[y::dy, x::dx], depth) for x, y, dx, dy in passes)
    header = struct.pack(">2I5B", width, height, depth, kind, 0, 0, int(interlaced))
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def scanlines(pixels: np.ndarray, depth: int) -> bytes:
    """Each row behind its filter: each byte less the one of the pixel before, which suits most pictures."""
    height, width, channels = pixels.shape
    if width == 0:
        return b""
    if depth < 8:
        bits = np.unpackbits(pixels.astype(np.uint8)[:, :, 0, None], axis=2)[:, :, 8 - depth :]
        data, before = np.packbits(bits.reshape(height, -1), axis=1), 1
    else:
        data = pixels.astype(f">u{depth // 8}").reshape(height, -1).view(np.uint8)
        before = channels * depth // 8
    filtered = data.copy()
    filtered[:, before:] -= data[:, :-before]
    return b"".join(b"\x01" + row.tobytes() for row in filtered)


if __name__ == "__main__":
    main()
