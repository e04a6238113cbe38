"""Finds the options in a Python file, which is read and never run.

Values are literals, names that were given literals earlier in the file, ``dict(...)``, ``int(...)``, ``float(...)``
and arithmetic on those. All else is a :class:`~loadahead.scenarios.smp.values.NotKnown`, which matters where its key
does.
"""

from __future__ import annotations

import ast
import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from loadahead.scenarios.smp.literals import Scope, called, not_known, value_of
from loadahead.scenarios.smp.values import NotKnown
from loadahead.sim.errors import InputError, one_line

SMP, MPI, DISTRIBUTION = "smp_options", "mpi_options", "distribution"
_TRACKED = (SMP, MPI, DISTRIBUTION)
INSTANCE = ("instance_type", "instance_count")
# The SDK's class whose arguments are the parameters of v2.
SMP_CLASS = "SMP"


def options_in(text: str, source: str) -> dict[str, Any]:
    """Return the options that a Python file's text gives, as its dictionaries have them.

    Raise InputError in one line where the text is no Python, gives no options, or gives several that differ.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an escape that is none
            tree = ast.parse(text)
    except SyntaxError as error:
        line = "" if error.lineno is None else f" line {error.lineno}"
        raise InputError(f"{source}{line}: is not Python ({one_line(error.msg, 80)}); mend it") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{source}: is not Python ({one_line(error, 80)}); mend it") from error
    found = _File(source)
    try:
        found.walk(tree.body, {}, certain=True)
        return found.options()
    except RecursionError as error:
        raise InputError(f"{source}: is nested too deeply; give the options alone") from error


@dataclass(slots=True)
class _Given:
    """Holds something that was given, and the line where."""

    line: int
    value: Any


@dataclass(slots=True)
class _File:
    """Collects what a file gives, in its order."""

    source: str
    distributions: list[_Given] = field(default_factory=list)
    classes: list[_Given] = field(default_factory=list)
    instances: list[_Given] = field(default_factory=list)
    assigned: dict[str, list[_Given]] = field(default_factory=dict)

    def options(self) -> dict[str, Any]:
        """Return the one set of options of the file."""
        calls = [given for given in self.distributions if _is_model_parallel(given.value)]
        if calls:
            found: dict[str, Any] = self._the_one(calls, "distribution")
            return found
        unknown = next((given.value for given in self.distributions if isinstance(given.value, NotKnown)), None)
        options: dict[str, Any] = {}
        if self.classes:
            options = {SMP: self._the_one(self.classes, f"{SMP_CLASS}(...)")}
        elif SMP in self.assigned:
            options = {name: self._the_one(self.assigned[name], name) for name in (SMP, MPI) if name in self.assigned}
        else:
            named = [given for given in self.assigned.get(DISTRIBUTION, ()) if _is_model_parallel(given.value)]
            options = {DISTRIBUTION: self._the_one(named, DISTRIBUTION)} if named else {}
        if not options and unknown is not None:
            raise InputError(
                f"{self.source} line {unknown.line}: distribution is {one_line(unknown.text, 60)}, which only running "
                "the file would tell; write the dictionary"
            )
        if not options:
            raise InputError(
                f"{self.source}: has no options of SageMaker's model parallel library; it must have smp_options = "
                '{...}, or distribution={"smdistributed": {"modelparallel": ...}} in a call'
            )
        if self.instances and all(given.value == self.instances[0].value for given in self.instances):
            options |= self.instances[0].value
        return options

    def _the_one(self, found: list[_Given], what: str) -> Any:
        """Return what was given, once or several times alike."""
        first = found[0]
        for other in found[1:]:
            if other.value != first.value:
                raise InputError(
                    f"{self.source}: lines {first.line} and {other.line} give {what} different values; leave the one "
                    "to be taken"
                )
        value = first.value
        if isinstance(value, NotKnown):
            raise InputError(
                f"{self.source} line {value.line}: {what} is {one_line(value.text, 60)}, which only running the file "
                "would tell; write the dictionary"
            )
        return value

    def walk(self, body: list[ast.stmt], scope: Scope, certain: bool) -> None:
        """Go through statements in order; ``certain``: they are run whenever the file is."""
        for statement in body:
            self._statement(statement, scope, certain)

    def _statement(self, statement: ast.stmt, scope: Scope, certain: bool) -> None:
        for expression in _own_expressions(statement):
            self._calls(expression, scope)
        match statement:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self._assign(target, value, scope, certain)
            case ast.AnnAssign(target=target, value=value) if value is not None:
                self._assign(target, value, scope, certain)
            case ast.AugAssign(target=ast.Name(id=name)):
                scope[name] = not_known(statement)
                if name in _TRACKED:
                    self.assigned.setdefault(name, []).append(_Given(statement.lineno, scope[name]))
            case ast.AugAssign(target=ast.Subscript() as target):
                self._put(target, not_known(statement), scope, certain)
            case ast.Delete(targets=targets):
                for target in targets:
                    self._remove(target, scope, certain)
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=holder, attr="update")) as call):
                self._update(holder, call, scope, certain)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                inner = dict(scope)
                arguments = statement.args
                for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                    inner[argument.arg] = not_known(argument)
                self.walk(statement.body, inner, certain)
                scope.pop(statement.name, None)
            case ast.ClassDef():
                self.walk(statement.body, dict(scope), certain)
            case ast.If():
                is_main = ast.unparse(statement.test) == "__name__ == '__main__'"
                self.walk(statement.body, scope, certain and is_main)
                self.walk(statement.orelse, scope, False)
            case ast.For() | ast.AsyncFor():
                for node in ast.walk(statement.target):
                    if isinstance(node, ast.Name):
                        scope[node.id] = not_known(statement.target)
                self.walk([*statement.body, *statement.orelse], scope, False)
            case ast.While():
                self.walk([*statement.body, *statement.orelse], scope, False)
            case ast.With() | ast.AsyncWith():
                self.walk(statement.body, scope, certain)
            case ast.Try():
                self.walk(statement.body, scope, certain)
                for handler in statement.handlers:
                    self.walk(handler.body, scope, False)
                self.walk([*statement.orelse, *statement.finalbody], scope, certain)

    def _assign(self, target: ast.expr, value: ast.expr, scope: Scope, certain: bool) -> None:
        made = value_of(value, scope)
        match target:
            case ast.Name(id=name):
                if not certain and name in scope and scope[name] != made and name not in _TRACKED:
                    made = not_known(value)
                scope[name] = made
                if name in _TRACKED:
                    self.assigned.setdefault(name, []).append(_Given(value.lineno, made))
            case ast.Subscript():
                self._put(target, made, scope, certain)
            case ast.Tuple(elts=targets) | ast.List(elts=targets):
                values = value.elts if isinstance(value, ast.Tuple | ast.List) else []
                for number, one in enumerate(targets):
                    if len(values) == len(targets):
                        self._assign(one, values[number], scope, certain)
                    elif isinstance(one, ast.Name):
                        scope[one.id] = not_known(value)

    def _put(self, target: ast.Subscript, made: Any, scope: Scope, certain: bool) -> None:
        """Set a key of a dictionary that is known; where the file may or may not do so, it is not known any more."""
        table, key = value_of(target.value, scope), value_of(target.slice, scope)
        if isinstance(table, dict) and isinstance(key, str | int):
            table[key] = made if certain or table.get(key) == made else not_known(target)

    def _remove(self, target: ast.expr, scope: Scope, certain: bool) -> None:
        """Remove a key of a dictionary that is known."""
        if not isinstance(target, ast.Subscript):
            return
        table, key = value_of(target.value, scope), value_of(target.slice, scope)
        if isinstance(table, dict) and isinstance(key, str | int) and key in table:
            if certain:
                del table[key]
            else:
                table[key] = not_known(target)

    def _update(self, holder: ast.expr, call: ast.Call, scope: Scope, certain: bool) -> None:
        """Do what ``update`` does to a dictionary that is known."""
        table = value_of(holder, scope)
        if not isinstance(table, dict):
            return
        named = {word.arg: word.value for word in call.keywords if word.arg is not None}
        parts = [
            *(value_of(one, scope) for one in call.args),
            {key: value_of(one, scope) for key, one in named.items()},
        ]
        for part in parts:
            for key, value in part.items() if isinstance(part, dict) else ():
                table[key] = value if certain or table.get(key) == value else not_known(call)

    def _calls(self, expression: ast.AST, scope: Scope) -> None:
        """Look at the calls of an expression: an estimator's arguments, and the SDK's class for v2."""
        for node in ast.walk(expression):
            if not isinstance(node, ast.Call):
                continue
            given = {word.arg: value_of(word.value, scope) for word in node.keywords if word.arg is not None}
            instance = {name: given[name] for name in INSTANCE if name in given}
            if DISTRIBUTION in given:
                value = copy.deepcopy(given[DISTRIBUTION])
                whole = {DISTRIBUTION: value, **instance} if isinstance(value, dict) else value
                self.distributions.append(_Given(node.lineno, whole))
            if instance:
                self.instances.append(_Given(node.lineno, instance))
            if called(node) == SMP_CLASS:
                self.classes.append(_Given(node.lineno, given))


def _is_model_parallel(value: Any) -> bool:
    """Return whether an estimator's arguments, or its ``distribution``, ask for the model parallel library."""
    if isinstance(value, dict) and DISTRIBUTION in value:
        value = value[DISTRIBUTION]
    return isinstance(value, dict) and "smdistributed" in value


def _own_expressions(statement: ast.stmt) -> Iterator[ast.expr]:
    """Yield the expressions of a statement that are no part of another statement inside it."""
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, ast.expr):
            yield child
        elif isinstance(child, ast.withitem):
            yield child.context_expr
