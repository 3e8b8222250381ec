"""Files of an application's configuration, read where there is no PHP: what is written out."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rakit_ws.application.php import KEY, patterns_in
from rakit_ws.application.values import MAX_FILE_BYTES, Bootstrap, Unknown
from rakit_ws.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tree_sitter import Node, Parser

    from rakit_ws.application.values import Value

_FOLDERS = {
    "app": "application",
    "system": "system",
    "package": "packages",
    "storage": "storage",
    "assets": "assets",
}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "v": "\v", "e": "\x1b", "f": "\f"}
_MAX_SHOWN_CHARS = 60


class Literals:
    """
    Reads the literal arrays that files of the application in `folder` return.

    Besides literals it knows `.`, `DS`, `__DIR__` and `path('…')`. Anything else is Unknown, with
    its line. Nothing is executed.

    Raises:
        ConfigError: the parser is not installed.

    """

    version = ""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parser = _parser()
        base = f"{folder}{os.sep}"
        paths = {name: f"{base}{path}{os.sep}" for name, path in _FOLDERS.items()}
        self.bootstrap = Bootstrap({"base": base, "rakit_key": f"{base}key.php", **paths}, {})
        if (folder / "paths.php").is_file():
            self._read_paths()

    def values(self, files: Sequence[str]) -> list[Value]:
        """Return what each file returns (see Php)."""
        return [self._value_of(name) for name in files]

    def _value_of(self, name: str) -> Value:
        if name == KEY:
            name = os.path.relpath(self.bootstrap.paths["rakit_key"], self._folder)
        reader = self._reader(name)
        if isinstance(reader, Unknown):
            return reader
        try:
            return reader.returned()
        except RecursionError:
            return Unknown(f"{name}:1", "nested too deeply")

    def _read_paths(self) -> None:
        """Take from paths.php what is assigned to `$environments` and `$paths[…]`."""
        reader = self._reader("paths.php")
        if isinstance(reader, Unknown):
            raise ConfigError(str(reader))
        environments: dict[str, list[str]] = {}
        paths = dict(self.bootstrap.paths)
        for target, value in reader.assigned():
            if target == "$environments":
                environments = patterns_in(value)
            elif target == "$paths" and isinstance(value, dict):
                paths.update(self._absolute(value))
            elif match := re.fullmatch(r"\$paths\[['\"](\w+)['\"]\]", target):
                paths.update(self._absolute({match[1]: value}))
        self.bootstrap = Bootstrap(paths, environments)

    def _absolute(self, paths: dict[str, Value]) -> dict[str, str]:
        """Return paths as paths.php makes them: folders end with a separator, the key's file not."""
        unknown = [str(path) for path in paths.values() if not isinstance(path, str)]
        if unknown:
            raise ConfigError(unknown[0])
        found = {name: os.path.normpath(self._folder / path) for name, path in paths.items()}
        return {
            name: path if name == "rakit_key" else path + os.sep for name, path in found.items()
        }

    def _reader(self, name: str) -> _Reader | Unknown:
        try:
            content = Path(self._folder, name).read_bytes()
        except OSError as fault:
            return Unknown(name, f"can't be read: {fault.strerror}")
        if len(content) > MAX_FILE_BYTES:
            return Unknown(name, f"more than {MAX_FILE_BYTES} bytes")
        root = self._parser.parse(content).root_node
        return _Reader(root, name, str(Path(self._folder, name).parent), self.bootstrap.paths)


class _Reader:
    """The values of one file."""

    def __init__(self, root: Node, name: str, folder: str, paths: dict[str, str]) -> None:
        self._root = root
        self._name = name
        self._folder = folder
        self._paths = paths
        self._kinds: dict[str, Callable[[Node], Value]] = {
            "array_creation_expression": self._array,
            "string": self._quoted,
            "encapsed_string": self._quoted,
            "integer": _integer,
            "float": lambda node: float(_text(node).replace("_", "")),
            "boolean": lambda node: _text(node).lower() == "true",
            "null": lambda _: None,
            "parenthesized_expression": lambda node: self._value(node.named_children[0]),
            "unary_op_expression": self._signed,
            "binary_expression": self._joined,
            "name": self._constant,
            "function_call_expression": self._path,
        }

    def returned(self) -> Value:
        """Return what the file returns, if that is said once and unconditionally."""
        for node in self._root.named_children:
            if node.type == "return_statement":
                values = [each for each in node.named_children if each.type != "comment"]
                return self._value(values[0]) if values else None
            if node.type not in ("php_tag", "comment", "expression_statement"):
                return self._unknown(node)
        return Unknown(f"{self._name}:1", "returns nothing")

    def assigned(self) -> list[tuple[str, Value]]:
        """List the targets of the file's own assignments, as they are written, with their values."""
        found = []
        for node in self._root.named_children:
            expression = node.named_children[0] if node.named_children else node
            if node.type == "expression_statement" and expression.type == "assignment_expression":
                target, value = expression.named_children[0], expression.named_children[-1]
                found.append((_text(target), self._value(value)))
        return found

    def _value(self, node: Node) -> Value:
        read = self._kinds.get(node.type)
        return self._unknown(node) if read is None or node.has_error else read(node)

    def _unknown(self, node: Node) -> Unknown:
        text = " ".join(_text(node).split())
        if len(text) > _MAX_SHOWN_CHARS:
            text = text[:_MAX_SHOWN_CHARS] + "…"
        return Unknown(
            f"{self._name}:{node.start_point[0] + 1}", f"{text} can't be told without PHP"
        )

    def _array(self, node: Node) -> Value:
        items: dict[str, Value] = {}
        following = 0
        is_list = True
        for element in node.named_children:
            if element.type == "comment":
                continue
            parts = [each for each in element.named_children if each.type != "comment"]
            if (
                len(parts) == 1
                and parts[0].type != "variadic_unpacking"
                and "by_ref" not in element.type
            ):
                key: Value = following
            elif len(parts) == 2:
                key = self._value(parts[0])
            else:
                return self._unknown(element)
            if not isinstance(key, (str, int)) or isinstance(key, bool):
                return self._unknown(element)
            is_list = is_list and str(key) == str(len(items))
            if re.fullmatch(r"-?(?:0|[1-9][0-9]*)", str(key)):
                following = max(following, int(key) + 1)
            items[str(key)] = self._value(parts[-1])
        return list(items.values()) if is_list else items

    def _quoted(self, node: Node) -> Value:
        is_double = node.type == "encapsed_string"
        pieces = []
        for part in node.named_children:
            if part.type == "string_content":
                pieces.append(part.text or b"")
            elif part.type == "escape_sequence":
                pieces.append(_unescaped(_text(part), is_double=is_double))
            else:
                return self._unknown(node)
        try:
            return b"".join(pieces).decode()
        except UnicodeDecodeError:
            return Unknown(f"{self._name}:{node.start_point[0] + 1}", "text that is not UTF-8")

    def _signed(self, node: Node) -> Value:
        value = self._value(node.named_children[0])
        sign = _text(node)[0]
        if (
            sign not in "+-"
            or isinstance(value, (bool, str))
            or not isinstance(value, (int, float))
        ):
            return self._unknown(node)
        return -value if sign == "-" else value

    def _joined(self, node: Node) -> Value:
        operator = node.child_by_field_name("operator")
        sides = [self._value(each) for each in (node.named_children[0], node.named_children[-1])]
        if operator is None or operator.type != ".":
            return self._unknown(node)
        for side in sides:
            if isinstance(side, Unknown):
                return side
            if isinstance(side, bool) or not isinstance(side, (str, int)):
                return self._unknown(node)
        return "".join(map(str, sides))

    def _constant(self, node: Node) -> Value:
        known = {"DS": os.sep, "DIRECTORY_SEPARATOR": os.sep, "__DIR__": self._folder}
        return known.get(_text(node), self._unknown(node))

    def _path(self, node: Node) -> Value:
        match = re.fullmatch(r"\\?path\(\s*['\"](\w+)['\"]\s*\)", _text(node))
        known = self._paths.get(match[1]) if match else None
        return self._unknown(node) if known is None else known


def _text(node: Node) -> str:
    return (node.text or b"").decode("utf-8", "replace")


def _integer(node: Node) -> Any:
    digits = _text(node).replace("_", "").lower()
    if re.fullmatch(r"0[0-7]+", digits):
        return int(digits, 8)
    return int(digits, 0)


def _unescaped(sequence: str, *, is_double: bool) -> bytes:
    """Return what stands for an escape sequence of PHP."""
    code = sequence[1:]
    if not is_double:
        return (code if code in ("\\", "'") else sequence).encode()
    if code in _ESCAPES:
        return _ESCAPES[code].encode()
    if code in ("\\", "$", '"'):
        return code.encode()
    if match := re.fullmatch(r"u\{([0-9A-Fa-f]+)\}", code):
        return chr(int(match[1], 16)).encode("utf-8", "replace")
    if match := re.fullmatch(r"x([0-9A-Fa-f]{1,2})", code):
        return bytes([int(match[1], 16)])
    if re.fullmatch(r"[0-7]{1,3}", code):
        return bytes([int(code, 8) & 0xFF])
    return sequence.encode()


def _parser() -> Parser:
    try:
        from tree_sitter import Language, Parser
        from tree_sitter_php import language_php
    except ImportError:
        raise ConfigError(
            "rakit.path: the application's configuration needs PHP, or its parser: "
            "pip install 'rakit-ws[rakit]'"
        ) from None
    return Parser(Language(language_php()))
