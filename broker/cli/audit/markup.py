"""HTML that is safe by construction: text becomes markup only through `tag`, which escapes it.

The pages are self-contained: no scripts, no links to other files, and a policy that forbids both, should anything get
through all the same. Text comes from other organisations, so what does not print, which includes the characters that
reverse a line's direction, is shown as an escape, and each value stands isolated in `bdi`.
"""

from __future__ import annotations

import html

from connectors.cli.text import printable

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

_VOID = frozenset({"br", "meta"})

_STYLE = """
body { font: 16px/1.5 Georgia, 'Times New Roman', serif; color: #1a1a1a }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1.5rem }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
p, li { max-width: 46rem } .lead { font-size: 1.1rem } .note { color: #555 }
.box { border-left: 4px solid #35618e; background: #f2f5f9; padding: .6rem 1rem; margin: 1rem 0 }
.box.bad { border-color: #a02020; background: #fbf1f1 }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; font-size: .92rem }
th, td { text-align: left; vertical-align: top; padding: .35rem .7rem .35rem 0; border-bottom: 1px solid #ccc }
th { border-bottom: 2px solid #777; font-weight: bold } th[scope=row] { border-bottom: 1px solid #ccc; width: 14rem }
code, pre { font: .85rem/1.45 'DejaVu Sans Mono', Consolas, Menlo, monospace; overflow-wrap: anywhere }
pre { background: #f5f5f5; padding: .7rem 1rem; white-space: pre-wrap }
bdi, td { overflow-wrap: anywhere } td { min-width: 5rem } .place { white-space: nowrap }
footer { margin-top: 2.5rem; border-top: 1px solid #ccc; padding-top: .6rem; color: #555; font-size: .85rem }
@media print {
  @page { margin: 14mm 13mm }
  body { max-width: none; margin: 0; padding: 0; font-size: 9.5pt; line-height: 1.3 } h1 { font-size: 15pt }
  h2 { font-size: 11pt; margin: .9rem 0 .2rem; break-after: avoid } p, ul, table { margin: .3rem 0 }
  table { font-size: 9pt } .lead { font-size: 10.5pt } code, pre { font-size: 8pt }
  p, li { max-width: none } .box { padding: .1rem .7rem; margin: .5rem 0 } th, td { padding: .15rem .5rem .15rem 0 }
  tr, .box, pre { break-inside: avoid } thead { display: table-header-group }
}
"""


class Markup(str):
    """Text that is HTML already; only this module's functions make it."""

    __slots__ = ()


def tag(element: str, /, *children: str, **attributes: str) -> Markup:
    """An element. Children that are no Markup, and attributes' values, are escaped; `class_` is `class`."""
    written = "".join(f' {key.rstrip("_")}="{escaped(value)}"' for key, value in attributes.items())
    end = "" if element in _VOID else f"</{element}>"
    return Markup(f"<{element}{written}>{joined(*children)}{end}")


def joined(*children: str) -> Markup:
    """Pieces one after another, each escaped unless it is Markup."""
    return Markup("".join(child if isinstance(child, Markup) else escaped(child) for child in children))


def escaped(text: str) -> str:
    """Text for an element or a quoted attribute; what does not print is shown as an escape, except a line's end."""
    return html.escape("\n".join(printable(line) for line in text.split("\n")), quote=True)


def value(text: str) -> Markup:
    """Somebody else's words, isolated so that their direction of writing changes nothing around them."""
    return tag("bdi", text)


def code(text: str) -> Markup:
    """A hash, a name or a command's word, set in a fixed pitch and isolated."""
    return tag("code", value(text))


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> Markup:
    """A table with a head of its own on each printed page; cells as `tag`'s children."""
    head = tag("tr", *(tag("th", each, scope="col") for each in heads))
    body = [tag("tr", *(tag("td", cell) for cell in row)) for row in rows]
    return tag("table", tag("thead", head), tag("tbody", *body))


def facts(rows: list[tuple[str, str]]) -> Markup:
    """A table of names and values."""
    return tag("table", *(tag("tr", tag("th", name, scope="row"), tag("td", cell)) for name, cell in rows))


def page(title: str, *body: Markup) -> str:
    """A whole document."""
    head = (
        tag("meta", charset="utf-8"),
        tag("meta", **{"http-equiv": "Content-Security-Policy", "content": _POLICY}),
        tag("meta", **{"name": "referrer", "content": "no-referrer"}),
        tag("meta", **{"name": "viewport", "content": "width=device-width"}),
        tag("title", title),
        Markup(f"<style>{_STYLE}</style>"),
    )
    content = tag("html", tag("head", *head), tag("body", tag("main", *body)), lang="en")
    return f"<!doctype html>\n{content}\n"
