"use strict";
// Sort the table by a column, and show only some families. The page is complete without this script.

const table = document.querySelector("table");
const body = table.tBodies[0];
const lines = Array.from(body.rows); // in the order of the models
const heads = Array.from(table.tHead.rows[0].cells);

// The number or text by which a column sorts a line; null if the line has neither, or has no numbers.
function keyOf(line, column) {
  const cell = line.cells[column];
  if (!cell || cell.colSpan > 1) return null;
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  return cell.textContent || null;
}

// A column is of numbers if one of its cells has a number; its texts then count as missing.
function keysOf(column) {
  const keys = new Map(lines.map((line) => [line, keyOf(line, column)]));
  if (!Array.from(keys.values()).some(Number.isFinite)) return keys;
  return new Map(Array.from(keys, ([line, key]) => [line, Number.isFinite(key) ? key : null]));
}

// Lines without a key are last in both directions. Equal lines keep the order of the models.
function sorted(column, direction) {
  const keys = keysOf(column);
  const sign = direction === "ascending" ? 1 : -1;
  return lines.slice().sort((one, other) => {
    const [a, b] = [keys.get(one), keys.get(other)];
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en"));
  });
}

// Each press takes the next of three orders: numbers from the largest (texts from A), the reverse,
// and the order of the models.
function press(column) {
  const numeric = Array.from(keysOf(column).values()).some(Number.isFinite);
  const cycle = ["none", ...(numeric ? ["descending", "ascending"] : ["ascending", "descending"])];
  const now = heads[column].getAttribute("aria-sort");
  const direction = cycle[(cycle.indexOf(now) + 1) % cycle.length];
  heads.forEach((head) => head.setAttribute("aria-sort", "none"));
  heads[column].setAttribute("aria-sort", direction);
  body.append(...(direction === "none" ? lines : sorted(column, direction)));
}

heads.forEach((head, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  button.addEventListener("click", () => press(column));
  head.append(button);
  head.setAttribute("aria-sort", "none");
});

const filter = document.querySelector(".families");
const boxes = filter ? Array.from(filter.querySelectorAll("input")) : [];

function showChosen() {
  const chosen = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
  for (const line of lines) line.hidden = !chosen.has(line.dataset.family);
  const shown = lines.filter((line) => !line.hidden).length;
  filter.querySelector("output").textContent = `${shown} of ${lines.length} rows`;
}

if (filter) {
  filter.hidden = false;
  filter.addEventListener("change", showChosen);
  showChosen(); // a browser may restore the boxes of an earlier visit
}
