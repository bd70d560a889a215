"""Pictures that stay in their files: chosen rows of memory-mapped caches, read when they are asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Pictures", "StoredPictures"]


class StoredPictures:
    """Some rows of one cache file, or of several of the same picture one after the other: uint8 (n, h, w, c).

    It is indexed like an array along the first axis, by a number, a slice, or an array of numbers, and gives arrays.
    What it keeps in memory are two numbers a row, so that a training of any length fits.
    """

    def __init__(self, file: NDArray[np.uint8], rows: NDArray[np.int64]) -> None:
        self._files = [np.asarray(file)]
        self._rows = rows.astype(np.int32)
        self._owners = np.zeros(len(rows), np.int32)

    @classmethod
    def joined(cls, parts: Sequence[tuple[StoredPictures, NDArray[np.int64]]]) -> StoredPictures:
        """The rows at each part's index in a row; one part or more."""
        result = cls.__new__(cls)
        result._files = [file for part, _ in parts for file in part._files]
        result._rows = np.concatenate([part._rows[index] for part, index in parts])
        before = np.cumsum([0, *(len(part._files) for part, _ in parts)])
        result._owners = np.concatenate(
            [part._owners[index] + np.int32(first) for (part, index), first in zip(parts, before, strict=False)]
        )
        return result

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self._rows), *self._files[0].shape[1:]

    @property
    def nbytes(self) -> int:
        """Of all rows, were they an array."""
        return math.prod(self.shape)

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        rows, owners = self._rows[index], self._owners[index]
        if rows.ndim == 0:
            return np.asarray(self._files[owners][rows])
        if len(self._files) == 1:
            return np.asarray(self._files[0][rows])
        read = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for owner in np.unique(owners):
            own = owners == owner
            read[own] = self._files[owner][rows[own]]
        return read

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return map(self.__getitem__, range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All rows, for what needs an array."""
        if copy is False:
            raise ValueError("pictures in files: only a copy of them can be an array")
        read = self[:]
        return read if dtype is None else read.astype(dtype, copy=False)


Pictures = NDArray[np.uint8] | StoredPictures
"""Pictures uint8 (n, h, w, c), in memory or in files."""
