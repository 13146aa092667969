// Without this script everything is there, too: the system's colours, tables in their first order, all on paper.
(() => {
  const root = document.documentElement, button = document.querySelector("button.theme");
  const keep = (value) => { try { localStorage.setItem("deitkit-theme", value); } catch { /* a page from a file may not */ } };
  const kept = () => { try { return localStorage.getItem("deitkit-theme"); } catch { return null; } };
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const name = () => { button.textContent = isDark() ? "Light" : "Dark"; button.setAttribute("aria-label", `${button.textContent} colours`); };
  if (kept()) root.dataset.theme = kept();
  button.hidden = false;
  name();
  button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; keep(root.dataset.theme); name(); });

  const number = (text) => text.trim() === "" ? -Infinity : Number(text.replace(/[,%\s]/g, ""));
  const sort = (table, column, heading) => {
    const body = table.tBodies[0], rows = [...body.rows], up = heading.ariaSort !== "ascending";
    const texts = new Map(rows.map((row) => [row, row.cells[column].textContent]));
    const numeric = rows.every((row) => !Number.isNaN(number(texts.get(row))));
    const compare = (a, b) => numeric ? number(a) - number(b) : a.localeCompare(b, undefined, { numeric: true });
    rows.sort((a, b) => (up ? 1 : -1) * compare(texts.get(a), texts.get(b)));
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.ariaSort = up ? "ascending" : "descending";
    body.append(...rows);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const press = document.createElement("button");
      press.type = "button";
      press.append(...heading.childNodes);
      heading.append(press);
      press.addEventListener("click", () => sort(table, column, heading));
    });
  }

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const part of opened) part.open = true;
  });
  addEventListener("afterprint", () => { for (const part of opened) part.open = false; });
})();
