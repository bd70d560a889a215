"""How the training pictures were distributed: the part of the contract that `novelty` goes by."""

from __future__ import annotations

from dataclasses import dataclass

from sepilot_runtime.base.errors import ContractError

__all__ = ["FrameStatistics", "PictureDistribution", "WhitenedGaussian"]

MOST = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class WhitenedGaussian:
    """Centre and extent of points in several measures.

    Attributes:
        mean: (d,) of the points.
        whiten: the lower triangle of a (d, d) matrix by rows. The length of its product with a point less `mean` is the
            point's distance, 1.0 at the edge of the points.
    """

    mean: tuple[float, ...]
    whiten: tuple[float, ...]

    def __post_init__(self) -> None:
        # Squares of larger ones leave the range of a float.
        if any(not abs(value) <= MOST for value in (*self.mean, *self.whiten)):
            raise ContractError(f"mean and whiten: numbers of at most {MOST:g} expected")
        expected = len(self.mean) * (len(self.mean) + 1) // 2
        if len(self.whiten) != expected:
            raise ContractError(
                f"whiten: {expected} values expected for {len(self.mean)} measures, found {len(self.whiten)}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureDistribution:
    """What `novelty.NoveltyMonitor` measures a picture by.

    Attributes:
        whole: of five measures of the whole picture.
        bands: of nine measures of how sharpness lies over bands of rows.
        limit: of the score, beyond which a drive stops; None in files from before contract version 1.2, whose measures
            were others.
    """

    whole: WhitenedGaussian
    bands: WhitenedGaussian
    limit: float | None = None

    def __post_init__(self) -> None:
        for name, spread, size in (("whole", self.whole, 5), ("bands", self.bands, 9)):
            if len(spread.mean) != size:
                raise ContractError(f"{name}.mean: {size} values expected, found {len(spread.mean)}")
        if self.limit is not None and self.limit <= 0:
            raise ContractError(f"limit: above 0 expected, found {self.limit:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameStatistics:
    """How the training pictures were distributed, for a novelty monitor on the car.

    The tuples hold the 1st, 50th and 99th percentile over the training pictures.

    Attributes:
        brightness: mean gray level of a picture, 0 to 255.
        contrast: standard deviation of its gray levels.
        sharpness: mean absolute difference of horizontal neighbours.
        likeness: how these and others go together; None in files that were made before there was such a thing, and
            for pictures of fewer than eight rows or columns.
        frame_size: (width, height) of the frames that the pictures were made of; None where they had several shapes,
            and in files from before contract version 1.2.
        flat_rows: share of a picture's rows, one below the other, in which all pixels are alike: a sky that is
            over-exposed. None in files from before contract version 1.2.
    """

    brightness: tuple[float, float, float]
    contrast: tuple[float, float, float]
    sharpness: tuple[float, float, float]
    likeness: PictureDistribution | None = None
    frame_size: tuple[int, int] | None = None
    flat_rows: float | None = None

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "sharpness"):
            low, middle, high = getattr(self, name)
            if not 0.0 <= low <= middle <= high <= 255.0:
                raise ContractError(f"{name}: three rising gray levels expected, found {low}, {middle}, {high}")
        if self.frame_size is not None and min(self.frame_size) < 1:
            raise ContractError(f"frame_size: width and height of at least 1 expected, found {self.frame_size}")
