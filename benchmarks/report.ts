// What a run says: Markdown on the terminal, a JSON file, and, where asked for, the parts of
// docs/benchmarks.md between its markers, with their charts.

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { format } from "prettier";
import { drawingOf } from "./charts.js";
import type { Figure, Goal, Outcome, Scenario, Table } from "./scenario.js";

/** A scenario's outcome, and where it comes from. */
export interface Result {
  readonly scenario: string;
  readonly rounds: number;
  readonly short: boolean;
  readonly date: string;
  readonly commit: string;
  readonly machine: string;
  /** Of what was compared, by name. */
  readonly versions: Readonly<Record<string, string>>;
  readonly outcome: Outcome;
}

const root = join(import.meta.dirname, "..");
const RESULTS = join(import.meta.dirname, "results", "latest.json");
const DOCS = join(root, "docs", "benchmarks.md");
const CHARTS = join(root, "docs", "charts");

export async function resultInMarkdown(scenario: Scenario, result: Result): Promise<string> {
  const { outcome, rounds, short, date, commit, machine, versions } = result;
  // Fewer rounds than a scenario usually has make no figure worth comparing.
  const trial = short || rounds < scenario.rounds.usual ? " A trial, not a measurement." : "";
  const about = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  const parts = [
    ...outcome.tables.map(tableInMarkdown),
    ...(outcome.goals.length === 0 ? [] : [goalsInMarkdown(outcome.goals)]),
    ...(outcome.notes ?? []),
    `Rounds: ${rounds}.${trial} ${date}, commit ${commit}, ${machine}; ${about.join(", ")}.`,
  ];
  return format(parts.join("\n\n"), { parser: "markdown", printWidth: 100 });
}

export function goalsInMarkdown(goals: readonly Goal[]): string {
  return tableInMarkdown({
    columns: [{ name: "goal" }, { name: "measured" }, { name: "wanted" }, { name: "" }],
    rows: goals.map(({ measure, measured, digits = 2, goal, met }) => ({
      name: measure,
      figures: [inText(measured, digits), goal, verdict(met)],
    })),
  });
}

function verdict(met: boolean | undefined): string {
  if (met === undefined) return "not judged";
  return met ? "met" : "MISSED";
}

export function tableInMarkdown({ columns, rows }: Table): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [
    line(columns.map(({ name }) => name)),
    line(columns.map((_, column) => (column === 0 ? "---" : "---:"))),
    ...rows.map(({ name, figures }) =>
      line([name, ...figures.map((figure, index) => inText(figure, columns[index + 1]?.digits))]),
    ),
  ].join("\n");
}

/** A spread as its median, with the quartiles behind it. */
function inText(figure: Figure, digits = 0): string {
  if (figure === undefined) return "–";
  if (typeof figure === "string") return figure;
  if (typeof figure === "number") return figure.toFixed(digits);
  const [middle, lower, upper] = [figure.median, figure.lowerQuartile, figure.upperQuartile].map(
    (value) => value.toFixed(digits),
  );
  return `${middle} (${lower}–${upper})`;
}

/** Keeps what other runs measured of the other scenarios. */
export async function saveResults(results: readonly Result[]): Promise<string> {
  await mkdir(dirname(RESULTS), { recursive: true });
  const earlier = await readFile(RESULTS, "utf8").then(
    (text) => JSON.parse(text) as Record<string, Result>,
    () => ({}),
  );
  const latest = { ...earlier, ...Object.fromEntries(results.map((one) => [one.scenario, one])) };
  await writeFile(
    RESULTS,
    await format(JSON.stringify(latest), { parser: "json", printWidth: 100 }),
  );
  return RESULTS;
}

/** Writes the scenario's part of the docs between its markers, and draws its charts. */
export async function writeDocs(scenario: Scenario, result: Result): Promise<void> {
  const begin = `<!-- begin ${scenario.name}: written by the run -->`;
  const end = `<!-- end ${scenario.name} -->`;
  const text = await readFile(DOCS, "utf8");
  const [before, ...afterBegin] = text.split(begin);
  const after = afterBegin.join(begin).split(end).slice(1).join(end);
  if (before === undefined || afterBegin.length === 0 || after === "") {
    throw new Error(`${DOCS} lacks the lines “${begin}” and “${end}”.`);
  }
  const images = await drawCharts(result.outcome);
  const written = [begin, scenario.about, ...images, await resultInMarkdown(scenario, result), end];
  const whole = `${before}${written.join("\n\n")}${after}`;
  await writeFile(DOCS, await format(whole, { parser: "markdown", printWidth: 100 }));
}

/** The lines of Markdown that show them. */
async function drawCharts({ charts = [] }: Outcome): Promise<string[]> {
  const draw = drawingOf();
  if (draw === undefined) {
    console.error("No charts: ECharts is not installed (npm ci --prefix benchmarks).");
    return [];
  }
  await mkdir(CHARTS, { recursive: true });
  return Promise.all(
    charts.map(async (chart) => {
      await writeFile(join(CHARTS, `${chart.name}.svg`), `${draw(chart)}\n`);
      return `![${chart.title}](charts/${chart.name}.svg)`;
    }),
  );
}
