import { inWords } from "../errors.js";
import { inMs, leftInWords, printable } from "./report.js";
import type { Size } from "./screen.js";
import { type PermitRow } from "./permits.js";
import { readersInWords, type Status } from "./status.js";
import type { NodeState, Snapshot } from "./top.js";

const INVERSE = "\u001b[7m";
const NORMAL = "\u001b[m";
const GAP = 2;
/** A name is not cut shorter than this, as long as other columns can be left out. */
const SHORT = 24;

/** Whether a column may be cut, and which are left out first on a narrow terminal. */
interface Column {
  readonly title: string;
  readonly canCut?: boolean;
  /** The highest goes first. */
  readonly expendable?: number;
}

const NODE_COLUMNS: readonly Column[] = [
  { title: "node", canCut: true },
  { title: "latency" },
  { title: "version", expendable: 2 },
  { title: "persistence", expendable: 3 },
  { title: "findings", expendable: 1 },
  { title: "state", canCut: true },
];

const LOCK_COLUMNS: readonly Column[] = [
  { title: "lock", canCut: true },
  { title: "holder", canCut: true, expendable: 1 },
  { title: "remaining" },
  { title: "queue" },
  { title: "fence", expendable: 3 },
  { title: "nodes", expendable: 2 },
];

/** Returns the lines of a snapshot for a terminal of this size. */
export function linesOf(snapshot: Snapshot, size: Size, isLive: boolean): string[] {
  const { columns, rows } = size;
  const { nodes, locks } = snapshot;
  const notes = notesOn(snapshot);
  const lockCells = locks.flatMap(rowsOfLock);
  // Beside the title, each table has a head and an empty line before it.
  const free = Math.max(2, rows - 1 - (locks.length === 0 ? 2 : 4) - notes.length);
  const forNodes =
    locks.length === 0 ? free : Math.max(free - lockCells.length, Math.ceil(free / 2));
  // What is wrong must be seen, whatever there is room for.
  const isWell = ({ state, dangers }: NodeState): boolean => state === "ok" && dangers === 0;
  const byNeed = nodes.length <= forNodes ? nodes : [...nodes].sort(byFalse(isWell));
  const nodeRows = firstOf(byNeed.map(rowOfNode), forNodes);
  const lockRows = firstOf(lockCells, free - Math.min(nodes.length, forNodes));
  const title = titleOf(snapshot, isLive).slice(0, columns);
  return [
    isLive ? `${INVERSE}${title.padEnd(columns)}${NORMAL}` : title,
    "",
    ...fitted(NODE_COLUMNS, nodeRows, columns),
    ...(locks.length === 0 ? [] : ["", ...fitted(LOCK_COLUMNS, lockRows, columns)]),
    ...notes.map((note) => note.slice(0, columns)),
  ];
}

function byFalse<T>(is: (item: T) => boolean): (a: T, b: T) => number {
  return (a, b) => Number(is(a)) - Number(is(b));
}

function titleOf({ time, nodes, quorum }: Snapshot, isLive: boolean): string {
  const replied = nodes.filter(({ state }) => state !== "no reply").length;
  const verdict = replied < quorum ? `NO QUORUM (${quorum})` : `quorum ${quorum}`;
  const clock = isLive ? `${new Date(time).toTimeString().slice(0, 8)}  ` : "";
  const keys = isLive ? "  q quits" : "";
  return `redlock top  ${clock}${replied} of ${nodes.length} nodes reply, ${verdict}${keys}`;
}

function notesOn({ locks, more, scan }: Snapshot): string[] {
  if (scan === null) {
    return locks.length === 0 ? ["", "No locks: give their names, or --prefix."] : [];
  }
  const { prefix, complete, error } = scan;
  const where = prefix === "" ? "" : ` under ${printable(prefix)}`;
  const parts = [
    ...(locks.length === 0 ? [`no locks found${where}`] : []),
    ...(more === 0 ? [] : [`${more} more locks${where}: give a longer --prefix`]),
    ...(complete ? [] : ["not all keys are read yet"]),
    ...(error === null ? [] : [`SCAN: ${printable(error)}`]),
  ];
  return parts.length === 0 ? [] : [`  ${parts.join("; ")}`];
}

function rowOfNode(node: NodeState): string[] {
  const { latencyMs, version, persistence, findings, dangers } = node;
  const danger = dangers === 0 ? "" : `, ${dangers} DANGER`;
  return [
    node.node,
    latencyMs === null ? "–" : inMs(latencyMs),
    version ?? "–",
    persistence ?? "–",
    findings === 0 ? "–" : `${findings}${danger}`,
    stateInWords(node),
  ];
}

function stateInWords({ state, error, heldBackUntil }: NodeState): string {
  if (state === "no reply") return printable(error ?? "did not reply");
  if (heldBackUntil === null) return state;
  return `held back for ${inWords(Math.max(0, heldBackUntil - Date.now()))}`;
}

/** Of permits: one row for all, and one for each that is taken. */
function rowsOfLock(status: Status): string[][] {
  const { resource, permits, permitCount, waiters, state, nodes } = status;
  if (permits === null) return [rowOfLock(status)];
  const of = permitCount === null ? "" : ` of ${permitCount}`;
  const count = `${permits.length}${of} permit${of === "" && permits.length === 1 ? "" : "s"}`;
  const holders = state === "unknown" ? state : count;
  const queue = waiters === 0 ? "–" : String(waiters);
  const rowOf = ({ permit, owner, remainingMs, nodes: holding }: PermitRow): string[] => [
    `  permit ${permit}`,
    owner ?? "without an owner",
    leftInWords(remainingMs),
    "–",
    "–",
    `${holding} of ${nodes.length}`,
  ];
  return [[printable(resource), holders, "–", queue, "–", "–"], ...permits.map(rowOf)];
}

function rowOfLock({ resource, state, owner, value, remainingMs, ...others }: Status): string[] {
  const { fence, waiters, readers, nodes } = others;
  const holding = nodes.filter(
    (row) =>
      value !== null &&
      (row.value === value || row.readers?.some((reader) => reader.value === value) === true),
  ).length;
  const isHeld = state === "held";
  return [
    printable(resource),
    isHeld ? holderInWords(owner, readers) : state,
    isHeld ? leftInWords(remainingMs) : "–",
    waiters === 0 ? "–" : String(waiters),
    fence === null ? "–" : String(fence),
    isHeld ? `${holding} of ${nodes.length}` : "–",
  ];
}

function holderInWords(owner: string | null, readers: Status["readers"]): string {
  return readers === null ? (owner ?? "without an owner") : readersInWords(readers);
}

/** Returns as many rows as there is room for. If that is not all, the last one says how many more there are. */
function firstOf(rows: readonly string[][], room: number): readonly string[][] {
  if (rows.length <= room) return rows;
  const shown = Math.max(0, room - 1);
  return [...rows.slice(0, shown), [`… ${rows.length - shown} more`]];
}

/** Returns the lines of a table that is no wider than the terminal. */
function fitted(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  width: number,
): string[] {
  const cells = [columns.map(({ title }) => title), ...rows];
  const widths = columns.map((_, column) =>
    Math.max(...cells.map((row) => (row[column] ?? "").length)),
  );
  const isOut = new Set<number>();
  const excess = (): number => {
    const shown = widths.filter((_, column) => !isOut.has(column));
    return shown.reduce((sum, each) => sum + each + GAP, 0) - width;
  };
  const cutDownTo = (least: number): void => {
    while (excess() > 0) {
      const longest = Math.max(
        ...columns.map(({ canCut }, column) =>
          canCut === true && !isOut.has(column) ? (widths[column] ?? 0) : 0,
        ),
      );
      if (longest <= least) return;
      widths[widths.findIndex((each, at) => each === longest && columns[at]?.canCut)] = longest - 1;
    }
  };
  cutDownTo(SHORT);
  const byExpendability = columns
    .map(({ expendable = 0 }, column) => ({ expendable, column }))
    .filter(({ expendable }) => expendable > 0)
    .sort((a, b) => b.expendable - a.expendable);
  for (const { column } of byExpendability) if (excess() > 0) isOut.add(column);
  cutDownTo(1);
  return cells.map((row) => {
    const shown = columns.flatMap((_, column) =>
      isOut.has(column) ? [] : [cut(row[column] ?? "", widths[column] ?? 0)],
    );
    return `  ${shown.join("  ")}`.trimEnd().slice(0, width);
  });
}

function cut(text: string, width: number): string {
  return text.length > width ? `${text.slice(0, Math.max(0, width - 1))}…` : text.padEnd(width);
}
