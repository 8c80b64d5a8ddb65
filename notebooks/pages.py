"""Executed lessons and some documents as pages that work offline: nothing is fetched, alt text is kept, phones get figures of their own. Used by build.py."""

from __future__ import annotations

import base64
import json
import re
from html import escape, unescape
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

from outputs import labelled, laid_out, wrapped

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CSS, SCRIPT, MAP = HERE / "pages.css", HERE / "pages.js", ROOT / "dvlatent" / "lessons" / "course_map.svg"
DOCUMENTS = ("docs/GLOSSARY.md", "docs/MODELS.md", "docs/MEASUREMENTS.md", "docs/teaching/*.md")  # pages, too
PICTURE = "docs/faces.jpg"
NAME = "How does a face filter work?"
STORY = """A generator learns to draw faces (<a href="{01}">01</a>, <a href="{03}">03</a>). Its numbers turn out to be an ordered map
(<a href="{02}">02</a>, <a href="{04}">04</a>). Thousands of drawn faces, sorted by perceived age, give the way called "older"
(<a href="{05}">05</a>). Your own photo can be found on the map (<a href="{06}">06</a>), but slowly; so the map draws thousands of pairs, young
and old, and a small fast network learns from them to do it in one pass (<a href="{07}">07</a>). That network is the filter
(<a href="{08}">08</a>)."""


def lesson_page(notebook: NotebookNode, ran: str = "", failure: str = "", near: tuple[str, str] = ("", ""), names: tuple[str, ...] = ()) -> str:
    """One lesson as a whole page. `ran` says how long it took, `near` names the lessons before and after it, `names` all that have a page."""
    body, contents = _headings(linked_map(_body(laid_out(notebook)), names))
    warning = f"<p class='failed'>This lesson stopped: {escape(failure)}</p>" if failure else ""
    before, after = (f'<a class="{kind}" href="{name}.html">{words}</a>' if name else "" for kind, name, words in _links(near))
    body = body.replace("</h1>", f"</h1>{contents}", 1)
    more = f'<meta name="ran" content="{escape(ran)}">'
    return _page(title(notebook), f"<main>{warning}{body}</main>{_bar(before + after, search=False)}", more, before + after)


def ran_in(page: Path) -> str:
    """How long the lesson of a page took, as `lesson_page` wrote it; empty without a page."""
    found = page.exists() and re.search(r'<meta name="ran" content="([^"]*)">', page.read_text(encoding="utf-8"))
    return found[1] if found else ""


def index_page(lessons: list[tuple[str, NotebookNode, str]], app: bool = False) -> str:
    """The front page: picture, story, map and table of all lessons, each (name, notebook, how long it took); without a time it has no page yet."""
    rows = ""
    for name, notebook, ran in lessons:
        link = f'<a href="{name}.html">{escape(title(notebook))}</a>' if ran else escape(title(notebook))
        rows += f'<tr><td>{link}</td><td>{escape(question(notebook))}</td><td class="time">{ran or "not run yet"}</td></tr>'
    head = "<tr><th scope='col'>Lesson</th><th scope='col'>Question</th><th scope='col'>Ran in</th></tr>"
    there = tuple(name for name, _, ran in lessons if ran)
    data = base64.b64encode((ROOT / PICTURE).read_bytes()).decode()
    alt = "A table of generated faces: four people who do not exist in the corners, and everybody between them"
    hero = f'<img src="data:image/jpeg;base64,{data}" alt="{alt}" width="1100">'
    page = {name[:2]: f"{name}.html" for name in there}
    story = re.sub(r'<a href="{(\d\d)}">(.*?)</a>', lambda link: f'<a href="{page[link[1]]}">{link[2]}</a>' if link[1] in page else link[2], STORY)
    links = "".join(f'<li><a href="docs/{page}.html">{words}</a></li>' for page, words in LINKS)
    links += '<li><a href="app/index.html">The filter itself</a>: a photo or your camera, in this browser; no picture leaves it</li>' if app else ""
    body = f"<h1>{NAME}</h1>{hero}<p class='caption'>Four random vectors in the corners; everybody else is a blend of them. None of these people exists.</p>"
    body += f"<p>{story}</p><h2>The map</h2>{linked_map(_drawing(), there)}<h2>The lessons</h2><p>As they ran on this computer. Open the notebooks to play.</p>"
    return _page(NAME, f"<main>{body}<table><thead>{head}</thead><tbody>{rows}</tbody></table><h2>More</h2><ul>{links}</ul></main>")


LINKS = (
    ("GLOSSARY", "The glossary: every word of the course"), ("MODELS", "The networks: where they come from, and what they are licensed for"),
    ("teaching/README", "For teachers: plans, syllabus, quiz, slides, consent form"),
)  # fmt: skip


def document_page(path: Path) -> str:
    """A document of the project as a page, at the same place below the front page."""
    up = "../" * len(path.relative_to(ROOT).parent.parts)
    text = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(path.read_text(encoding="utf-8"))])
    body, contents = _headings(_body(text))

    def link(found: re.Match) -> str:
        href, words = found[1], found[2]
        if re.match(r"https?:|#|mailto:", href):
            return found[0]
        target, _, at = href.partition("#")
        file = (path.parent / target).resolve()
        page = f"{target.removesuffix('.md').removesuffix('.ipynb')}.html".replace("../../notebooks/", up).replace("../notebooks/", up)
        kept = file in documents() or (file.suffix == ".ipynb" and file.parent == HERE)
        return f'<a href="{page}{"#" + at if at else ""}">{words}</a>' if kept else words

    body = re.sub(r'<a href="([^"]*)">(.*?)</a>', link, body, flags=re.DOTALL)
    name = re.sub(r"<[^>]+>", "", re.search(r"<h1[^>]*>(.*?)</h1>", body, re.DOTALL)[1])
    return _page(unescape(name), f"<main>{body.replace('</h1>', f'</h1>{contents}', 1)}</main>", up=up)


def documents() -> list[Path]:
    """The documents that become pages."""
    return sorted(path for pattern in DOCUMENTS for path in ROOT.glob(pattern))


def search_page(pages: list[tuple[str, str]]) -> str:
    """The page that finds words in all others, each (address, html). Its list of sections is inside it."""
    sections = []
    for address, html in pages:
        main = re.sub(r"<(svg|style|script|details class=.toc.).*?</\1>|<details class=.toc.*?</details>", "", html.split("<main>")[1], flags=re.DOTALL)
        for part in re.split(r"(?=<h[1-3] id=)", main)[1:]:
            anchor, heading, text = re.match(r'<h\d id="([^"]*)">(.*?)</h\d>(.*)', part, re.DOTALL).groups()
            plain = [" ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split()) for html in (heading, text)]
            sections.append([f"{address}#{anchor}", _name(html), plain[0].rstrip(" #"), plain[1]])
    body = '<h1>Search</h1><p id="found" role="status">Type words above, and press Enter.</p><ol id="results"></ol>'
    data = json.dumps(sections, ensure_ascii=False).replace("</", "<\\/")
    return _page("Search", f"<main>{body}</main><script>const SECTIONS = {data};</script>")


def title(notebook: NotebookNode) -> str:
    """The first-level heading."""
    found = re.search(r"^# (.*)", notebook.cells[0].source, re.MULTILINE)
    return found[1].strip() if found else "A lesson without a title"


def question(notebook: NotebookNode) -> str:
    """The lesson's question, without its markup."""
    found = re.search(r"\*\*Question:\*\*\s*(.*?)(?:\n\n|\Z)", notebook.cells[0].source, re.DOTALL)
    return re.sub(r"[*`_]|\s*\n\s*", lambda mark: " " if "\n" in mark[0] else "", found[1]).strip() if found else ""


def linked_map(body: str, names: tuple[str, ...]) -> str:
    """The map of the course with every lesson that has a page as a link; below it the same as a list of cards, for phones."""
    start, stop = body.find("<svg"), body.find("</svg>") + 6
    drawing = body[start:stop]
    if start < 0 or 'id="lesson-00"' not in drawing:
        return body
    cards = ""
    for number, x, y, card in re.findall(r'<g id="lesson-(\d\d)" transform="translate\(([\d.]+) ([\d.]+)\)"(.*?)(?=<g id="lesson-|</svg>)', drawing, re.DOTALL):
        words = " ".join(re.sub(r"<[^>]+>", " ", " ".join(re.findall(r"<text[^>]*>.*?</text>", re.sub(r'<g id="here-.*?</g>', "", card, flags=re.DOTALL)))).split())
        small = f'<svg viewBox="{x} {y} 252 224" role="img" aria-label="{escape(words)}"><use href="#lesson-{number}"/></svg>'
        name = next((name for name in names if name.startswith(number)), "")
        cards += f'<li><a href="{name}.html">{small}</a></li>' if name else f"<li>{small}</li>"
        if name:
            drawing = re.sub(rf'(<g id="lesson-{number}".*?)(?=\s*<g id="lesson-|\s*<text x="22"|\s*</svg>)', rf'<a href="{name}.html">\1</a>', drawing, count=1, flags=re.DOTALL)
    return f'{body[:start]}<div class="map">{drawing}</div><ul class="cards">{cards}</ul>{body[stop:]}'


def _drawing() -> str:
    return re.sub(r"<!--.*?-->", "", MAP.read_text(encoding="utf-8"), flags=re.DOTALL)


def _body(notebook: NotebookNode) -> str:
    """The cells as HTML. Folded parts are marked, for nbconvert closes them too early."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\[!\[([^\]]+)\]\(https?://[^)]*\)\]\((\S+?)\)", r"[\1](\2)", cell.source)
            cell.source = re.sub(r"<details>\s*<summary>(.*?)</summary>", r"⟦\1⟧\n", cell.source).replace("</details>", "\n⟦⟧\n")
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True, exclude_anchor_links=True)
    exporter.embed_images = True
    body, _ = exporter.from_notebook_node(notebook)
    body = re.sub(r"<p>⟦([^⟧]*)⟧</p>", lambda mark: f"<details><summary>{mark[1]}</summary>" if mark[1] else "</details>", body)
    return labelled(wrapped(re.sub(r'(href="[\w./-]+)\.ipynb(#[^"]*)?"', r'\1.html\2"', body)))


def _headings(body: str) -> tuple[str, str]:
    """Headings with addresses, so that one can link to a section; and the list of them."""
    used: dict[str, int] = {}
    contents = ""

    def addressed(found: re.Match) -> str:
        nonlocal contents
        level, inner = found[1], found[2]
        plain = unescape(re.sub(r"<[^>]+>", "", inner))
        name = re.sub(r"\W+", "-", plain.lower()).strip("-") or "section"
        used[name] = used.get(name, 0) + 1
        name = name if used[name] == 1 else f"{name}-{used[name]}"
        contents += f'<li><a href="#{name}">{inner}</a></li>' if level == "2" else ""
        anchor = f' <a class="anchor" href="#{name}" aria-label="Link to this section">#</a>' if level != "1" else ""
        return f'<h{level} id="{name}">{inner}{anchor}</h{level}>'

    body = re.sub(r"<h([1-4])(?: [^>]*)?>(.*?)</h\1>", addressed, body, flags=re.DOTALL)
    return body, f'<details class="toc" open><summary>On this page</summary><ul>{contents}</ul></details>' if contents else ""


def _links(near: tuple[str, str]) -> list[tuple[str, str, str]]:
    return [("previous", near[0], "← Previous"), ("next", near[1], "Next →")]


def _name(page: str) -> str:
    return unescape(re.search(r"<title>(.*?)</title>", page)[1])


def _bar(links: str = "", up: str = "", search: bool = True) -> str:
    form = f'<form role="search" action="{up}search.html"><input type="search" name="q" aria-label="Search all lessons" placeholder="Search"></form>'
    tools = f'{form}<button type="button" class="theme" hidden>Dark</button>' if search else ""
    return f'<nav aria-label="lessons"><a href="{up}index.html">All lessons</a>{links}{tools}</nav>'


def _page(name: str, body: str, more: str = "", links: str = "", up: str = "") -> str:
    light, dark = (HtmlFormatter(style=style) for style in ("default", "github-dark"))
    colors = [light.get_style_defs(".highlight"), dark.get_style_defs("[data-theme=dark] .highlight")]
    style = CSS.read_text(encoding="utf-8") + re.sub(r"background: #(f8f8f8|0d1117);?", "", "\n".join(colors))
    view = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
    first = "<script>document.documentElement.dataset.theme = localStorage.theme || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')</script>"
    head = f"<head>{view}{more}<title>{escape(name)}</title><style>{style}</style>{first}</head>"
    script = f"<script>{SCRIPT.read_text(encoding='utf-8')}</script>"
    return f'<!DOCTYPE html>\n<html lang="en">{head}<body>{_bar(links, up)}{body}{script}</body></html>\n'
