"""The executed notebook as one HTML page that needs no server and asks the network for nothing."""

import html

import nbformat
from nbconvert import HTMLExporter
from nbformat.v4 import new_notebook

from reports.manifest import Manifest

_STYLE = """
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #1c1c1c; margin: 0 auto; padding: 24px;
  max-width: 1180px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 36px 0 6px; }
p { margin: 4px 0 8px; } .setting { color: #555; } .facts { font-weight: 600; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto; margin: 8px 0; }
th { text-align: left; border-bottom: 1.5px solid #333; padding: 4px 12px 4px 8px; white-space: nowrap; }
td { border-bottom: 1px solid #e3e3e3; padding: 4px 12px 4px 8px; vertical-align: top; }
tr.supported td:first-child { box-shadow: inset 4px 0 #0b6e4f; }
tr.contradicted td:first-child { box-shadow: inset 4px 0 #b22222; }
tr.inconclusive td:first-child { box-shadow: inset 4px 0 #b8b8b8; }
tr.failed td { background: #fbeeee; } tr.pending td, tr.running td, tr.trained td { background: #f4f4f4; }
pre, code { font: 12.5px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }
details { margin: 6px 0; } summary { cursor: pointer; } a.anchor-link { display: none; }
footer { color: #555; border-top: 1px solid #e3e3e3; margin-top: 36px; padding-top: 8px; }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
<footer>{footer}</footer>
</body>
</html>
"""


def page(notebook: nbformat.NotebookNode, manifest: Manifest) -> str:
    """The whole page; pictures are embedded."""
    exporter = HTMLExporter(template_name="basic", exclude_input=True, exclude_output_prompt=True)
    # Without its metadata, of which nbconvert would make several copies: the manifest of 100,000 cells has 27 MB.
    body, _ = exporter.from_notebook_node(new_notebook(cells=notebook.cells))
    footer = "Made by report.ipynb in the same folder, which has the code and can be run again."
    return document(manifest.study.title or manifest.study.name, body, footer)


def document(title: str, body: str, footer: str, style: str = "") -> str:
    """A page of our own look from HTML that is escaped already; `style` adds rules."""
    return _PAGE.format(title=html.escape(title), style=_STYLE + style, body=body, footer=footer)
