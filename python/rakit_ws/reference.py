"""The documentation of the options: README's table and `docs/options.md`, from what is declared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rakit_ws.config import options
from rakit_ws.options import literal

if TYPE_CHECKING:
    from rakit_ws.options import Option


def options_table() -> str:
    """Write README's table: a line of Markdown for each option."""
    head = "| Key | Default | Unit | What it is |\n|---|---|---|---|\n"
    return head + "".join(
        f"| `{each.key}` | `{literal(each.default)}` | {each.unit} | {each.about} |\n"
        for each in options()
    )


def options_reference() -> str:
    """Write `docs/options.md`: everything there is to know about each option."""
    return "# Options\n\n" + "\n".join(map(_section, options()))


def _section(described: Option) -> str:
    facts = {
        "Default": f"`{literal(described.default)}`",
        "Allowed": described.kind.allowed,
        "Unit": described.unit,
        "Zero or empty": described.zero,
        "When reached": described.reached,
        "Cost": described.cost,
        "Precedent": described.precedent,
        "Environment": f"`{described.variable}`",
        "Reload": "yes" if described.reloadable else "no: it needs a restart",
    }
    lines = "".join(f"- {name}: {fact}\n" for name, fact in facts.items() if fact)
    about = described.about[0].upper() + described.about[1:]
    return f"## `{described.key}`\n\n{about}.\n\n{lines}"
