"""The values of Python's expressions, as far as they follow without running anything."""

from __future__ import annotations

import ast
import copy
import operator
from collections.abc import Callable
from typing import Any

from loadahead.scenarios.smp.python_tables import CHANGED, settled, tables_of
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
# Calls that only read what they are handed, and whose results hold none of it.
_TELLING = {"print", "len", "str", "repr", "format", "dumps", "dump", "pprint", "pformat", "isinstance", "type", "id"}
_TELLING |= {"bool", "int", "float", "sum", "min", "max", "any", "all"}
_TELLING_METHODS = _TELLING | {"keys", "debug", "info", "warning", "error", "critical", "exception", "log", "write"}
_TELLING_METHODS |= {"join", "startswith", "endswith", "lower", "upper"}
# Calls that only read as well, and whose results may hold what they are handed.
_PASSING = frozenset(
    ("dict", "list", "tuple", "set", "sorted", "enumerate", "zip", "reversed", "iter", "next", "copy", "deepcopy")
)
_PASSING_METHODS = frozenset(("items", "values", "get", "copy", "deepcopy"))
# What an estimator is given by these names it keeps and does not change.
OF_ESTIMATOR = ("distribution", "hyperparameters")

Scope = dict[str, Any]


def called(call: ast.Call) -> str:
    """Return the last name of what is called."""
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def makes_estimator(call: ast.Call) -> bool:
    """Return whether a call makes an object, e.g. an estimator, that is given how it is to be distributed."""
    return called(call)[:1].isupper() and any(word.arg in OF_ESTIMATOR for word in call.keywords)


def only_reads(call: ast.Call) -> bool:
    """Return whether a call is known to change nothing that it is handed."""
    is_method, name = isinstance(call.func, ast.Attribute), called(call)
    if any(word.arg == "key" for word in call.keywords):  # it calls that
        return False
    if makes_estimator(call) or name in (_TELLING_METHODS if is_method else _TELLING):
        return True
    return name in (_PASSING_METHODS if is_method else _PASSING)


def tables_in(node: ast.AST, scope: Scope) -> list[dict[Any, Any]]:
    """Return the dictionaries that an expression may be or hold, as far as they are known; each may come twice."""
    match node:
        case ast.Name() | ast.Subscript():
            found, known = _looked_up(node, scope)
            if known:
                return tables_of(found)
        case ast.Compare() | ast.JoinedStr() | ast.Constant():
            return []
        case ast.Call() if makes_estimator(node):
            return []
        case ast.Call() if called(node) in (_TELLING_METHODS if isinstance(node.func, ast.Attribute) else _TELLING):
            return []
    return [table for child in ast.iter_child_nodes(node) for table in tables_in(child, scope)]


def _looked_up(node: ast.AST, scope: Scope) -> tuple[Any, bool]:
    """Return what a name, or constant keys of one, stand for, and whether that is known."""
    match node:
        case ast.Name(id=name):
            return scope.get(name), True
        case ast.Subscript(value=holder, slice=ast.Constant(value=key)):
            table, known = _looked_up(holder, scope)
            if known and isinstance(table, dict) and CHANGED not in table:
                return table.get(key), True
    return None, False


def not_known(node: ast.AST, scope: Scope | None = None) -> NotKnown:
    """Return what stands for an expression whose value only running it would tell."""
    may_be = () if scope is None else tuple({id(table): table for table in tables_in(node, scope)}.values())
    return NotKnown(getattr(node, "lineno", 0), ast.unparse(node), may_be)


def value_of(node: ast.expr, scope: Scope) -> Any:
    """Return the value of an expression as far as it follows without running anything."""
    match node:
        case ast.Constant(value=value) if isinstance(value, bool | int | float | str) or value is None:
            return value
        case ast.Name(id=name) if name in scope:
            known = scope[name]
            if isinstance(known, NotKnown):
                return NotKnown(node.lineno, f"{name} = {known.text}", known.may_be)
            return known
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [value_of(part, scope) for part in parts]
        case ast.Dict():
            return _dictionary(node, scope)
        case ast.JoinedStr(values=parts):
            return _text(node, parts, scope)
        case ast.Call():
            return _call(node, scope)
        case ast.UnaryOp(op=op, operand=operand):
            value = value_of(operand, scope)
            return _UNARY[type(op)](value) if _is_plain(value) and type(op) in _UNARY else not_known(node, scope)
        case ast.BinOp():
            return _arithmetic(node, scope)
        case ast.Subscript(value=holder, slice=index):
            table, key = value_of(holder, scope), value_of(index, scope)
            if isinstance(table, dict) and CHANGED not in table and isinstance(key, str) and key in table:
                return table[key]
    return not_known(node, scope)


def _dictionary(node: ast.Dict, scope: Scope) -> Any:
    out: dict[Any, Any] = {}
    for key, value in zip(node.keys, node.values, strict=True):
        made = value_of(value, scope)
        if key is None:
            if not isinstance(made, dict):
                return not_known(node, scope)
            out |= made
            continue
        name = value_of(key, scope)
        if not isinstance(name, str | int):
            return not_known(node, scope)
        out[name] = made
    return out


def _text(node: ast.JoinedStr, parts: list[ast.expr], scope: Scope) -> Any:
    """Return a formatted text whose parts are known texts and whole numbers, put in as they are."""
    out = []
    for part in parts:
        value = value_of(part.value if isinstance(part, ast.FormattedValue) else part, scope)
        as_it_is = not isinstance(part, ast.FormattedValue) or (part.conversion == -1 and part.format_spec is None)
        if not as_it_is or not isinstance(value, str | int) or (isinstance(value, int) and not _is_plain(value)):
            return not_known(node, scope)
        out.append(str(value))
    return "".join(out)


def _call(node: ast.Call, scope: Scope) -> Any:
    name, arguments = called(node), [value_of(one, scope) for one in node.args]
    if name == "deepcopy" and len(arguments) == 1 and not node.keywords:
        return settled(arguments[0])
    if isinstance(node.func, ast.Attribute):
        return _method(node, name, arguments, scope)
    if name == "dict":
        parts = [*arguments, *(value_of(word.value, scope) for word in node.keywords if word.arg is None)]
        if not all(isinstance(part, dict) for part in parts):
            return not_known(node, scope)
        named = {word.arg: value_of(word.value, scope) for word in node.keywords if word.arg is not None}
        return {key: value for part in (*parts, named) for key, value in part.items()}
    if name in _CONVERSIONS and len(arguments) == 1 and not node.keywords and _is_plain(arguments[0]):
        return _CONVERSIONS[name](arguments[0])
    return not_known(node, scope)


def _method(node: ast.Call, name: str, arguments: list[Any], scope: Scope) -> Any:
    """Return what a dictionary's ``copy`` and ``get`` give."""
    assert isinstance(node.func, ast.Attribute)
    table = value_of(node.func.value, scope)
    if not isinstance(table, dict) or node.keywords:
        return not_known(node, scope)
    if name == "copy" and not arguments:
        return copy.copy(table)
    if name == "get" and len(arguments) in (1, 2) and isinstance(arguments[0], str) and CHANGED not in table:
        return table.get(*arguments)
    return not_known(node, scope)


def _arithmetic(node: ast.BinOp, scope: Scope) -> Any:
    left, right = value_of(node.left, scope), value_of(node.right, scope)
    if isinstance(left, str) and isinstance(right, str) and isinstance(node.op, ast.Add):
        return left + right
    if isinstance(left, dict) and isinstance(right, dict) and isinstance(node.op, ast.BitOr):
        return left | right
    function = _BINARY.get(type(node.op))
    if function is None or not (_is_plain(left) and _is_plain(right)):
        return not_known(node, scope)
    if isinstance(node.op, ast.Pow) and not 0 <= right <= 64:
        return not_known(node, scope)
    try:
        return function(left, right)
    except (ArithmeticError, ValueError):
        return not_known(node, scope)


def _is_plain(value: Any) -> bool:
    """Return whether a value is a number of a size that options have; True and False count as 1 and 0."""
    return isinstance(value, bool | int | float) and abs(value) <= _LARGEST
