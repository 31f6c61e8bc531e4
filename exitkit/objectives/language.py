"""Read `pskd(alpha=0.8)+byot(last=1.9)`: names, keyword options with literals, and `+`."""

import ast
import inspect
import math
from collections.abc import Mapping

from exitkit.errors import ConfigError, unknown

Value = float | int | str | bool
Part = tuple[str, dict[str, Value]]
HOW = "write names joined by '+', options as in 'pskd(alpha=0.8)+byot(last=1.9)'"


def read(text: str, classes: Mapping[str, type]) -> list[Part]:
    """Return the parts of the sum with the options that were written.

    Args:
        text: the sum.
        classes: name -> class whose constructor's keyword-only arguments are the options.

    Raises:
        ConfigError: anything but known names, each once, with known options of the right type.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"method {text!r}", f"cannot be read ({error})", HOW) from error
    parts = [_part(node, text, classes) for node in _summands(tree, text)]
    names = [name for name, _ in parts]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"method {text!r}", f"{name!r} stands in it twice", "keep one")
    return parts


def options(cls: type) -> dict[str, Value]:
    """Return the options of a method and their defaults, as its constructor has them."""
    parameters = inspect.signature(cls).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def _summands(node: ast.expr, text: str) -> list[ast.expr]:
    right: list[ast.expr] = []
    # `+` leans left: a+b+c is (a+b)+c. A loop, so that a long sum cannot exhaust the stack.
    while isinstance(node, ast.BinOp):
        if not isinstance(node.op, ast.Add):
            raise _refused(node, text)
        right.append(node.right)
        node = node.left
    return [node, *reversed(right)]


def _part(node: ast.expr, text: str, classes: Mapping[str, type]) -> Part:
    name = node.func if isinstance(node, ast.Call) else node
    if not isinstance(name, ast.Name):
        raise _refused(node, text)
    if name.id not in classes:
        raise unknown("method", name.id, classes)
    if not isinstance(node, ast.Call):
        return name.id, {}
    if node.args:
        raise ConfigError(
            f"method {text!r}",
            f"{name.id!r} is given {ast.unparse(node.args[0])!r} without an option's name",
            f"its options are: {_listed(options(classes[name.id]))}",
        )
    known, given = options(classes[name.id]), dict[str, Value]()
    for word in node.keywords:
        key, value = _option(name.id, word, text, known)
        if key in given:
            raise ConfigError(
                f"method {text!r}", f"{name.id!r} is given {key!r} twice", "keep one of them"
            )
        given[key] = value
    return name.id, given


def _option(
    method: str, word: ast.keyword, text: str, known: Mapping[str, Value]
) -> tuple[str, Value]:
    if word.arg is None:
        raise _refused(word.value, text)
    if not known:
        raise ConfigError(
            f"option {word.arg!r} of method {method!r}", "it has no options", f"write {method!r}"
        )
    if word.arg not in known:
        raise unknown(f"option of method {method!r}", word.arg, known)
    default, value = known[word.arg], _literal(word.value, text)
    if type(default) is float and type(value) is int:
        value = float(value)
    if type(value) is not type(default) or (isinstance(value, float) and math.isinf(value)):
        raise ConfigError(
            f"{method}({word.arg}={ast.unparse(word.value)})",
            f"the option is a {type(default).__name__}",
            f"write it as in {word.arg}={default!r}",
        )
    return word.arg, value


def _literal(node: ast.expr, text: str) -> Value:
    sign = node.op if isinstance(node, ast.UnaryOp) else None
    bare = node.operand if isinstance(node, ast.UnaryOp) else node
    if not isinstance(bare, ast.Constant) or not isinstance(bare.value, bool | int | float | str):
        raise _refused(node, text)
    value: Value = bare.value
    if sign is None:
        return value
    if isinstance(value, bool | str) or not isinstance(sign, ast.USub | ast.UAdd):
        raise _refused(node, text)
    return -value if isinstance(sign, ast.USub) else value


def _refused(node: ast.expr, text: str) -> ConfigError:
    return ConfigError(f"method {text!r}", f"{ast.unparse(node)!r} is not understood", HOW)


def _listed(known: Mapping[str, Value]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in known.items()) or "none"
