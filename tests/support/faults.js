// What a screen reader misses: names of controls, captions, scopes, the order of headings.
() => {
  const faults = [];
  const say = (what, node) => faults.push(what + ": " + node.outerHTML.slice(0, 120));
  const name = (node) => (
    node.getAttribute("aria-label") || (node.labels && [...node.labels].map((it) => it.textContent).join(" ")) ||
    node.textContent || (node.querySelector("img[alt]") || {}).alt || ""
  ).trim();
  for (const it of document.querySelectorAll("a, button, input:not([type=hidden]):not([hidden]), select, summary"))
    if (!name(it)) say("no name", it);
  for (const it of document.querySelectorAll("img:not([alt])")) say("no alt", it);
  for (const it of document.querySelectorAll("table")) if (!it.caption) say("no caption", it);
  for (const it of document.querySelectorAll("th")) if (!it.scope) say("no scope", it);
  for (const it of document.querySelectorAll("svg:not([aria-hidden]):not([aria-label])")) say("no label", it);
  for (const it of document.querySelectorAll("figure"))
    if (!it.parentElement.querySelector("table")) say("a chart without its table", it);
  const ids = [...document.querySelectorAll("[id]")].map((it) => it.id);
  for (const it of new Set(ids)) if (ids.filter((id) => id === it).length > 1) faults.push("twice: #" + it);
  for (const it of document.querySelectorAll("[aria-labelledby], [aria-describedby]"))
    for (const id of (it.getAttribute("aria-labelledby") || it.getAttribute("aria-describedby")).split(" "))
      if (!document.getElementById(id)) say("refers to nothing", it);
  let level = 0;
  for (const it of document.querySelectorAll("h1, h2, h3, h4")) {
    if (+it.tagName[1] > level + 1) say("a heading skips a level", it);
    level = +it.tagName[1];
  }
  for (const it of ["header", "nav[aria-label]", "main", "footer", "h1"])
    if (document.querySelectorAll(it).length !== 1) faults.push("not one " + it);
  if (!document.documentElement.lang) faults.push("no language");
  return faults;
}
