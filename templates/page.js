// The page works without this: it adds sorting by a click on a table's head, and a button that copies code.
document.querySelectorAll("thead th").forEach((head) => {
  head.tabIndex = 0;
  head.title = "Sort";
  const sort = () => {
    const table = head.closest("table");
    const index = [...head.parentNode.children].indexOf(head);
    const up = head.getAttribute("aria-sort") !== "ascending";
    const key = (row) => {
      const cell = row.children[index];
      const value = cell.dataset.sort ?? "";
      return value === "" ? [cell.textContent.trim() === "not measured", cell.textContent.trim()] : [false, Number(value)];
    };
    const compare = (a, b) => {
      const [aMissing, aKey] = key(a), [bMissing, bKey] = key(b);
      if (aMissing !== bMissing) return aMissing ? 1 : -1;
      const order = typeof aKey === "number" && typeof bKey === "number"
        ? aKey - bKey : String(aKey).localeCompare(String(bKey), undefined, { numeric: true });
      return up ? order : -order;
    };
    const body = table.tBodies[0];
    [...body.rows].sort(compare).forEach((row) => body.append(row));
    table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
  };
  head.addEventListener("click", sort);
  head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
});
if (navigator.clipboard) document.querySelectorAll("figure.code").forEach((figure) => {
  const button = document.createElement("button");
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(figure.querySelector("code").textContent);
    button.textContent = "Copied";
  });
  figure.append(button);
});
