"""The small faults that `scripts/mutate` plants, one at a time, in the source of a module.

| kind                     | for example                                             |
|--------------------------|---------------------------------------------------------|
| comparison               | `<` for `<=`, `!=` for `==`, `not in` for `in`          |
| logic                    | `or` for `and`, a `not` removed, a condition turned     |
| arithmetic               | `-` for `+`, `/` for `*`, a minus removed, `+` for `+=` |
| constant                 | one more, True for False, another key or word           |
| the other of a pair      | `max` for `min`, `any` for `all`, `np.ceil` for `floor` |
| removed                  | a call, a raise, `continue`, what is stored, a result   |

Left alone: annotations, docstrings, what only words an error, names for a type checker, and `strict=` of `zip`.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

__all__ = ["Mutant", "mutants_of"]

LONGEST = 160

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip

ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
    ast.MatMult: ast.Mult, ast.BitXor: ast.BitAnd,
}  # fmt: skip

PAIRS = [
    ("min", "max"), ("any", "all"), ("minimum", "maximum"), ("floor", "ceil"), ("argmin", "argmax"),
    ("isfinite", "isnan"),
]  # fmt: skip
OTHER = {name: other for a, b in PAIRS for name, other in ((a, b), (b, a))}


_AROUND = (ast.expr, ast.keyword, ast.arguments, ast.Assign, ast.AnnAssign, ast.Return)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A module with one fault.

    Attributes:
        where: the function or class that it is in, "" for the module itself.
        old, new: the source text around the fault, without line numbers: what names the mutant ever after.
        code: of the whole module.
    """

    where: str
    line: int
    old: str
    new: str
    code: CodeType

    @property
    def key(self) -> tuple[str, str, str]:
        return self.where, self.old, self.new


def mutants_of(path: Path) -> list[Mutant]:
    """All mutants of a source file, in the order of its lines."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return sorted(_Planter(tree, path).planted(), key=lambda mutant: mutant.line)


class _Planter:
    """Goes through a tree; each fault is in it just as long as it takes to compile the module."""

    def __init__(self, tree: ast.Module, path: Path) -> None:
        self._tree, self._path = tree, path

    def planted(self) -> Iterator[Mutant]:
        yield from self._within(self._tree, "")

    def _within(self, node: ast.AST, where: str) -> Iterator[Mutant]:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            where = f"{where}.{node.name}" if where else node.name
        for holder, index, child in _children(node):
            if _of_no_effect(child, node, holder):
                continue
            for fault in _faults(child, node, holder):
                yield self._with(node, holder, index, child, fault, where)
            yield from self._within(child, where)

    def _with(
        self, node: ast.AST, holder: str, index: int | None, child: ast.AST, fault: ast.AST, where: str
    ) -> Mutant:
        # A number alone says nothing.
        shown = node if isinstance(child, ast.Constant | ast.Name) and isinstance(node, _AROUND) else child
        ast.copy_location(fault, child)
        old = _text(shown)
        _put(node, holder, index, fault)
        new = _text(fault if shown is child else shown)
        try:
            code = compile(ast.fix_missing_locations(copy.copy(self._tree)), str(self._path), "exec")
        finally:
            _put(node, holder, index, child)
        return Mutant(where=where, line=getattr(child, "lineno", 0), old=old, new=new, code=code)


def _children(node: ast.AST) -> Iterator[tuple[str, int | None, ast.AST]]:
    for holder, value in ast.iter_fields(node):
        if isinstance(value, ast.AST):
            yield holder, None, value
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, ast.AST):
                    yield holder, index, item


def _put(node: ast.AST, holder: str, index: int | None, child: ast.AST) -> None:
    if index is None:
        setattr(node, holder, child)
    else:
        getattr(node, holder)[index] = child


def _text(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def _of_no_effect(child: ast.AST, parent: ast.AST, holder: str) -> bool:
    """What no test could tell, or only by the words of a message."""
    match child:
        case ast.Expr(value=ast.Constant()) | ast.Import() | ast.ImportFrom() | ast.JoinedStr() | ast.arg():
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
        case ast.keyword(arg="strict"):
            return True
    return holder in ("annotation", "returns", "decorator_list", "exc", "cause", "bases", "type")


def _faults(child: ast.AST, parent: ast.AST, holder: str) -> Iterator[ast.AST]:
    match child:
        case ast.Compare():
            for place, op in enumerate(child.ops):
                if other := COMPARISONS.get(type(op)):
                    ops = [other() if i == place else o for i, o in enumerate(child.ops)]
                    yield ast.Compare(left=child.left, ops=ops, comparators=child.comparators)
        case ast.BoolOp():
            yield ast.BoolOp(op=ast.And() if isinstance(child.op, ast.Or) else ast.Or(), values=child.values)
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield child.operand
        case ast.BinOp() if type(child.op) in ARITHMETIC and not _of_text(child):
            yield ast.BinOp(left=child.left, op=ARITHMETIC[type(child.op)](), right=child.right)
        case ast.AugAssign() if type(child.op) in ARITHMETIC:
            yield ast.AugAssign(target=child.target, op=ARITHMETIC[type(child.op)](), value=child.value)
        case ast.Constant():
            yield from _constants(child.value, parent)
        case ast.Name(id=name, ctx=ast.Load()) if name in OTHER:
            yield ast.Name(id=OTHER[name], ctx=ast.Load())
        case ast.Attribute(attr=name) if name in OTHER:
            yield ast.Attribute(value=child.value, attr=OTHER[name], ctx=child.ctx)
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield ast.Return(value=ast.Constant(value=None))
        case ast.Raise() | ast.Continue() | ast.Break() | ast.Expr(value=ast.Call() | ast.Yield() | ast.YieldFrom()):
            yield ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()
    if holder == "test" and isinstance(child, ast.expr) and not _turned_already(child):
        yield ast.UnaryOp(op=ast.Not(), operand=child)


def _turned_already(condition: ast.expr) -> bool:
    """Another fault says the same: a `not` removed, `!=` for `==`."""
    if isinstance(condition, ast.Compare):
        return isinstance(condition.ops[0], ast.Eq | ast.NotEq | ast.Is | ast.IsNot)
    return isinstance(condition, ast.UnaryOp | ast.Constant)


def _constants(value: object, parent: ast.AST) -> Iterator[ast.Constant]:
    match value:
        case bool():
            yield ast.Constant(value=not value)
        case int() | float():
            # Of a large number one more is none.
            yield ast.Constant(value=value + 1 if abs(value) < 1e6 else value * 1.5)
            # Its other neighbour; at and below 1 that is mostly another fault altogether, a length of -1.
            if isinstance(value, int) and value > 1:
                yield ast.Constant(value=value - 1)
        case str() if isinstance(parent, ast.Compare | ast.Subscript):
            yield ast.Constant(value=f"{value}_")


def _of_text(node: ast.BinOp) -> bool:
    sides = (node.left, node.right)
    return any(
        isinstance(n, ast.JoinedStr) or (isinstance(n, ast.Constant) and isinstance(n.value, str)) for n in sides
    )
