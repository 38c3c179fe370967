/** Returns a Markdown table that is also aligned for a terminal: numbers to the right, texts to the left. */
export function tableOf(
  columns: readonly string[],
  rows: readonly (readonly (string | number)[])[],
): string {
  const widths = columns.map((column, index) =>
    Math.max(column.length, ...rows.map((row) => String(row[index] ?? "").length)),
  );
  const isNumeric = columns.map((_, index) =>
    rows.every((row) => /^\d*$/.test(String(row[index] ?? ""))),
  );
  const line = (cells: readonly (string | number)[]): string => {
    const padded = widths.map((width, index) => {
      const text = String(cells[index] ?? "");
      return isNumeric[index] === true ? text.padStart(width) : text.padEnd(width);
    });
    return `| ${padded.join(" | ")} |`;
  };
  const rule = widths.map((width, index) =>
    isNumeric[index] === true ? `${"-".repeat(width - 1)}:` : "-".repeat(width),
  );
  return [line(columns), line(rule), ...rows.map(line)].join("\n");
}
