"""Draw `docs/images/explain.png`: the explanation of `docs/explain.md`, as a browser shows it.

`python docs/draw_explain.py` needs Chromium, and Pillow, which comes with Matplotlib.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

import minigd as gd
from minigd.insight.explain.trace import Trace

PICTURE = Path(__file__).parent / "images" / "explain.png"
WIDTH, HEIGHT, MARGIN = 1040, 2400, 16
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def explanation() -> Trace:
    """Return the explanation of one step on XOR, with row 2 marked."""
    x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = np.array([0, 1, 1, 0])
    layers = [gd.Dense(3), gd.Tanh(), gd.Dense(1), gd.Sigmoid()]
    model = gd.Sequential(layers, inputs=2, dtype="float64")
    updater = gd.SGD(0.1, momentum=0.9)
    return gd.explain(model, x, y, "binary_crossentropy", updater, example=2)


def formulas(trace: Trace) -> str:
    """Return the formulas of an explanation, which the picture's file holds as a text too."""
    return "\n".join(line.formula for line in trace.lines)


def main() -> None:
    """Have a browser draw the page, and save it without the empty rows at its end."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit(f"none of {', '.join(BROWSERS)} is installed")
    trace, texts = explanation(), PngImagePlugin.PngInfo()
    texts.add_itxt("formulas", formulas(trace))
    page = f'<meta charset="utf-8"><body style="margin: {MARGIN}px">{trace.html()}</body>'
    with tempfile.TemporaryDirectory() as folder:
        html, png = Path(folder, "page.html"), Path(folder, "page.png")
        html.write_text(page, encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        size = f"--window-size={WIDTH},{HEIGHT}"
        command = [browser, *flags, size, f"--screenshot={png}", html.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        picture = Image.open(png).convert("RGB")
    bottom = ImageOps.invert(picture).getbbox()[3]
    shown = picture.crop((0, 0, WIDTH, bottom + MARGIN)).quantize(64)
    shown.save(PICTURE, optimize=True, pnginfo=texts)


if __name__ == "__main__":
    main()
