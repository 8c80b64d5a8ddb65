"""What a page makes of a lesson's outputs: pictures with a version for phones, films that pause, printed lines and tables. Used by pages.py."""

from __future__ import annotations

import base64
import copy
import io
import re
from html import escape, unescape
from itertools import count, groupby

import nbformat
from nbformat import NotebookNode
from PIL import Image, ImageSequence

PHONE = "application/vnd.dvlatent.phone"  # a picture's second version, by phone.py
WIDGET = "application/vnd.jupyter.widget-view+json"
MOVED = "<p class='moved'>In JupyterLab and Colab there is something to move here; the picture beside it shows the same.</p>"
NARROW = "(max-width: 900px)"  # below this width pages show the version for phones


def laid_out(notebook: NotebookNode) -> NotebookNode:
    """A copy in which every output is HTML that needs no kernel and no network."""
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        shown = [(out.output_type == "stream", html_of(out)) for out in cell.get("outputs", [])]
        merged = []
        for is_text, group in groupby(shown, key=lambda pair: pair[0]):
            parts = [part for _, part in group if part]
            merged += [printed("".join(parts))] if is_text and parts else parts
        if "outputs" in cell:
            cell.outputs = [nbformat.v4.new_output("display_data", {"text/html": part}) for part in merged]
    return notebook


def html_of(out: NotebookNode) -> str:
    """One output as HTML; of a stream, its plain text."""
    if out.output_type == "stream":
        return str(out.text)
    if out.output_type == "error":
        return f"<pre class='failed'>{escape(out.ename)}: {escape(out.evalue)}</pre>"
    data = out.get("data", {})
    kind = next((mime for mime in data if mime in ("image/png", "image/jpeg")), "")
    if kind:
        return picture(data[kind], kind, out.metadata.get(kind, {}), data.get(PHONE, ""))
    if "image/svg+xml" in data:  # the drawing itself has a title and a description
        return f"<div class='drawing'>{data['image/svg+xml']}</div>"
    if "text/html" in data:
        return f"<div class='widget'>{data['text/html']}</div>"
    return MOVED if WIDGET in data else printed(str(data.get("text/plain", "")))


def picture(data: str, kind: str, about: dict, phone: str = "") -> str:
    """A picture with its alt text, and on narrow screens its version for a phone; a film becomes one that pauses."""
    alt, width, data = escape(str(about.get("alt", ""))), int(about.get("width", 0)), "".join(data.split())
    raw = base64.b64decode(data)
    if raw[:4] == b"RIFF" and raw[8:12] == b"WEBP":
        return film(raw, alt, width)
    size = f' width="{width}"' if width else ""
    image = f'<img src="data:{kind};base64,{data}" alt="{alt}"{size}>'
    if not phone:
        return f"<picture>{image}</picture>"
    wide, tall = Image.open(io.BytesIO(base64.b64decode(phone.partition(",")[2]))).size
    return f'<picture class="relaid"><source media="{NARROW}" srcset="{phone}" width="350" height="{350 * tall // wide}">{image}</picture>'


def film(raw: bytes, alt: str, width: int) -> str:
    """All frames in one column, moved behind a window: so it stops at the frame that is shown, and stands still for who asks for less motion."""
    pages = Image.open(io.BytesIO(raw))
    frames = [(frame.convert("RGB"), frame.info.get("duration", 100)) for frame in ImageSequence.Iterator(pages)]
    size, seconds = frames[0][0].size, sum(duration for _, duration in frames) / 1000
    column, file = Image.new("RGB", (size[0], size[1] * len(frames))), io.BytesIO()
    for at, (frame, _) in enumerate(frames):
        column.paste(frame, (0, size[1] * at))
    column.save(file, "JPEG", quality=82)
    source = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    style = f"width:{width or size[0]}px;aspect-ratio:{size[0]}/{size[1]};animation:film {seconds:g}s steps({len(frames)},jump-none) infinite"
    words = "<span class='moving'>Pause</span><span class='still'>Play</span>"
    return f"<div class='film'><label><input type='checkbox'> {words}</label><div role='img' aria-label=\"{alt}\" style=\"{style};background-image:url({source})\"></div></div>"


def printed(text: str) -> str:
    """Printed lines in one box; neighbouring lines with the same columns become a table in it."""
    lines = text.rstrip("\n").split("\n")
    columns = [re.split(r" {2,}|\t", line.strip()) for line in lines]
    for at, (line, head, below) in enumerate(zip(lines, columns, columns[1:], strict=False)):
        if line.startswith("  ") and len(head) + 1 == len(below) > 2:
            columns[at] = ["", *head]  # the names of all columns but the first
    box = ""
    for across, group in groupby(zip(lines, columns, strict=True), key=lambda pair: len(pair[1])):
        rows = list(group)
        if across > 1 and len(rows) > 1:
            box += f"<table{' class=wide' * (across > 5)}>" + "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>" for _, cells in rows) + "</table>"
        else:
            box += "".join(row(escape(line), line) for line, _ in rows)
    return f"<div class='printed'>{box}</div>"


def row(html: str, line: str) -> str:
    """One line of code or print that wraps under its own beginning."""
    indent = len(line) - len(line.lstrip(" "))
    html = "\u00a0" * indent + html[indent:] if html.startswith(" " * indent) else html  # so that a long word stays on the first line; copied as spaces
    return f'<span class="row" style="--in:{indent + 4}ch">{html or "<br>"}</span>'


def wrapped(body: str) -> str:
    """Every block of code with lines that wrap and never scroll."""

    def lines(block: re.Match) -> str:
        inner = re.sub(r"^<span></span>", "", block[2]).rstrip("\n").split("\n")
        return f"<pre{block[1]}>" + "".join(row(line, re.sub(r"<[^>]+>", "", line)) for line in inner) + "</pre>"

    return re.sub(r"<pre([^>]*)>(?:<code[^>]*>)?(.*?)(?:</code>)?</pre>", lines, body, flags=re.DOTALL)


def labelled(body: str) -> str:
    """Tables of four columns and more name each cell's column, so that a phone can show a row as a list."""

    def table(found: re.Match) -> str:
        heads = [re.sub(r"<[^>]+>", "", head).strip() for head in re.findall(r"<th[^>]*>(.*?)</th>", found[0], re.DOTALL)]
        if len(heads) < 4:
            return found[0]
        place = count()
        return re.sub(r"<td", lambda _: f'<td data-label="{escape(unescape(heads[next(place) % len(heads)]))}"', found[0]).replace("<table", "<table class=wide", 1)

    return re.sub(r"<table>\s*<thead>.*?</table>", table, body, flags=re.DOTALL)
