// A table whose cells arrow keys go through. One cell at a time is in the order of the tab key, as the pattern "grid" has it.

let place = [0, 0]; // row and column where somebody was: kept when the table is drawn again

// `said`: where the words of the cell that is looked at can be read.
export function walkable(box, said) {
  const rows = [...box.querySelectorAll("tbody tr")].map((row) => [...row.querySelectorAll("td.cell")]);
  const last = [rows.length - 1, rows[0].length - 1];
  const within = ([row, column]) => [Math.min(Math.max(row, 0), last[0]), Math.min(Math.max(column, 0), last[1])];
  const cellAt = ([row, column]) => rows[row][column];
  const show = (cell) => { said.textContent = cell?.getAttribute("aria-label") ?? "Point at a cell, or go there with arrow keys."; };
  const enter = (next) => {
    cellAt(place).tabIndex = -1;
    place = within(next);
    cellAt(place).tabIndex = 0;
  };
  const steps = {
    ArrowUp: ([row, column]) => [row - 1, column], ArrowDown: ([row, column]) => [row + 1, column],
    ArrowLeft: ([row, column]) => [row, column - 1], ArrowRight: ([row, column]) => [row, column + 1],
    Home: ([row], all) => [all ? 0 : row, 0], End: ([row], all) => [all ? last[0] : row, last[1]],
  };
  place = within(place);
  enter(place);
  show();
  box.onkeydown = (event) => {
    if (!steps[event.key] || event.altKey || event.metaKey) return;
    event.preventDefault();
    enter(steps[event.key](place, event.ctrlKey));
    cellAt(place).focus();
  };
  const table = box.firstChild;
  table.addEventListener("focusin", ({ target }) => {
    const row = rows.findIndex((cells) => cells.includes(target));
    if (row < 0) return;
    enter([row, rows[row].indexOf(target)]);
    show(target);
  });
  table.addEventListener("pointerover", ({ target }) => show(target.closest("td.cell") ?? document.activeElement.closest("#map td.cell")));
  table.addEventListener("pointerleave", () => show(document.activeElement.closest("#map td.cell")));
}
