"""The values of Python's expressions, as far as they follow without running anything."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from loadahead.scenarios.smp.values import NotKnown

# Arithmetic beyond this is no option's.
_LARGEST = 10**18

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
}
_CONVERSIONS: dict[str, Callable[[Any], Any]] = {"int": int, "float": float, "bool": bool}

Scope = dict[str, Any]


def called(call: ast.Call) -> str:
    """Return the last name of what is called."""
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def not_known(node: ast.AST) -> NotKnown:
    """Return what stands for an expression whose value only running it would tell."""
    return NotKnown(getattr(node, "lineno", 0), ast.unparse(node))


def value_of(node: ast.expr, scope: Scope) -> Any:
    """Return the value of an expression as far as it follows without running anything."""
    match node:
        case ast.Constant(value=value) if isinstance(value, bool | int | float | str) or value is None:
            return value
        case ast.Name(id=name) if name in scope:
            known = scope[name]
            return NotKnown(node.lineno, f"{name} = {known.text}") if isinstance(known, NotKnown) else known
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [value_of(part, scope) for part in parts]
        case ast.Dict():
            return _dictionary(node, scope)
        case ast.Call():
            return _call(node, scope)
        case ast.UnaryOp(op=op, operand=operand):
            value = value_of(operand, scope)
            return _UNARY[type(op)](value) if _is_plain(value) and type(op) in _UNARY else not_known(node)
        case ast.BinOp():
            return _arithmetic(node, scope)
        case ast.Subscript(value=holder, slice=index):
            table, key = value_of(holder, scope), value_of(index, scope)
            return table[key] if isinstance(table, dict) and isinstance(key, str) and key in table else not_known(node)
    return not_known(node)


def _dictionary(node: ast.Dict, scope: Scope) -> Any:
    out: dict[Any, Any] = {}
    for key, value in zip(node.keys, node.values, strict=True):
        made = value_of(value, scope)
        if key is None:
            if not isinstance(made, dict):
                return not_known(node)
            out |= made
            continue
        name = value_of(key, scope)
        if not isinstance(name, str | int):
            return not_known(node)
        out[name] = made
    return out


def _call(node: ast.Call, scope: Scope) -> Any:
    name, arguments = called(node), [value_of(one, scope) for one in node.args]
    if isinstance(node.func, ast.Attribute):
        return not_known(node)
    if name == "dict":
        parts = [*arguments, *(value_of(word.value, scope) for word in node.keywords if word.arg is None)]
        if not all(isinstance(part, dict) for part in parts):
            return not_known(node)
        named = {word.arg: value_of(word.value, scope) for word in node.keywords if word.arg is not None}
        return {key: value for part in (*parts, named) for key, value in part.items()}
    if name in _CONVERSIONS and len(arguments) == 1 and not node.keywords and _is_plain(arguments[0]):
        return _CONVERSIONS[name](arguments[0])
    return not_known(node)


def _arithmetic(node: ast.BinOp, scope: Scope) -> Any:
    left, right = value_of(node.left, scope), value_of(node.right, scope)
    if isinstance(left, str) and isinstance(right, str) and isinstance(node.op, ast.Add):
        return left + right
    function = _BINARY.get(type(node.op))
    if function is None or not (_is_plain(left) and _is_plain(right)):
        return not_known(node)
    if isinstance(node.op, ast.Pow) and not 0 <= right <= 64:
        return not_known(node)
    try:
        return function(left, right)
    except (ArithmeticError, ValueError):
        return not_known(node)


def _is_plain(value: Any) -> bool:
    """Return whether a value is a number of a size that options have; True and False count as 1 and 0."""
    return isinstance(value, bool | int | float) and abs(value) <= _LARGEST
