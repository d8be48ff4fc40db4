"""Pictures for the docs as PNGs of 256 colours: a third of the bytes, and nobody sees a difference."""

import base64
import struct
import zlib

from playwright.sync_api import Page

# The colours that most pixels have; every other one becomes the nearest of these.
_REDUCE = """async (png) => {
    const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${png}`)).blob());
    const { width, height } = bitmap, context = new OffscreenCanvas(width, height).getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const bytes = context.getImageData(0, 0, width, height).data, pixels = new Uint32Array(bytes.buffer);
    const counts = new Map();
    for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) ?? 0) + 1);
    const kept = [...counts].sort(([, a], [, b]) => b - a).slice(0, 256).map(([pixel]) => pixel);
    const parts = (pixel) => [pixel & 255, pixel >> 8 & 255, pixel >> 16 & 255], palette = kept.map(parts);
    const places = new Map(kept.map((pixel, place) => [pixel, place]));
    for (const pixel of counts.keys()) if (!places.has(pixel)) {
        const mine = parts(pixel);
        const far = palette.map((other) => other.reduce((sum, part, at) => sum + (part - mine[at]) ** 2, 0));
        places.set(pixel, far.indexOf(Math.min(...far)));
    }
    return { width, height, palette: palette.flat(), places: Uint8Array.from(pixels, (p) => places.get(p)).toBase64() };
}"""


def reduced(png: bytes, page: Page) -> bytes:
    """Return a PNG with 256 colours; the page, which is `about:blank`, computes them."""
    picture = page.evaluate(_REDUCE, base64.b64encode(png).decode())
    width, height, places = picture["width"], picture["height"], base64.b64decode(picture["places"])
    rows = b"".join(b"\0" + places[start : start + width] for start in range(0, width * height, width))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", bytes(picture["palette"])),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
