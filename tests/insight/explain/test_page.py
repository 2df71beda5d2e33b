"""The explanation as HTML: whole, escaped, with a style of its own and nothing from elsewhere."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

import minigd as gd
from minigd.insight.explain import page


class Reader(HTMLParser):
    """Reads a page, and refuses what is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.seen, self.style = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.seen.append(data)

    @property
    def text(self):
        return "".join(self.seen)

    def count(self, tag, **attributes):
        return sum(t == tag and attributes.items() <= a.items() for t, a in self.tags)


class Odd(gd.MeanSquaredError):
    """A loss with a name that is not for a page."""

    def __repr__(self):
        return "<script>alert('&')</script>"


def trace(**arguments):
    model = gd.Sequential([gd.Dense(3), gd.Tanh(), gd.Dense(1), gd.Sigmoid()], 2, dtype="float64")
    x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = np.array([0, 1, 1, 0])
    return gd.explain(model, x, y, "binary_crossentropy", "adam", **arguments)


def test_it_is_one_whole_element():
    text = trace()._repr_html_()
    assert text == trace().html()
    assert text.startswith('<div class="minigd-trace">')
    assert text.endswith("</div>")
    page = Reader(text)
    assert page.count("div", **{"class": "section"}) == 5
    for line in [*trace().given, *trace().lines]:
        assert line.shapes in page.text


def test_it_shows_all_that_the_text_shows():
    seen = Reader(trace().html()).text
    for name in ("dense1", "tanh1", "BinaryCrossEntropy", "Adam", "sigmoid1 is skipped"):
        assert name in seen
    for number in re.findall(r"-?\d+\.\d+(?:e-\d+)?", trace().text()):
        assert number in seen


def test_more_digits():
    assert "0.78281" not in trace().html()
    loss = next(line.value for line in trace().lines if line.name == "L")
    assert f"{loss[()]:.8g}" in trace().html(digits=8)


def test_nothing_comes_from_elsewhere():
    text = trace(example=1).html()
    for word in ("http", "src=", "url(", "@import", "<script", "<link", "<img", "href"):
        assert word not in text


def test_the_style_is_that_of_the_element_alone_and_fits_dark_and_light():
    style = Reader(trace().html()).style
    selectors = [part for rule in style.split("}")[:-1] for part in rule.split("{")[0].split(",")]
    assert selectors
    assert all(selector.strip().startswith(".minigd-trace") for selector in selectors)
    colours = re.findall(r"(?:color|background|border)[^;{]*:\s*([^;}]*)", style)
    for colour in colours:
        solid = re.sub(r"rgba\([\d, .]+\)|inherit|none|collapse|solid|0|\d+px", "", colour).strip()
        assert solid == "", colour


def test_the_path_of_one_example_is_marked():
    assert Reader(trace().html()).count("tr", **{"class": "path"}) == 0
    text = trace(example=2).html()
    # x and y; z1, a1, z2, p, q, ℓᵢ; dz2, da1, dz1.
    assert Reader(text).count("tr", **{"class": "path"}) == 11
    assert '<tr class="path"><th>2</th><td>1</td><td>0</td></tr>' in text


def test_rows_have_the_numbers_of_the_batch():
    text = trace(sample_weight=[1, 0, 1, 1], example=2).html()
    assert '<tr class="path"><th>2</th><td>1</td><td>0</td></tr>' in text
    assert "<th>1</th>" not in text


def test_everything_is_escaped():
    model = gd.Sequential([gd.Dense(1)], inputs=1, dtype="float64")
    text = gd.explain(model, np.ones((2, 1)), np.ones(2), Odd(), "sgd").html()
    assert "<script" not in text
    assert "&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;" in text
    Reader(text)


def test_a_wide_and_long_batch_is_abbreviated():
    model = gd.Sequential([gd.Dense(1)], inputs=100)
    x = np.random.default_rng(0).normal(size=(500, 100))
    text = gd.explain(model, x, x[:, 0], "mse", "sgd", example=250).html()
    assert len(text) < 40_000
    assert "<th>250</th>" in text
    assert "⋮" in text
    assert "…" in text


@pytest.mark.parametrize(
    ("formula", "html"),
    [
        ("z1 = x·W1", "<i>z</i><sub>1</sub> = <i>x</i>·<i>W</i><sub>1</sub>"),
        ("da1 ⊙ (1 − a1²)", "d<i>a</i><sub>1</sub> ⊙ (1 − <i>a</i><sub>1</sub><sup>2</sup>)"),
        ("Σᵢ ℓᵢ / n", "Σ<sub><i>i</i></sub> <i>ℓ</i><sub><i>i</i></sub> / <i>n</i>"),
        ("(1 − β₁^t)", "(1 − <i>β</i><sub>1</sub><sup><i>t</i></sup>)"),
        ("√vW12 + ε̂", "√<i>vW</i><sub>12</sub> + <i>ε̂</i>"),
        ("tanh(z1) > 0", "tanh(<i>z</i><sub>1</sub>) &gt; 0"),
        ("dgamma1", "dgamma<sub>1</sub>"),
    ],
)
def test_formulas_are_typeset(formula, html):
    assert page.typeset(formula) == html
