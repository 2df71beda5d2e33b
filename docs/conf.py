"""The documentation site: what Sphinx is told.

`python -m sphinx -W --keep-going -b html docs docs/_build` builds it, without a network.
"""

import pkgutil
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.addnodes import pending_xref
from sphinx.util import logging

import minigd

sys.path.insert(0, str(Path(__file__).parent))

from linking import target, with_summary

logger = logging.getLogger(__name__)

project = "minigd"
author = "the minigd authors"
project_copyright = "2026, the minigd authors"
version = release = minigd.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
# myst-nb leaves its pictures beside the folder that the site is built in.
exclude_patterns = ["_build", "jupyter_execute"]
default_role = "py:obj"
# Formulas in docstrings are literal blocks, and no Python.
highlight_language = "text"

myst_enable_extensions = ["colon_fence", "dollarmath", "substitution"]
myst_substitutions = {"version": release}
myst_heading_anchors = 3
# The outputs are those in the files, which the tests execute.
nb_execution_mode = "off"

autodoc_member_order = "bysource"
autosummary_generate = False
# Types stand in the text of each parameter, with shapes.
autodoc_typehints = "none"
numpydoc_show_class_members = False

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"minigd {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_math_renderer = "mathml"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def setup(app: Any) -> None:
    """Write formulas as MathML, which browsers draw without a script, and trim blocks of code."""
    app.add_html_math_renderer("mathml", (_inline_formula, None), (_block_formula, None))
    app.connect("source-read", _summarize)
    app.connect("doctree-read", _trim)
    app.connect("doctree-read", _link_first_mentions)
    app.connect("warn-missing-reference", _needs_no_link)


def _needs_no_link(app: Any, domain: Any, node: Any) -> bool | None:
    """Accept names without a page: parameters, attributes and what is inside minigd, if it is."""
    name = node["reftarget"]
    if not name.startswith("minigd."):
        # As numpydoc has it, single backticks also name what belongs to the thing described.
        return re.fullmatch(r"[a-z]\w*", name) is not None or None
    try:
        return pkgutil.resolve_name(name) is not None
    except (ImportError, AttributeError):
        return None


def _summarize(app: Any, page: str, source: list[str]) -> None:
    source[0] = with_summary(source[0])


def _link_first_mentions(app: Any, doctree: Any) -> None:
    """Link each public name to its reference where a page first mentions it."""
    page, seen = app.env.docname, set()
    if page.startswith("api/") or page == "changelog":
        return
    for code in list(doctree.findall(nodes.literal)):
        name = target(code.astext())
        inside = (nodes.reference, pending_xref, nodes.title)
        if name is None or name in seen or isinstance(code.parent, inside):
            continue
        seen.add(name)
        link = pending_xref(
            "", refdomain="py", reftype="obj", reftarget=name, refdoc=page, refwarn=True
        )
        code.replace_self(link)
        link += code


def _inline_formula(writer: Any, node: Any) -> None:
    writer.body.append(_mathml(node, "inline"))
    raise nodes.SkipNode


def _block_formula(writer: Any, node: Any) -> None:
    writer.body.append(f'<div class="math">{_mathml(node, "block")}</div>\n')
    raise nodes.SkipNode


def _mathml(node: Any, display: str) -> str:
    formula = convert(node.astext(), display=display)
    if "\\" in formula:
        logger.warning("a command of the formula %r is not known", node.astext(), location=node)
    # Spaces as TeX has them: none around a slash or behind a sign, a thin one around a name such as
    # log, and none between a name and its parenthesis.
    formula = formula.replace("<mo>&#x0002F;</mo>", '<mo lspace="0" rspace="0">/</mo>')
    formula = re.sub(
        r"(<mo[^>]*>(?:[=(\[,]|&#x0003D;|&#x00028;|&#x0005B;|&#x0002C;)</mo>)<mo>&#x02212;</mo>",
        r'\1<mo form="prefix">&#x02212;</mo>',
        formula,
    )
    return re.sub(
        r"<m([io])>([a-zA-Z]{2,})</m\1>(<mo[^>]*>(?:\(|&#x00028;))?",
        lambda m: f'<mo lspace="0.17em" rspace="{0 if m[3] else 0.17}em">{m[2]}</mo>{m[3] or ""}',
        formula,
    )


def _trim(app: Any, doctree: Any) -> None:
    """Leave out the empty line with which a doctest in Markdown ends."""
    for block in doctree.findall(nodes.literal_block):
        block.rawsource = block.rawsource.rstrip()
        block[:] = [nodes.Text(block.astext().rstrip())]
