// The parts of the pages that move: light and dark, a list of sections that opens on wide screens, and the search.
const root = document.documentElement;
const button = document.querySelector("button.theme");
const say = () => (button.textContent = root.dataset.theme === "dark" ? "Light" : "Dark");
button.hidden = false;
button.onclick = () => {
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.theme = root.dataset.theme; } catch { /* without storage it holds for this page */ }
  say();
};
say();
const toc = document.querySelector("details.toc");
if (toc && innerWidth < 900) toc.open = false;

if (typeof SECTIONS !== "undefined") {
  const plain = (text) => text.toLowerCase().normalize("NFKD").replace(/[\u0300-\u036f]/g, "");
  const asked = new URLSearchParams(location.search).get("q") || "";
  const words = plain(asked).split(/\s+/).filter(Boolean);
  const count = (text, word) => text.split(word).length - 1;
  const scored = SECTIONS.map(([address, page, heading, text]) => {
    const [top, body] = [plain(heading), plain(text)];
    const hits = words.map((word) => 8 * count(top, word) + count(body, word));
    return { address, page, heading, text, score: hits.every(Boolean) ? hits.reduce((a, b) => a + b, 0) : 0 };
  });
  const found = words.length ? scored.filter((section) => section.score).sort((a, b) => b.score - a.score).slice(0, 40) : [];
  document.querySelector("nav input").value = asked;
  if (words.length) document.querySelector("#found").textContent = `${found.length} sections with “${asked}”`;
  for (const { address, page, heading, text } of found) {
    const item = document.querySelector("#results").appendChild(document.createElement("li"));
    const link = item.appendChild(document.createElement("a"));
    link.href = address;
    link.textContent = heading === page ? page : `${heading}`;
    item.append(` ${heading === page ? "" : page}`);
    const at = Math.max(plain(text).indexOf(words[0]) - 80, 0);
    const snippet = item.appendChild(document.createElement("p"));
    let rest = text.slice(at, at + 240);
    for (let where; (where = plain(rest).indexOf(words[0])) >= 0;) {
      snippet.append(rest.slice(0, where));
      snippet.appendChild(document.createElement("mark")).textContent = rest.slice(where, where + words[0].length);
      rest = rest.slice(where + words[0].length);
    }
    snippet.append(rest);
  }
}
