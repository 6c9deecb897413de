"""A plot of quality against strong calls, as PNG or as a page that stands alone."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scripts.router.evaluating import Figures


def draw(path: Path, routers: Sequence[Figures], cheap: float, strong: float) -> None:
    """Write the plot; a page has the table too."""
    image = picture(routers, cheap, strong)
    if path.suffix == ".png":
        path.write_bytes(image)
        return
    rows = "".join(
        f"<tr><td>{html.escape(it.name)}</td><td>{it.apgr:.3f}</td>"
        f"<td>{it.cpt50:.1%}</td><td>{it.cpt80:.1%}</td></tr>"
        for it in routers
    )
    path.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Routers</title>'
        "<style>body{font:16px sans-serif;margin:2em}td,th{padding:.2em 1em;text-align:left}"
        "</style><h1>Quality against strong calls</h1>"
        f'<img alt="Quality by share of strong calls" src="data:image/png;base64,'
        f'{base64.b64encode(image).decode()}"><table><tr><th>Router</th><th>APGR</th>'
        f"<th>CPT50</th><th>CPT80</th></tr>{rows}</table></html>\n",
        encoding="utf-8",
    )


def picture(routers: Sequence[Figures], cheap: float, strong: float) -> bytes:
    """Return the plot as PNG."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for router in routers:
        shares = [100 * it for it in router.curve.shares]
        axes.plot(shares, [100 * it for it in router.curve.quality], marker=".", label=router.name)
    axes.axhline(100 * cheap, color="grey", linestyle="--", linewidth=1)
    axes.axhline(100 * strong, color="grey", linestyle="--", linewidth=1)
    axes.axhline(95 * strong, color="tab:red", linestyle=":", linewidth=1, label="95 % of strong")
    axes.set_xlabel("Strong calls, %")
    axes.set_ylabel("Pass rate, %")
    axes.legend()
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    return content.getvalue()
