// Small helpers for the page.

export const $ = (id) => document.getElementById(id);

export function press(buttons, chosen) {
  for (const button of buttons) button.setAttribute("aria-pressed", String(button === chosen));
}

export const number = (value) => Math.round(value).toLocaleString("en");

export function length(units) {
  if (!Number.isFinite(units)) return "–";
  return units >= 100 ? units.toFixed(1) : units >= 1 ? units.toFixed(3) : units.toPrecision(3);
}

// A message that goes away by itself; `links`: [{ text, href }].
export function notice(text, links = [], seconds = 6) {
  const box = document.createElement("div");
  box.append(document.createTextNode(text));
  for (const { text: label, href } of links) {
    const a = document.createElement("a");
    a.textContent = label;
    a.href = href;
    box.append(document.createElement("br"), a);
  }
  $("notices").append(box);
  setTimeout(() => box.remove(), 1000 * (links.length ? 3 * seconds : seconds));
  return box;
}

export function download(blob, name) {
  const a = document.createElement("a");
  a.href = URL.createObjectURL(blob);
  a.download = name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(a.href), 10000);
}
