// Every text that can be seen with a contrast below 4.5 to 1, or 3 to 1 where it is large.
() => {
  const parse = (text) => {
    const found = text.match(/rgba?\(([^)]+)\)/);
    return found ? found[1].split(/[ ,/]+/).map(Number) : null;
  };
  const light = ([r, g, b]) => {
    const of = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * of(r) + 0.7152 * of(g) + 0.0722 * of(b);
  };
  const ground = (node) => {
    for (let it = node; it; it = it.parentElement) {
      const color = parse(getComputedStyle(it).backgroundColor);
      if (color && (color.length < 4 || color[3] === 1)) return color;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.textContent.trim() || !parent.checkVisibility()) continue;
    if (parent.closest(".unseen, script, option, title")) continue;
    const style = getComputedStyle(parent);
    const color = parse(parent.closest("svg") ? style.fill : style.color);
    const [a, b] = [light(color), light(ground(parent))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && +style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) poor.push(`${node.textContent.trim()}: ${ratio.toFixed(2)}`);
  }
  return poor;
}
