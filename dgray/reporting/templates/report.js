"use strict";
// Sorts and filters the table. Without JavaScript the table is complete, in its original order.
const rows = document.querySelector("#rows");
const body = rows.tBodies[0];
const headings = [...rows.tHead.rows[0].cells];

function keyOf(row, column) {
  const text = row.cells[column].dataset.key;
  if (text === "") return null;
  const value = Number(text);
  return Number.isNaN(value) ? text : value;
}

function compare(a, b) {
  if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
  return typeof a === "number" ? -1 : 1;
}

function sortBy(column) {
  const isAscending = headings[column].getAttribute("aria-sort") !== "ascending";
  const sign = isAscending ? 1 : -1;
  const keyed = [...body.rows].map((row) => [keyOf(row, column), row]);
  keyed.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);  // missing values stay last
    return sign * compare(a, b);
  });
  body.append(...keyed.map(([, row]) => row));
  for (const heading of headings) heading.setAttribute("aria-sort", "none");
  headings[column].setAttribute("aria-sort", isAscending ? "ascending" : "descending");
}

// "width 128" matches 128 in the column width; any other word is searched in the whole row.
// Only identity columns can be named, because "kl" is an objective and a metric.
function conditions(text) {
  const words = text.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const names = headings.map((heading) =>
    heading.firstElementChild.title ? null : heading.textContent.trim().toLowerCase());
  const result = [];
  for (let i = 0; i < words.length; i++) {
    const column = names.indexOf(words[i]);
    const isPair = column >= 0 && i + 1 < words.length;
    result.push(isPair ? [column, words[++i]] : [-1, words[i]]);
  }
  return result;
}

function matches(row, [column, word]) {
  if (column >= 0) {
    const text = row.cells[column].textContent.toLowerCase();
    return text === word || (Number.isNaN(Number(word)) && text.startsWith(word));
  }
  return [...row.cells].some((cell) => cell.textContent.toLowerCase() === word || (
    Number.isNaN(Number(word)) && word.length > 2 && cell.textContent.toLowerCase().includes(word)));
}

function filter(text) {
  const all = conditions(text);
  let shown = 0;
  for (const row of body.rows) {
    row.hidden = !all.every((condition) => matches(row, condition));
    shown += !row.hidden;
  }
  document.querySelector("#count").textContent = `${shown} of ${body.rows.length} rows`;
}

headings.forEach((heading, column) =>
  heading.querySelector("button").addEventListener("click", () => sortBy(column)));
document.querySelector("#filter").addEventListener("input", (event) => filter(event.target.value));
filter("");
