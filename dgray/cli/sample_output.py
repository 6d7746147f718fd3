"""Sample files: a folder of PNG files, a zip of them (as in EDM), or an npz (as in DG).

Each sample is a part, a file of its own that is written atomically, so that an interrupted command
can be repeated. A zip or npz is assembled from its parts at the end.
"""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dgray.errors import RunRefusedError
from dgray.files import inside, output_file, output_folder, write_atomically

Array = NDArray[np.uint8] | NDArray[np.float32]
_DIGITS = 6  # of a seed in a file name, at least
ENDINGS = (".zip", ".npz")


class SampleOutput:
    """Samples of some seeds under one path.

    Args:
        path: a folder, or a file that ends in .zip or .npz.
        seeds: seeds of all samples.
        name: name of the model; samples of two models are never mixed.

    Raises:
        RunRefusedError: the path holds samples of another model, or its parts are a link.
        OutputError: the path cannot be written.
    """

    def __init__(self, path: Path, seeds: range, name: str) -> None:
        is_file = path.suffix in ENDINGS
        self.path, self.seeds = output_file(path) if is_file else output_folder(path), seeds
        parts = inside(self.path.parent, self.path.name + ".parts") if is_file else self.path
        self.parts = output_folder(parts)
        label = self.parts / "samples.txt"
        if label.exists() and label.read_text("utf-8") != name:
            raise RunRefusedError(
                f"{self.parts}: holds samples of another model ({label.read_text('utf-8')}), not "
                f"of {name}; give another --out"
            )
        write_atomically(label, lambda file: file.write(name.encode()))

    @property
    def grid(self) -> Path:
        """Path of a picture of the first samples."""
        return self.path.with_name(self.path.stem + "-grid.png")

    def missing(self, size: int) -> Iterator[range]:
        """Yield ranges of at most ``size`` seeds whose samples are missing or cannot be read."""
        absent = [seed for seed in self.seeds if not self._is_readable(seed)]
        start = 0
        while start < len(absent):
            stop = start
            while (
                stop < len(absent)
                and stop - start < size
                and absent[stop] == absent[start] + stop - start
            ):
                stop += 1
            yield range(absent[start], absent[stop - 1] + 1)
            start = stop

    def write(self, seed: int, sample: Array) -> None:
        """Write one sample: an image, uint8 (H, W, C), or a point, float32 (d,)."""
        content = _png(sample) if sample.dtype == np.uint8 else _npy(sample)
        write_atomically(self._part(seed, sample.dtype), lambda file: file.write(content))

    def finish(self) -> Path:
        """Assemble a zip or npz; return the path of the samples."""
        if self.path.suffix == ".zip":
            write_atomically(self.path, lambda file: file.write(self._zip()))
        elif self.path.suffix == ".npz":
            samples = np.stack([self.read(seed) for seed in self.seeds])
            buffer = io.BytesIO()
            np.savez(buffer, arr_0=samples)
            write_atomically(self.path, lambda file: file.write(buffer.getvalue()))
        if self.parts != self.path:
            shutil.rmtree(self.parts)
        return self.path

    def read(self, seed: int) -> Array:
        """Return a sample that was written."""
        image = self._part(seed, np.dtype(np.uint8))
        if not image.exists():
            point: Array = np.load(self._part(seed, np.dtype(np.float32)))
            return point
        pixels = np.asarray(Image.open(image))
        return pixels[..., None] if pixels.ndim == 2 else pixels

    def _is_readable(self, seed: int) -> bool:
        try:
            self.read(seed)
        except (OSError, ValueError, SyntaxError):  # Pillow raises SyntaxError for a broken PNG
            return False
        return True

    def _part(self, seed: int, dtype: np.dtype[np.generic]) -> Path:
        ending = ".png" if dtype == np.uint8 else ".npy"
        return self.parts / f"{seed:0{_DIGITS}d}{ending}"

    def _zip(self) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for seed in self.seeds:
                part = self._part(seed, np.dtype(np.uint8))
                entry = zipfile.ZipInfo(part.name)  # fixed date: equal bytes
                archive.writestr(entry, part.read_bytes())
        return buffer.getvalue()


def _png(pixels: Array) -> bytes:
    buffer = io.BytesIO()
    image = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def _npy(point: Array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, point)
    return buffer.getvalue()
