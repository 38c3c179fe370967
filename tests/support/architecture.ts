// Reads which file of src imports which, and draws it by folder: docs/architecture.svg.
//
//   npx tsx tests/support/architecture.ts      writes the picture anew

import { readdir, readFile, writeFile } from "node:fs/promises";
import { join, posix } from "node:path";
import ts from "typescript";

const root = join(import.meta.dirname, "..", "..");
export const PICTURE = "docs/architecture.svg";
export const REGENERATE = "npx tsx tests/support/architecture.ts";

/** One import between two files. Paths are relative to src, with `/`. */
export interface Import {
  readonly from: string;
  readonly to: string;
  /** Erased by the compiler: `import type`, `export type`, or `import("…")` in a type. */
  readonly isTypeOnly: boolean;
}

/** A row of the picture: a folder, or the files beside the folders. */
export interface Layer {
  /** A folder of src, or the name of the group that `files` form. */
  readonly name: string;
  /** For a group: its files, directly in src. */
  readonly files?: readonly string[];
  /** What it is for, in at most three lines of the picture. */
  readonly purpose: readonly string[];
  readonly color: string;
}

/** From top to bottom: a file may import from its own layer and from those below it. */
export const LAYERS: readonly Layer[] = [
  {
    name: "opentelemetry",
    purpose: ["an entry of its own:", "spans and metrics"],
    color: "#4f46e5",
  },
  {
    name: "nestjs",
    purpose: ["redlock-quorum/nestjs:", "a module, @Locked"],
    color: "#e0234e",
  },
  {
    name: "cli",
    purpose: ["the program redlock:", "one command per file"],
    color: "#0e7490",
  },
  {
    name: "testing",
    purpose: ["an entry of its own:", "Redis in memory"],
    color: "#9f1239",
  },
  {
    name: "entry",
    files: ["index.ts", "redlock.ts", "emitter.ts", "internals.ts"],
    purpose: ["index, redlock, internals:", "the public interface"],
    color: "#334155",
  },
  {
    name: "reports",
    purpose: ["what the nodes hold,", "and how they are"],
    color: "#b45309",
  },
  {
    name: "algorithm",
    purpose: ["the Redlock steps:", "one file per verb"],
    color: "#1d4ed8",
  },
  {
    name: "waiting",
    purpose: ["the queue of callers", "that wait for a lock"],
    color: "#7e22ce",
  },
  {
    name: "quorum",
    purpose: ["asks every node,", "counts the votes"],
    color: "#0f766e",
  },
  {
    name: "nodes",
    purpose: ["one Redis server", "as the library sees it"],
    color: "#be123c",
  },
  {
    name: "operations",
    purpose: ["one file per operation:", "its Lua and its reply"],
    color: "#4d7c0f",
  },
  {
    name: "clients",
    purpose: ["adapters to", "Redis client libraries"],
    color: "#0369a1",
  },
  {
    name: "runtime",
    purpose: ["clocks, timers,", "randomness"],
    color: "#57534e",
  },
];

/** At the side: any file may import these. */
export const SHARED: Layer = {
  name: "shared",
  files: ["errors.ts", "events.ts", "channels.ts", "settings.ts", "input.ts", "lock.ts"],
  purpose: ["errors", "events", "channels", "settings", "input", "lock"],
  color: "#111827",
};

/** Returns the layer of a file of src. Throws where a new folder or file has none yet. */
export function layerOf(file: string): Layer {
  const [folder = ""] = file.split("/");
  const layer = [...LAYERS, SHARED].find(({ name, files }) =>
    files === undefined ? name === folder : files.includes(file),
  );
  if (layer === undefined) {
    throw new Error(
      `src/${file} belongs to no layer: the picture has none for it. Add one to LAYERS in tests/support/architecture.ts.`,
    );
  }
  return layer;
}

/** Returns each import between two files of src, in alphabetical order. */
export async function readImports(): Promise<readonly Import[]> {
  const paths = await readdir(join(root, "src"), { recursive: true });
  const files = paths
    .filter((path) => path.endsWith(".ts"))
    .map((path) => path.replaceAll("\\", "/"))
    .sort();
  const imports = await Promise.all(
    files.map(async (file) => importsIn(file, await readFile(join(root, "src", file), "utf8"))),
  );
  return imports.flat();
}

function importsIn(file: string, text: string): Import[] {
  const imports: Import[] = [];
  const add = (specifier: ts.Node | undefined, isTypeOnly: boolean): void => {
    if (specifier === undefined || !ts.isStringLiteral(specifier)) return;
    if (!specifier.text.startsWith(".")) return;
    const to = posix.join(posix.dirname(file), specifier.text.replace(/\.js$/, ".ts"));
    imports.push({ from: file, to, isTypeOnly });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) {
      const { importClause, moduleSpecifier } = node;
      add(moduleSpecifier, importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword);
    } else if (ts.isExportDeclaration(node)) {
      add(node.moduleSpecifier, node.isTypeOnly);
    } else if (ts.isImportTypeNode(node)) {
      add(ts.isLiteralTypeNode(node.argument) ? node.argument.literal : undefined, true);
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      add(node.arguments[0], false);
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(file, text, ts.ScriptTarget.Latest));
  return imports;
}

/** An arrow of the picture: all imports from one layer to another. */
interface Arrow {
  readonly from: Layer;
  readonly to: Layer;
  readonly isTypeOnly: boolean;
}

function arrowsOf(imports: readonly Import[]): Arrow[] {
  const arrows: Arrow[] = [];
  const layers = [...LAYERS, SHARED];
  for (const from of layers) {
    for (const to of layers) {
      const between = imports.filter(
        (one) => from !== to && layerOf(one.from) === from && layerOf(one.to) === to,
      );
      if (between.length === 0) continue;
      arrows.push({ from, to, isTypeOnly: between.every(({ isTypeOnly }) => isTypeOnly) });
    }
  }
  return arrows;
}

// The picture is a staircase: each layer stands one step to the right of the one above it. An arrow leaves its
// layer sideways, in a track of its own, turns once, and enters the imported layer from above, or from below
// where it leads upwards. So no arrow meets a box, and arrows cross each other only at right angles.

const MARGIN = 20;
const BOX = { width: 190, height: 74 };
const STEP = { x: 104, y: BOX.height + 22 };
const SIDE = { width: 104, gap: 84 };
const TOP = 62;
const CORNER = 6;
const HEAD = { length: 9, halfWidth: 4 };

const WIDTH = MARGIN + SIDE.width + SIDE.gap + (LAYERS.length - 1) * STEP.x + BOX.width + MARGIN;
const HEIGHT = TOP + (LAYERS.length - 1) * STEP.y + BOX.height + MARGIN;

const leftOf = (row: number): number => MARGIN + SIDE.width + SIDE.gap + row * STEP.x;
const topOf = (row: number): number => TOP + row * STEP.y;

/** Returns the picture as SVG. The same imports give the same text. */
export async function architectureSvg(): Promise<string> {
  const arrows = arrowsOf(await readImports());
  const shapes = [
    heading(),
    ...arrows.map((arrow) => drawn(arrow, pathOf(arrow, arrows))),
    sideBox(),
    ...LAYERS.map((layer, row) => box(layer, row)),
  ];
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" font-family="Helvetica, Arial, sans-serif">
<title>Which folder of src imports which</title>
<desc>Generated from the imports by tests/support/architecture.ts.</desc>
<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>
${shapes.join("\n")}
</svg>
`;
}

function heading(): string {
  const x = leftOf(2) - 20;
  return [
    text(x, 28, "Arrows lead from the folder that imports to the one that it imports.", 15, "bold"),
    text(x, 48, "Dashed: only types are imported. Each arrow has the colour of its importer.", 14),
  ].join("\n");
}

function box({ name, files, purpose, color }: Layer, row: number): string {
  const x = leftOf(row);
  const y = topOf(row);
  const title = files === undefined ? `${name}/` : name;
  const lines = purpose.map((line, index) => text(x + 12, y + 45 + 17 * index, line, 13));
  return [frame(x, y, BOX.width, BOX.height, color), text(x + 12, y + 24, title, 17, "bold", color)]
    .concat(lines)
    .join("\n");
}

function sideBox(): string {
  const { name, purpose, color } = SHARED;
  const height = HEIGHT - TOP - MARGIN;
  const y = TOP + height / 2;
  const lines = purpose.map((line, index) => text(MARGIN + 14, y + 12 + 19 * index, line, 14));
  return [
    frame(MARGIN, TOP, SIDE.width, height, color),
    text(MARGIN + 14, y - 14, name, 17, "bold", color),
  ]
    .concat(lines)
    .join("\n");
}

function frame(x: number, y: number, width: number, height: number, color: string): string {
  const size = `x="${x}" y="${y}" width="${width}" height="${height}" rx="8"`;
  return `<rect ${size} fill="#f8fafc" stroke="${color}" stroke-width="2"/>`;
}

function text(
  x: number,
  y: number,
  words: string,
  size: number,
  weight = "normal",
  color = "#1f2937",
): string {
  return `<text x="${x}" y="${y}" font-size="${size}" font-weight="${weight}" fill="${color}">${words}</text>`;
}

interface Point {
  readonly x: number;
  readonly y: number;
}

/** Where an arrow begins, turns, if it does, and ends. */
function pathOf({ from, to }: Arrow, arrows: readonly Arrow[]): readonly Point[] {
  const fromRow = LAYERS.indexOf(from);
  const toRow = LAYERS.indexOf(to);
  if (from === SHARED || to === SHARED) {
    const row = from === SHARED ? toRow : fromRow;
    const y = onSide(arrows, row, from === SHARED ? "from shared" : "to shared");
    const ends = [
      { x: leftOf(row), y },
      { x: MARGIN + SIDE.width, y },
    ];
    return from === SHARED ? ends.reverse() : ends;
  }
  const isDown = fromRow < toRow;
  const y = isDown
    ? track(
        topOf(fromRow),
        BOX.height,
        // The one that turns first is the lowest.
        rowsFrom(from, arrows, true).indexOf(toRow),
        rowsFrom(from, arrows, true).length,
      )
    : onSide(arrows, fromRow, toRow);
  const others = rowsTo(to, arrows, isDown);
  // The part of the imported box's edge that no other box stands in front of.
  const openX = isDown ? leftOf(toRow) + BOX.width - STEP.x : leftOf(toRow);
  const x = track(openX, STEP.x, others.indexOf(fromRow), others.length);
  return [
    { x: isDown ? leftOf(fromRow) + BOX.width : leftOf(fromRow), y },
    { x, y },
    { x, y: isDown ? topOf(toRow) : topOf(toRow) + BOX.height },
  ];
}

/** The rows that a layer's arrows lead to on one side: the one farthest to the right or left first. */
function rowsFrom(layer: Layer, arrows: readonly Arrow[], isDown: boolean): number[] {
  const row = LAYERS.indexOf(layer);
  const rows = arrows
    .filter(({ from }) => from === layer)
    .map(({ to }) => LAYERS.indexOf(to))
    .filter((other) => other >= 0 && other > row === isDown);
  return rows.sort((a, b) => (isDown ? b - a : a - b));
}

/** The rows that a layer's arrows come from on one side, from left to right in the picture. */
function rowsTo(layer: Layer, arrows: readonly Arrow[], isDown: boolean): number[] {
  const row = LAYERS.indexOf(layer);
  const rows = arrows
    .filter(({ to }) => to === layer)
    .map(({ from }) => LAYERS.indexOf(from))
    .filter((other) => other >= 0 && other < row === isDown);
  return rows.sort((a, b) => b - a);
}

/** The height at which an arrow leaves or enters a layer on its left: upward arrows above, shared files below. */
function onSide(arrows: readonly Arrow[], row: number, end: number | "to shared" | "from shared") {
  const layer = LAYERS[row];
  if (layer === undefined) return NaN;
  const ends = [
    ...rowsFrom(layer, arrows, false).reverse(),
    ...(arrows.some(({ from, to }) => from === layer && to === SHARED) ? ["to shared"] : []),
    ...(arrows.some(({ from, to }) => from === SHARED && to === layer) ? ["from shared"] : []),
  ];
  return track(topOf(row), BOX.height, ends.indexOf(end), ends.length);
}

/** The place of one of several tracks, spread evenly over a length. */
function track(start: number, length: number, index: number, count: number): number {
  return Math.round(start + (length * (index + 1)) / (count + 1));
}

function drawn({ from, isTypeOnly }: Arrow, [start, ...rest]: readonly Point[]): string {
  const end = rest.at(-1);
  const before = rest.at(-2) ?? start;
  if (start === undefined || end === undefined || before === undefined) return "";
  const direction = { x: Math.sign(end.x - before.x), y: Math.sign(end.y - before.y) };
  const neck = moved(end, direction, -HEAD.length);
  const line = [`M${at(start)}`];
  if (before !== start) {
    const sideways = { x: Math.sign(before.x - start.x), y: 0 };
    line.push(
      `L${at(moved(before, sideways, -CORNER))}`,
      `Q${at(before)} ${at(moved(before, direction, CORNER))}`,
    );
  }
  line.push(`L${at(neck)}`);
  const across = { x: direction.y, y: direction.x };
  const head = [
    end,
    moved(neck, across, HEAD.halfWidth),
    moved(neck, across, -HEAD.halfWidth),
  ] as const;
  const dashes = isTypeOnly ? ` stroke-dasharray="5 4"` : "";
  return [
    `<path d="${line.join(" ")}" fill="none" stroke="${from.color}" stroke-width="1.5"${dashes}/>`,
    `<path d="M${head.map(at).join(" L")} Z" fill="${from.color}"/>`,
  ].join("\n");
}

function moved({ x, y }: Point, direction: Point, distance: number): Point {
  return { x: x + distance * direction.x, y: y + distance * direction.y };
}

function at({ x, y }: Point): string {
  return `${x} ${y}`;
}

if (process.argv[1] === import.meta.filename) {
  await writeFile(join(root, PICTURE), await architectureSvg());
}
