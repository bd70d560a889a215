"""Compression recipes: what is done to a trained net, as one TOML file with a section for each kind of step.

Steps that a recipe has are done in the order distill, slim, prune, cluster, quantize, whatever their order in the file.
Recipes ship by name (`compress/recipes/*.toml`); `--set section.key=value` overrides a single value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal

from sepilot_runtime.base.errors import RecipeError
from sepilot_train.base.ranges import require_in
from sepilot_train.run.recipe import named_recipes, parse_recipe

__all__ = [
    "Cluster",
    "Compression",
    "Distill",
    "Finetune",
    "Prune",
    "Quantize",
    "Slim",
    "compression_names",
    "load_compression",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finetune:
    """How the net is trained after, or while, it is compressed: AdamW on a cosine, the last epoch is kept.

    Attributes:
        epochs: passes over the training frames.
        min_epoch_frames: an epoch of a small data set goes over it as often as it takes to see so many frames.
        learning_rate: the highest; the cosine ends at 1/1000 of it.
        warmup_epochs: linear rise at the start.
        weight_decay: decoupled, on kernels only.
    """

    epochs: int = 6
    min_epoch_frames: int = 8192
    batch_size: int = 128
    learning_rate: float = 0.001
    warmup_epochs: float = 0.5
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        require_in("epochs", self.epochs, 0, 1e6)
        require_in("batch_size", self.batch_size, 1, 1e6)
        require_in("learning_rate", self.learning_rate, 1e-9, 1e3)
        require_in("warmup_epochs", self.warmup_epochs, 0, 1e6)
        require_in("weight_decay", self.weight_decay, 0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distill:
    """Train a student on what teachers say (Hinton et al. 2015, arXiv 1503.02531).

    Attributes:
        student: a training recipe, whose net starts from new weights and is trained as that recipe says; "" goes on
            with the run's own net and `finetune`.
        epochs: of the student's training, in place of its recipe's; patience is what makes a good student.
        teacher_weight: share of the teachers' answer in the target; the rest is the label.
        views: so many epochs are augmented differently, then they come again, and the teachers answer to each only
            once; 0 shows new views in every epoch. With 10 of them a student learnt its teachers' answers by heart.
    """

    student: str = ""
    epochs: int = 30
    teacher_weight: float = 1.0
    views: int = 0
    finetune: Finetune = field(default_factory=Finetune)

    def __post_init__(self) -> None:
        require_in("epochs", self.epochs, 1, 1e6)
        require_in("teacher_weight", self.teacher_weight, 0, 1)
        require_in("views", self.views, 0, 1e6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slim:
    """Remove whole blocks and whole channels, so that the net is physically smaller.

    Attributes:
        blocks: share of the blocks that have an input and an output of one size, and can be taken out, which is.
        macs: multiply-accumulates left, as a fraction of the net's.
        min_channels: left in every layer.
        multiple_of: channels of every layer are a multiple of it where the layer had more; vector units are 4 to 16
            values wide.
        rounds: the removal is spread over so many rounds with a part of the fine-tuning after each.
    """

    blocks: float = 0.0
    macs: float = 0.5
    min_channels: int = 4
    multiple_of: int = 4
    rounds: int = 1
    finetune: Finetune = field(default_factory=Finetune)

    def __post_init__(self) -> None:
        require_in("blocks", self.blocks, 0, 1)
        require_in("macs", self.macs, 0.01, 1)
        require_in("min_channels", self.min_channels, 1, 1e6)
        require_in("multiple_of", self.multiple_of, 1, 1e6)
        require_in("rounds", self.rounds, 1, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune:
    """Set single weights to zero by magnitude while training goes on (Zhu and Gupta 2017, arXiv 1710.01878).

    Attributes:
        sparsity: share of zeros in each pruned kernel; `2:4` implies one half.
        pattern: `magnitude`, or `2:4`: two of any four neighbouring input channels.
        kinds: which kernels; the others stay dense. Depthwise kernels hold few weights and much of the function.
        min_weights: smaller kernels stay dense.
        skip: names of layers that stay dense.
        ramp: part of the fine-tuning in which the sparsity rises; after it the mask is fixed.
    """

    sparsity: float = 0.5
    pattern: Literal["magnitude", "2:4"] = "magnitude"
    kinds: tuple[Literal["pointwise", "convolution", "depthwise", "dense"], ...] = ("pointwise", "convolution", "dense")
    min_weights: int = 64
    skip: tuple[str, ...] = ()
    ramp: float = 0.5
    finetune: Finetune = field(default_factory=Finetune)

    def __post_init__(self) -> None:
        require_in("sparsity", self.sparsity, 0.01, 0.99)
        require_in("min_weights", self.min_weights, 1, 1e9)
        require_in("ramp", self.ramp, 0, 1)
        if self.pattern == "2:4" and self.sparsity != 0.5:
            raise RecipeError(f"sparsity: 0.5 expected with pattern 2:4, found {self.sparsity}")
        if not self.kinds:
            raise RecipeError("kinds: at least one expected")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Let the weights of each kernel share a few values (Han et al. 2016, arXiv 1510.00149).

    Attributes:
        clusters: values per kernel; a kernel with fewer weights keeps its own.
        skip: names of layers that keep their own values.
    """

    clusters: int = 16
    skip: tuple[str, ...] = ()
    finetune: Finetune = field(default_factory=Finetune)

    def __post_init__(self) -> None:
        require_in("clusters", self.clusters, 2, 256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantize:
    """Train with int8 rounding in place (Jacob et al. 2018, arXiv 1712.05877).

    Attributes:
        preserve: what the training must leave: zeros (after `prune`) or shared values (after `cluster`).
        calibration_frames: training frames from which the activation ranges start.
    """

    preserve: Literal["nothing", "sparsity", "clusters"] = "nothing"
    calibration_frames: int = 300
    finetune: Finetune = field(default_factory=Finetune)

    def __post_init__(self) -> None:
        require_in("calibration_frames", self.calibration_frames, 2, 1e6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """A compression, complete. Sections that are None are not done."""

    name: str
    summary: str
    distill: Distill | None = None
    slim: Slim | None = None
    prune: Prune | None = None
    cluster: Cluster | None = None
    quantize: Quantize | None = None

    def __post_init__(self) -> None:
        if not self.sections:
            raise RecipeError("at least one of the sections distill, slim, prune, cluster, quantize expected")
        if self.quantize is not None and self.quantize.preserve == "sparsity" and self.cluster is not None:
            raise RecipeError('quantize.preserve: "clusters" expected after cluster, found "sparsity"')

    @property
    def sections(self) -> tuple[str, ...]:
        """The names of the sections that are there, in the order in which they are done."""
        return tuple(n for n in ("distill", "slim", "prune", "cluster", "quantize") if getattr(self, n) is not None)


def compression_names() -> list[str]:
    """The shipped compression recipes."""
    return named_recipes(_shipped())


def load_compression(name_or_path: str, overrides: Sequence[str] = ()) -> Compression:
    """Read a compression recipe and apply overrides.

    Args:
        name_or_path: a shipped recipe's name, or a path to a .toml file.
        overrides: "section.key=value" each; the value is TOML, a bare word is taken as text.

    Raises:
        RecipeError: unknown recipe or key, wrong type or range, not TOML.
    """
    return parse_recipe(Compression, name_or_path, overrides, _shipped())


def _shipped() -> Any:
    return resources.files("sepilot_export") / "compress" / "recipes"
