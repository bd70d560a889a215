"""The graph of a Keras model: which layer takes what from which. The one module that touches what Keras keeps private.

A release of Keras that changes its graph changes this file and no other; a test searches the others for these names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sepilot_runtime.base.errors import ModelFileError

__all__ = ["Call", "Graph", "graph_of", "maker_of", "outputs_of", "run_through"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Call:
    """One use of a layer.

    Attributes:
        name: of the layer, behind those of the models that it lies in; with a number where the layer is used again.
        inputs, outputs: Keras's tensors.
        parents: the calls that made the inputs, in their order.
        again: the layer was used before.
    """

    layer: Any
    name: str
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    parents: tuple[Call, ...]
    again: bool

    @property
    def kind(self) -> str:
        """The layer's class."""
        return type(self.layer).__name__


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Graph:
    """The uses of layers in a model, in the order of computation, and those that make its outputs."""

    calls: tuple[Call, ...]
    outputs: tuple[Call, ...]

    def uses(self, layer: Any) -> int:
        """How often `layer` is used."""
        return sum(call.layer is layer for call in self.calls)

    def consumers(self, call: Call) -> list[Call]:
        """Who takes the result of `call`."""
        return [other for other in self.calls if call in other.parents]

    def reason_apart(self, call: Call, kernels: Sequence[str]) -> str:
        """Why `call`, of one input, cannot become part of a linear kernel right before it; "" where it can.

        Args:
            kernels: the classes of layers that would do.
        """
        (parent,) = call.parents
        if parent.kind not in kernels:
            return f"it follows {parent.kind} {parent.name}"
        if parent.layer.activation.__name__ != "linear":
            return f"it follows the {parent.layer.activation.__name__} of {parent.name}"
        for layer in (call.layer, parent.layer):
            if self.uses(layer) > 1:
                return f"{layer.name} is used in {self.uses(layer)} places"
        if (consumers := len(self.consumers(parent))) > 1:
            return f"{parent.name} feeds {consumers} layers"
        return f"{parent.name} is an output" if parent in self.outputs else ""


def graph_of(model: Any, *, inside: bool = False) -> Graph:
    """The graph of a Keras 3 Functional or Sequential model.

    Args:
        inside: list a model within the model by its layers; else it is a layer like others.

    Raises:
        ModelFileError: a model of another kind.
    """
    calls: list[Call] = []
    made: dict[int, Call] = {}
    _list_calls(model, "", made, calls, inside=inside)
    return Graph(calls=tuple(calls), outputs=tuple(made[id(t)] for t in _functional(model).outputs))


def _list_calls(model: Any, place: str, made: dict[int, Call], calls: list[Call], *, inside: bool) -> None:
    """Put the calls inside `model` behind `calls`.

    Args:
        place: goes before the layers' names.
        made: which call made a tensor, by the tensor's id; for a model inside another it has those that are taken.
    """
    import keras

    graph = _functional(model)
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            layer = node.operation
            if all(id(t) in made for t in node.outputs):
                continue
            parents = tuple(made[id(t)] for t in node.input_tensors)
            if inside and isinstance(layer, keras.Model):
                inner = _functional(layer)
                within = {id(t): call for t, call in zip(inner.inputs, parents, strict=True)}
                _list_calls(layer, f"{place}{layer.name}/", within, calls, inside=True)
                made.update({id(t): within[id(own)] for t, own in zip(node.outputs, inner.outputs, strict=True)})
                continue
            used = sum(call.layer is layer for call in calls)
            name = f"{place}{layer.name}"
            call = Call(
                layer=layer,
                name=f"{name}#{used + 1}" if used else name,
                inputs=tuple(node.input_tensors),
                outputs=tuple(node.outputs),
                parents=parents,
                again=used > 0,
            )
            calls.append(call)
            made.update({id(t): call for t in node.outputs})


def _functional(model: Any) -> Any:
    """What knows the order of computation: the model itself, or what a Sequential model keeps inside."""
    graph = getattr(model, "_functional", None) or model
    if not hasattr(graph, "_nodes_by_depth"):
        raise ModelFileError(
            f"{model.name}: a Functional or Sequential Keras model that knows its input's size expected, found "
            f"{type(model).__name__}"
        )
    return graph


def outputs_of(model: Any) -> dict[str, Any]:
    """A model's outputs by name, in its own order: the keys of a table, or the names of the layers that make them.

    Keras sorts the outputs of a table by their keys, and calls them after their layers all the same.
    """
    graph = _functional(model)
    by_layer = dict(zip(graph.output_names, graph.outputs, strict=True))
    table = graph.output if isinstance(graph.output, dict) else by_layer
    return {name: tensor for output in graph.outputs for name, tensor in table.items() if tensor is output}


def maker_of(tensor: Any) -> Any:
    """The layer that made a tensor of a Functional model."""
    return tensor._keras_history.operation


def run_through(model: Any, tensors: Sequence[Any], call: Callable[[Any], Callable[..., Any]]) -> Any:
    """What a Functional model gives for `tensors`, in its own structure, with `call(layer)` in place of each layer."""
    return _functional(model)._run_through_graph(list(tensors), operation_fn=call)
