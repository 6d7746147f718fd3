// Renders the formulas of a page with KaTeX, which is part of the site.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".math").forEach((element) => {
    katex.render(element.textContent, element, { displayMode: element.tagName === "DIV" });
  });
});
