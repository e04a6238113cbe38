"""Goes through a Python file's statements in order, without running any, and collects the options that they give.

What a statement does to a name or a dictionary is followed where it is plain. Where it is not, what it may have changed
is not known from then on: a dictionary that is handed to a call, one whose key is computed, a name that a function
sets. A function is gone through where it stands and again after all that is around it, as it may be called at any time.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from loadahead.scenarios.smp.literals import Scope, called, not_known, only_reads, tables_in, value_of
from loadahead.scenarios.smp.python_tables import CHANGED, settled, tables_of
from loadahead.scenarios.smp.values import NotKnown

SMP, MPI, DISTRIBUTION = "smp_options", "mpi_options", "distribution"
TRACKED = (SMP, MPI, DISTRIBUTION)
INSTANCE = ("instance_type", "instance_count")
# The SDK's class whose arguments are the parameters of v2.
SMP_CLASS = "SMP"
# Calls after which any name may stand for something else.
_ANY_NAME = ("exec", "globals", "locals")

_Table = dict[Any, Any]
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Comprehension = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)


@dataclass(frozen=True, slots=True)
class Given:
    """Holds something that was given, and the line where."""

    line: int
    value: Any


@dataclass(slots=True)
class Found:
    """Holds what a file gives, in its order: to calls, to the SDK's class, and to names."""

    distributions: list[Given] = field(default_factory=list)
    classes: list[Given] = field(default_factory=list)
    instances: list[Given] = field(default_factory=list)
    assigned: dict[str, list[Given]] = field(default_factory=dict)


@dataclass(slots=True)
class _Functions:
    """Says which names of a file its functions change: ``tables`` what they hold, ``names`` what they stand for."""

    tables: dict[str, NotKnown] = field(default_factory=dict)
    names: dict[str, NotKnown] = field(default_factory=dict)


def found_in(tree: ast.Module) -> Found:
    """Return what a file gives."""
    defined = {node.name for node in ast.walk(tree) if isinstance(node, _Function | ast.ClassDef)}
    changed = _Functions()
    while True:
        # What functions change is known once all are gone through, and counts from the start.
        walk = _Walk(frozenset(defined), changed)
        walk.whole(tree)
        more = _Functions({**walk.seen.tables, **changed.tables}, {**walk.seen.names, **changed.names})
        if len(more.tables) == len(changed.tables) and len(more.names) == len(changed.names):
            return walk.found
        changed = more


@dataclass(slots=True)
class _Walk:
    """Goes through statements.

    Attributes:
        defined: names of the file's functions and classes, which may be those of calls that are known to read only.
        changed: what functions are known to change; ``seen``: what they were seen to change.
        outside: the dictionaries that a function has from outside it, by identity; ``touched``: those it changed.
        declared: the names that the function has declared to be those of its surroundings.
        repeated: whether the statements are in a loop that is gone through twice; ``at_end``: all others are done.
    """

    defined: frozenset[str]
    changed: _Functions
    seen: _Functions = field(default_factory=_Functions)
    found: Found = field(default_factory=Found)
    outside: frozenset[int] = frozenset()
    touched: dict[int, NotKnown] = field(default_factory=dict)
    declared: frozenset[str] = frozenset()
    later: list[tuple[_Function, Scope, Scope | None]] = field(default_factory=list)
    repeated: bool = False
    at_end: bool = False

    def whole(self, tree: ast.Module) -> None:
        """Go through a file, then through its functions once more."""
        self._walk(tree.body, {}, certain=True)
        self.at_end = True
        for function, scope, around in self.later:
            self._body_of(function, scope, around)

    def _walk(self, body: Iterable[ast.stmt], scope: Scope, certain: bool, around: Scope | None = None) -> None:
        """Go through statements in order; ``certain``: they are run whenever the file is.

        ``around`` is the scope around the class whose body they are.
        """
        for statement in body:
            self._statement(statement, scope, certain, around)

    def _statement(self, statement: ast.stmt, scope: Scope, certain: bool, around: Scope | None) -> None:
        if self._is_change(statement, scope, certain):
            return
        for expression in _own_expressions(statement):
            self._expression(expression, scope)
        match statement:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self._assign(target, value, scope, certain)
            case ast.AnnAssign(target=target, value=value) if value is not None:
                self._assign(target, value, scope, certain)
            case ast.AugAssign():
                self._augment(statement, scope, certain)
            case ast.Delete(targets=targets):
                for target in targets:
                    self._remove(target, scope, certain)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                for name in names:
                    if name.name == "*":
                        self._any_name(statement, scope)
                    else:
                        self._bind((name.asname or name.name).partition(".")[0], not_known(statement), scope, statement)
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                self.declared |= frozenset(names)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._function(statement, scope, around)
            case ast.ClassDef():
                inner = dict(scope)
                for word in statement.keywords:
                    self._lose(tables_in(word.value, scope), word)
                self._walk(statement.body, inner, certain, around=scope)
                whole = NotKnown(statement.lineno, statement.name, tuple(_own_tables(inner, scope)))
                self._bind(statement.name, whole, scope, statement)
            case ast.Return(value=value) if value is not None:
                self._leaves(value, scope)
            case _:
                self._compound(statement, scope, certain)

    def _compound(self, statement: ast.stmt, scope: Scope, certain: bool) -> None:
        """Go through the statements inside one."""
        match statement:
            case ast.If():
                is_main = ast.unparse(statement.test) == "__name__ == '__main__'"
                self._walk(statement.body, scope, certain and is_main)
                self._walk(statement.orelse, scope, False)
            case ast.For() | ast.AsyncFor():
                self._bind_all(statement.target, tables_in(statement.iter, scope), scope)
                self._loop([*statement.body, *statement.orelse], scope)
            case ast.While():
                self._loop([*statement.body, *statement.orelse], scope)
            case ast.With() | ast.AsyncWith():
                calls = [item.context_expr for item in statement.items if isinstance(item.context_expr, ast.Call)]
                for item in statement.items:
                    if item.optional_vars is not None:
                        self._bind_all(item.optional_vars, tables_in(item.context_expr, scope), scope)
                # Its statements may be left at any of them.
                is_left = any(called(call) == "suppress" for call in calls)
                self._walk(statement.body, scope, certain and not is_left)
            case ast.Try() | ast.TryStar():
                self._walk(statement.body, scope, certain and not statement.handlers)
                for handler in statement.handlers:
                    if handler.name is not None:
                        self._bind(handler.name, not_known(handler), scope, handler)
                    self._walk(handler.body, scope, False)
                self._walk(statement.orelse, scope, certain and not statement.handlers)
                self._walk(statement.finalbody, scope, certain)
            case ast.Match():
                tables = tables_in(statement.subject, scope)
                for one in statement.cases:
                    for name in _captured(one.pattern):
                        self._bind(name, NotKnown(one.pattern.lineno, name, tuple(tables)), scope, one.pattern)
                    if one.guard is not None:
                        self._expression(one.guard, scope)
                    self._walk(one.body, scope, False)

    def _loop(self, body: list[ast.stmt], scope: Scope) -> None:
        """Go through a loop's statements twice, as each may come after all others; not those of a loop inside it.

        The loops of a function that stands in a loop are gone through twice when all around it is done.
        """
        first, self.repeated = not self.repeated, True
        self._walk(body, scope, False)
        if first:
            self._walk(body, scope, False)
            self.repeated = False

    def _function(self, function: _Function, scope: Scope, around: Scope | None) -> None:
        defaults = [*function.args.defaults, *(one for one in function.args.kw_defaults if one is not None)]
        for default in defaults:
            self._lose(tables_in(default, scope), default)
        self._body_of(function, scope, around)
        if not self.at_end:
            self.later.append((function, scope, around))
        # That a file has a function of this name is no value.
        scope.pop(function.name, None)

    def _body_of(self, function: _Function, scope: Scope, around: Scope | None) -> None:
        """Go through a function's statements, and note what they change of what is outside it.

        One of a class, whose scope is around ``scope``, reaches the class's dictionaries by its first argument.
        """
        inner = dict(scope)
        arguments = function.args
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        for argument in (*named, arguments.vararg, arguments.kwarg):
            if argument is not None:
                inner[argument.arg] = not_known(argument)
        if around is not None and named:
            inner[named[0].arg] = NotKnown(named[0].lineno, named[0].arg, tuple(_own_tables(scope, around)))
        outside, touched, declared = self.outside, self.touched, self.declared
        self.outside = outside | {id(table) for value in scope.values() for table in tables_of(value)}
        self.touched, self.declared = {}, frozenset()
        self._walk(function.body, inner, certain=True)
        self._note(scope)
        self.outside, self.declared = outside, declared
        self.touched = touched | self.touched

    def _note(self, scope: Scope) -> None:
        """Note the names of what a function has changed, or else the names of what holds it."""
        for number, why in self.touched.items():
            names = [name for name, value in scope.items() if isinstance(value, dict) and id(value) == number]
            for name in names or scope:
                if any(id(table) == number for table in tables_of(scope[name])):
                    self.seen.tables.setdefault(name, why)

    # Names

    def _bind(self, name: str, made: Any, scope: Scope, node: ast.AST) -> None:
        """Let a name stand for a value."""
        if name in self.declared:  # the function sets a name of its surroundings, whenever it is called
            self.seen.names.setdefault(name, NotKnown(getattr(node, "lineno", 0), _first_line(node)))
        if name in self.changed.names:
            why = self.changed.names[name]
            made = NotKnown(why.line, why.text, tuple(tables_of(made)))
        if name in self.changed.tables:
            for table in tables_of(made):
                table.setdefault(CHANGED, self.changed.tables[name])
        scope[name] = made
        if name in TRACKED:
            self.found.assigned.setdefault(name, []).append(Given(getattr(node, "lineno", 0), made))

    def _bind_all(self, target: ast.expr, tables: Iterable[_Table], scope: Scope) -> None:
        """Let the names of a target stand for something that is not known, and may be or hold these dictionaries."""
        for node in ast.walk(target):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self._bind(node.id, NotKnown(node.lineno, ast.unparse(target), tuple(tables)), scope, node)
            elif isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store):
                self._lose([*tables, *tables_in(node.value, scope)], target)

    def _any_name(self, node: ast.AST, scope: Scope) -> None:
        """Let every name stand for something that is not known."""
        for name in scope:
            tables = tables_of(scope[name])
            self._lose(tables, node)
            self._bind(name, NotKnown(getattr(node, "lineno", 0), _first_line(node), tuple(tables)), scope, node)

    def _assign(self, target: ast.expr, value: ast.expr, scope: Scope, certain: bool) -> None:
        made = value_of(value, scope)
        match target:
            case ast.Name(id=name):
                self._assign_name(name, made, value, scope, certain)
            case ast.Subscript():
                self._put(target, made, scope, certain)
            case ast.Attribute():  # what is done by way of the object is not followed
                self._lose(tables_of(made), target)
            case ast.Tuple(elts=targets) | ast.List(elts=targets):
                values = value.elts if isinstance(value, ast.Tuple | ast.List) else []
                starred = any(isinstance(one, ast.Starred) for one in (*targets, *values))
                if len(values) != len(targets) or starred:
                    self._bind_all(target, tables_of(made), scope)
                elif all(isinstance(one, ast.Name) for one in targets):  # all values come before any name
                    for one, part in zip(targets, made, strict=True):
                        assert isinstance(one, ast.Name)
                        self._assign_name(one.id, part, value, scope, certain)
                else:
                    for one, of_one in zip(targets, values, strict=True):
                        self._assign(one, of_one, scope, certain)

    def _assign_name(self, name: str, made: Any, value: ast.expr, scope: Scope, certain: bool) -> None:
        if not certain and name in scope and scope[name] != made and name not in TRACKED:
            text = ast.unparse(value)
            made = NotKnown(value.lineno, text, (*tables_of(made), *tables_of(scope[name])))
        self._bind(name, made, scope, value)

    def _augment(self, statement: ast.AugAssign, scope: Scope, certain: bool) -> None:
        """Do what ``|=`` does to a dictionary, and ``+=`` and the like to a number."""
        match statement.target:
            case ast.Name(id=name):
                read: ast.expr = ast.copy_location(ast.Name(name, ast.Load()), statement.target)
            case target:
                read = target
        before = value_of(read, scope)
        if isinstance(before, dict):
            self._merge(before, value_of(statement.value, scope), statement, certain)
            return
        self._lose(tables_of(before), statement)
        after = value_of(ast.copy_location(ast.BinOp(read, statement.op, statement.value), statement), scope)
        made = not_known(statement, scope) if not certain or isinstance(after, NotKnown) else after
        if isinstance(statement.target, ast.Name):
            self._bind(statement.target.id, made, scope, statement)
        elif isinstance(statement.target, ast.Subscript):
            self._put(statement.target, made, scope, certain)

    # Dictionaries

    def _is_change(self, statement: ast.stmt, scope: Scope, certain: bool) -> bool:
        """Do what a statement does that is one call of a dictionary's method, and return whether it is."""
        match statement:
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=holder, attr=method), args=args, keywords=words)):
                table = value_of(holder, scope)
            case _:
                return False
        if not isinstance(table, dict) or method not in ("update", "setdefault", "__setitem__", "pop"):
            return False
        for part in (holder, *args, *(word.value for word in words)):
            self._expression(part, scope)
        given = [value_of(one, scope) for one in args]
        match method, given:
            case "update", ([] | [_]):
                named = {word.arg: value_of(word.value, scope) for word in words if word.arg is not None}
                for part in (*given, *(value_of(word.value, scope) for word in words if word.arg is None), named):
                    self._merge(table, part, statement, certain)
            case "__setitem__", [str() | int() as key, made]:
                self._set(table, key, made, certain, statement)
            case "setdefault", [str() | int() as key, made]:
                if key not in table:
                    self._set(table, key, made, certain, statement)
            case "pop", [str() | int() as key, *_]:
                self._unset(table, key, certain, statement)
            case _:
                self._lose(tables_of([table, *given]), statement)
        return True

    def _put(self, target: ast.Subscript, made: Any, scope: Scope, certain: bool) -> None:
        """Set a key of a dictionary."""
        table, key = value_of(target.value, scope), value_of(target.slice, scope)
        if isinstance(table, dict) and isinstance(key, str | int):
            self._set(table, key, made, certain, target)
        else:
            self._lose([*tables_of(table), *tables_of(made)], target)

    def _set(self, table: _Table, key: Any, made: Any, certain: bool, node: ast.AST) -> None:
        """Set a key; where the file may or may not do so, it is not known any more."""
        if self._is_outside(table, node):
            certain = False
        before = table.get(key)
        if not certain and before != made:
            line, text = getattr(node, "lineno", 0), _first_line(node)
            made = NotKnown(line, text, (*tables_of(before), *tables_of(made)))
        table[key] = made

    def _unset(self, table: _Table, key: Any, certain: bool, node: ast.AST) -> None:
        """Remove a key where there is one."""
        if key not in table:
            return
        if self._is_outside(table, node) or not certain:
            self._set(table, key, NotKnown(getattr(node, "lineno", 0), _first_line(node)), True, node)
        else:
            del table[key]

    def _merge(self, table: _Table, part: Any, node: ast.AST, certain: bool) -> None:
        """Put the keys of one dictionary into another."""
        if not isinstance(part, dict):
            self._lose([*tables_of(table), *tables_of(part)], node)
            return
        for key, value in part.items():
            self._set(table, key, value, certain, node)

    def _remove(self, target: ast.expr, scope: Scope, certain: bool) -> None:
        """Do what ``del`` does to a name, or to a key of a dictionary."""
        match target:
            case ast.Name(id=name):
                if name in scope:
                    scope[name] = NotKnown(target.lineno, f"del {name}", tuple(tables_of(scope[name])))
            case ast.Subscript():
                table, key = value_of(target.value, scope), value_of(target.slice, scope)
                if isinstance(table, dict) and isinstance(key, str | int):
                    self._unset(table, key, certain, target)
                else:
                    self._lose(tables_of(table), target)
            case ast.Tuple(elts=targets) | ast.List(elts=targets):
                for one in targets:
                    self._remove(one, scope, certain)

    def _lose(self, tables: Iterable[_Table], node: ast.AST) -> None:
        """Let nothing in these dictionaries, and in those that they hold, be known any more."""
        for table in tables_of(list(tables)):
            self._is_outside(table, node)
            table.setdefault(CHANGED, _changed_by(node))

    def _is_outside(self, table: _Table, node: ast.AST) -> bool:
        """Return whether a dictionary is from outside the function that changes it, which is noted."""
        if id(table) not in self.outside:
            return False
        self.touched.setdefault(id(table), _changed_by(node))
        return True

    def _leaves(self, value: ast.AST, scope: Scope) -> None:
        """Note that a function hands out what is outside it, so that who calls it may change that."""
        self._lose([table for table in tables_in(value, scope) if id(table) in self.outside], value)

    # Expressions

    def _expression(self, node: ast.AST, scope: Scope) -> None:
        """Look at the calls of an expression, inner ones first, and at the names that it sets."""
        match node:
            case ast.Lambda():
                inner = dict(scope)
                for argument in ast.walk(node.args):
                    if isinstance(argument, ast.arg):
                        inner.pop(argument.arg, None)
                self._lose([table for one in node.args.defaults for table in tables_in(one, scope)], node)
                self._expression(node.body, inner)
                return
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                self._comprehension(node, scope)
                return
        for child in ast.iter_child_nodes(node):
            self._expression(child, scope)
        match node:
            case ast.NamedExpr(target=ast.Name(id=name), value=value):
                self._bind(name, not_known(node, scope), scope, value)
            case ast.Yield() | ast.YieldFrom():
                self._leaves(node, scope)
            case ast.Call():
                self._give(node, scope)
                self._hand(node, scope)

    def _comprehension(self, node: ast.AST, scope: Scope) -> None:
        assert isinstance(node, _Comprehension)
        inner = dict(scope)
        for part in node.generators:
            self._expression(part.iter, inner)
            tables = tuple(tables_in(part.iter, inner))
            for one in ast.walk(part.target):
                if isinstance(one, ast.Name):
                    inner[one.id] = NotKnown(one.lineno, one.id, tables)
            for condition in part.ifs:
                self._expression(condition, inner)
        for one in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
            self._expression(one, inner)
        for inside in ast.walk(node):
            if isinstance(inside, ast.NamedExpr) and isinstance(inside.target, ast.Name):
                self._bind(inside.target.id, not_known(inside, inner), scope, inside)

    def _give(self, call: ast.Call, scope: Scope) -> None:
        """Collect what a call is given: an estimator's arguments, and those of the SDK's class for v2."""
        given: dict[str, Any] = {}
        hidden = None
        for word in call.keywords:
            value = value_of(word.value, scope)
            if word.arg is not None:
                given[word.arg] = value
            elif isinstance(value, dict) and CHANGED not in value:
                given |= {key: one for key, one in value.items() if isinstance(key, str)}
            else:
                hidden = NotKnown(word.value.lineno, f"perhaps in **{ast.unparse(word.value)}")
        instance = {name: settled(given[name]) for name in INSTANCE if name in given}
        if DISTRIBUTION in given:
            if hidden is not None:  # what is not written beside it may be in there
                instance = {name: instance.get(name, hidden) for name in INSTANCE}
            value = settled(given[DISTRIBUTION])
            whole = {DISTRIBUTION: value, **instance} if isinstance(value, dict) else value
            self.found.distributions.append(Given(call.lineno, whole))
        if instance:
            self.found.instances.append(Given(call.lineno, instance))
        if called(call) == SMP_CLASS:
            whole = settled(given)
            self.found.classes.append(Given(call.lineno, whole if hidden is None else hidden))

    def _hand(self, call: ast.Call, scope: Scope) -> None:
        """Let what a call is handed be changed by it, unless the call is known to read only."""
        name = called(call)
        is_whole = name == "vars" and not call.args
        if isinstance(call.func, ast.Name) and (name in _ANY_NAME or is_whole):
            self._any_name(call, scope)
            return
        if name == SMP_CLASS or (only_reads(call) and name not in self.defined):
            return
        handed = [*call.args, *(word.value for word in call.keywords)]
        if isinstance(call.func, ast.Attribute) and name not in self.defined:
            match name, [value_of(one, scope) for one in call.args], value_of(call.func.value, scope):
                case (("pop" | "setdefault"), [str() as key, *_], dict() as table):
                    self._set(table, key, not_known(call), False, call)
                case _:
                    handed.append(call.func.value)
        elif not isinstance(call.func, ast.Attribute) and name not in self.defined:
            handed.append(call.func)  # e.g. a name of a dictionary's method
        self._lose([table for one in handed for table in tables_in(one, scope)], call)


def _own_tables(scope: Scope, around: Scope) -> list[_Table]:
    """Return the dictionaries that names of a class stand for."""
    return tables_of([value for name, value in scope.items() if value is not around.get(name)])


def _changed_by(node: ast.AST) -> NotKnown:
    return NotKnown(getattr(node, "lineno", 0), f"changed by {_first_line(node)}")


def _first_line(node: ast.AST) -> str:
    """Return the code of a statement or an expression, and of one with others inside its first line."""
    return ast.unparse(node).partition("\n")[0]


def _captured(pattern: ast.pattern) -> Iterator[str]:
    """Yield the names that a pattern sets."""
    for node in ast.walk(pattern):
        match node:
            case ast.MatchAs(name=str() as name) | ast.MatchStar(name=str() as name):
                yield name
            case ast.MatchMapping(rest=str() as name):
                yield name


def _own_expressions(statement: ast.stmt) -> Iterator[ast.expr]:
    """Yield the expressions of a statement that are no part of another statement inside it."""
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, ast.expr):
            yield child
        elif isinstance(child, ast.withitem):
            yield child.context_expr
        elif isinstance(child, ast.keyword):  # of a class
            yield child.value
