"""Jinja2 templates over JSON: the operator's templates, rendered with untrusted data."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NoReturn, TypeAlias

import jinja2
import jinja2.meta
from attrs import frozen
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from fingergw.core.text import clean
from fingergw.net.http.charsets import UTF_8, decode
from fingergw.net.workers.template_names import TemplateError

Json: TypeAlias = "dict[str, Json] | list[Json] | str | float | bool | None"
_NOT_JSON = "the body is not JSON, which the template needs"
_SCALARS = (str, int, float)


@frozen(eq=False, repr=False)
class _Method:
    """A method of a value in a template: it can be called, but not printed."""

    name: str
    method: Callable[..., object]

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self.method(*args, **kwargs)

    def __str__(self) -> str:
        raise TypeError(f'the JSON has no key "{self.name}" there')

    __repr__ = __str__


class _Environment(ImmutableSandboxedEnvironment):
    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return ``obj.attribute``: a key first, even if dict has a method of that name."""
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        found = super().getattr(obj, attribute)
        if callable(found) and not isinstance(found, jinja2.Undefined):
            return _Method(attribute, found)
        return found


def _finalize(value: object) -> object:
    if isinstance(value, str):
        return clean(value)
    if not isinstance(value, jinja2.Undefined):  # StrictUndefined raises its own error
        _refuse_others(value)
    return value


def _refuse_others(value: object) -> None:
    """Refuse all but text, numbers, lists and tables; Python would print others with their memory address."""
    if value is None:
        raise TypeError("a null cannot be printed; give a default, as in {{ x or 'nobody' }}")
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        for each in value:
            if each is not None:
                _refuse_others(each)
    elif not isinstance(value, _SCALARS):
        raise TypeError(f"a {type(value).__name__} cannot be printed; print text, a number, a list or a table")


def _environment() -> _Environment:
    environment = _Environment(undefined=jinja2.StrictUndefined, finalize=_finalize, autoescape=False)
    del environment.globals["lipsum"]  # no use for it
    return environment


_compiled = lru_cache(maxsize=256)(_environment().from_string)


def names_in(text: str, max_bytes: int) -> frozenset[str]:
    """Return the variables that a template uses.

    Its constants are evaluated, so the time and memory that this takes are unbounded: call it within limits.

    :param max_bytes: of the rendered text.
    :raises TemplateError: the template can never work.
    """
    environment = _environment()
    environment.globals = {}  # a placeholder may have the same name, and wins
    try:
        _compiled(text)
        tree = environment.parse(text)
        names = jinja2.meta.find_undeclared_variables(tree)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"expected a Jinja2 template: {error.message} (its line {error.lineno})") from None
    except RecursionError:
        raise TemplateError("expected a Jinja2 template that is nested less deeply") from None
    except MemoryError:
        raise
    except Exception as error:  # evaluating its constants can raise anything
        raise TemplateError(f"expected a Jinja2 template that can be compiled: {error}") from None
    for kind in (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends):
        for other in tree.find_all(kind):
            raise TemplateError(f"expected a template that includes no others (its line {other.lineno})")
    for node in tree.find_all(nodes.Expr):
        _refuse_large(node, max_bytes)
    return frozenset(names)


def _refuse_large(node: nodes.Expr, max_bytes: int) -> None:
    try:
        value = node.as_const()
    except nodes.Impossible as error:
        if isinstance(error.__cause__, MemoryError | OverflowError):
            raise MemoryError from None
        return
    if isinstance(value, str) and len(value) > max_bytes:
        raise TemplateError(f"expected no text larger than max_bytes in the template (its line {node.lineno})")


def _parsed(data: bytes, codec: str) -> Json:
    """Return what is in a body of JSON.

    :raises TemplateError: it is not JSON (RFC 8259), or has a number that Python cannot represent.
    """
    try:
        return _decode(data)  # also what is UTF-16 or UTF-32
    except UnicodeDecodeError:
        if codec == UTF_8.codec:
            raise TemplateError(_NOT_JSON) from None
        return _decode(decode(data, codec))


def _decode(data: bytes | str) -> Json:
    try:
        found: Json = json.loads(data, parse_constant=_refuse_constant, parse_float=_finite)
    except (TemplateError, UnicodeDecodeError):
        raise
    except (json.JSONDecodeError, RecursionError):
        raise TemplateError(_NOT_JSON) from None
    except ValueError:  # Python's limit on digits
        raise TemplateError("the body has a number with too many digits") from None
    return found


def _refuse_constant(name: str) -> NoReturn:
    """Refuse NaN, Infinity and -Infinity, which JSON lacks (RFC 8259 §6), although Python's parser takes them."""
    raise TemplateError(f"{_NOT_JSON}: it has {name}")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise TemplateError("the body has a number that is too large")
    return number


def fill(text: str, data: bytes, values: Mapping[str, str], max_bytes: int, codec: str = UTF_8.codec) -> str:
    """Render a template with a JSON body.

    :param data: the body; its keys are the template's variables, and ``body`` is the whole of it.
    :param values: the placeholders, which win over the body's keys.
    :param max_bytes: of the rendered text.
    :param codec: of a body that is not UTF-8, as JSON has to be (RFC 8259 §8.1).
    :raises TemplateError: the body is not JSON, or does not fit the template.
    """
    content = _parsed(data, codec)
    fields = content if isinstance(content, dict) else {}
    made, size = [], 0
    try:
        for piece in _compiled(text).generate({**fields, "body": content, **values}):
            made.append(piece)
            size += len(piece)
            if size > max_bytes:
                break
    except MemoryError:
        raise
    except Exception as error:  # whatever the template does with its data
        raise TemplateError(f"the template failed: {type(error).__name__}: {error}") from None
    answer = "".join(made)
    if size > max_bytes or len(answer.encode(errors="replace")) > max_bytes:
        raise TemplateError(f"the template's text is larger than max_bytes = {max_bytes}")
    return answer
