"""Write the reference as HTML pages: the public interface from its docstrings, each command from its help.

python docs/reference.py FOLDER
"""

from __future__ import annotations

import html
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pdoc

import nac
from nac.cli import main as command_line

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }}
pre {{ background: #f4f4f4; padding: 1rem; overflow-x: auto; }}
@media (prefers-color-scheme: dark) {{
  body {{ background: #111; color: #eee; }} pre {{ background: #222; }} a {{ color: #8bf; }}
}}
</style>
<p><a href="index.html">nac</a></p>
<h1>{title}</h1>
{body}
</html>
"""


def commands(command: click.Command, context: click.Context) -> Iterator[click.Context]:
    """Yield the contexts of a command and of all its subcommands."""
    yield context
    if isinstance(command, click.Group):
        for name, sub in command.commands.items():
            yield from commands(sub, click.Context(sub, info_name=name, parent=context))


def page_of(context: click.Context) -> str:
    """Return the file name of a command's page."""
    return context.command_path.replace(" ", "-") + ".html"


def write(folder: Path) -> None:
    """Write all pages below ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    # pdoc documents only names that are already imported.
    for name in nac.__all__:
        getattr(nac, name)
    pdoc.render.configure(docformat="numpy", footer_text=f"nac {nac.__version__}")
    pdoc.pdoc("nac", output_directory=folder / "api")
    pages = list(commands(command_line, click.Context(command_line, info_name="nac")))
    for context in pages:
        text = f"<pre>{html.escape(context.get_help())}</pre>"
        (folder / page_of(context)).write_text(PAGE.format(title=context.command_path, body=text), "utf-8")
    links = "".join(f'<li><a href="{page_of(c)}">{c.command_path}</a></li>' for c in pages)
    body = f'<p><a href="api/nac.html">From Python</a></p><h2>Commands</h2><ul>{links}</ul>'
    (folder / "index.html").write_text(PAGE.format(title=f"nac {nac.__version__}", body=body), "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
