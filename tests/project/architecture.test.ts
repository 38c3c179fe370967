import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import {
  architectureSvg,
  type Import,
  LAYERS,
  layerOf,
  PICTURE,
  readImports,
  REGENERATE,
  SHARED,
} from "../support/architecture.js";

/** An import against the direction of the layers, and why it is there. */
interface Exception {
  readonly from: string;
  readonly to: string;
  readonly reason: string;
}

const RESULTS = "the statistics that an error or a lock carries are public types of the count";
const PARTS = "a lock carries what extend and release need, and only they look inside";
const COMMANDS = "a connection sends the arguments that an operation has";

/** Every type that is imported from a higher layer. Shared files count as the lowest. */
const UPWARD_TYPES: readonly Exception[] = [
  { from: "clients/connection.ts", to: "operations/operation.ts", reason: COMMANDS },
  { from: "clients/bun.ts", to: "operations/operation.ts", reason: COMMANDS },
  { from: "clients/ioredis.ts", to: "operations/operation.ts", reason: COMMANDS },
  { from: "clients/node-redis.ts", to: "operations/operation.ts", reason: COMMANDS },
  { from: "errors.ts", to: "quorum/results.ts", reason: RESULTS },
  { from: "lock.ts", to: "quorum/results.ts", reason: RESULTS },
  { from: "lock.ts", to: "quorum/history.ts", reason: PARTS },
  { from: "lock.ts", to: "algorithm/lease.ts", reason: PARTS },
  { from: "lock.ts", to: "algorithm/handle.ts", reason: PARTS },
  { from: "lock.ts", to: "nodes/node.ts", reason: PARTS },
  { from: "lock.ts", to: "operations/accept-fence.ts", reason: PARTS },
];

/** What shared files call in other folders: files that import no value themselves, so that no cycle can form. */
const LEAVES: readonly Exception[] = [
  {
    from: "settings.ts",
    to: "algorithm/validity.ts",
    reason:
      "the threshold for extending is compared with what the drift allowance leaves of the ttl",
  },
  {
    from: "settings.ts",
    to: "runtime/owner.ts",
    reason: "the default of owner is the name of this process",
  },
  {
    from: "input.ts",
    to: "algorithm/validity.ts",
    reason: "a ttl is refused if the drift allowance leaves nothing of it",
  },
  {
    from: "input.ts",
    to: "operations/companion-key.ts",
    reason: "a resource is refused if its key has the form of a companion key",
  },
];

const root = join(import.meta.dirname, "..", "..");
const read = (path: string): string => readFileSync(join(root, path), "utf8");
const page = read("docs/architecture.md");
const imports = await readImports();

function rank(file: string): number {
  const layer = layerOf(file);
  return layer === SHARED ? LAYERS.length : LAYERS.indexOf(layer);
}

function inWords({ from, to }: Pick<Import, "from" | "to">): string {
  return `${from} → ${to}`;
}

/** The imports from a lower layer to a higher one. */
function upward(isTypeOnly: boolean): string[] {
  const found = imports.filter((one) => one.isTypeOnly === isTypeOnly);
  return found.filter(({ from, to }) => rank(from) > rank(to)).map(inWords);
}

/** Each cycle of imports once, by depth-first search: the path from where it is entered back to there. */
function cyclesOf(edges: readonly Import[]): string[] {
  const targets = new Map<string, string[]>();
  for (const { from, to } of edges) targets.set(from, [...(targets.get(from) ?? []), to]);
  const cycles: string[] = [];
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): void => {
    const start = path.indexOf(file);
    if (start >= 0) {
      cycles.push([...path.slice(start), file].join(" → "));
      return;
    }
    if (done.has(file)) return;
    for (const target of targets.get(file) ?? []) visit(target, [...path, file]);
    done.add(file);
  };
  for (const file of targets.keys()) visit(file, []);
  return cycles;
}

describe("the imports of src", () => {
  test("form no cycle, once the types are erased", () => {
    expect(cyclesOf(imports.filter(({ isTypeOnly }) => !isTypeOnly))).toEqual([]);
  });

  test("would not pass with a cycle", () => {
    const edge = (from: string, to: string): Import => ({ from, to, isTypeOnly: false });
    const edges = [edge("a", "b"), edge("b", "c"), edge("c", "b"), edge("d", "a")];
    expect(cyclesOf(edges)).toEqual(["b → c → b"]);
  });

  test("of values lead to the same layer or a lower one, and from shared files to leaves", () => {
    expect(upward(false).sort()).toEqual(LEAVES.map(inWords).sort());
    const leaves = LEAVES.map(({ to }) => to);
    const values = imports.filter(({ isTypeOnly }) => !isTypeOnly);
    expect(values.filter(({ from }) => leaves.includes(from)).map(inWords)).toEqual([]);
  });

  test("lead neither into the testing kit nor out of it, so that nobody loads it in production", () => {
    const isKit = (file: string): boolean => file.startsWith("testing/");
    expect(imports.filter(({ from }) => isKit(from))).not.toEqual([]);
    expect(imports.filter(({ from, to }) => isKit(from) !== isKit(to)).map(inWords)).toEqual([]);
  });

  test("of types lead upwards only where this test says why", () => {
    expect(upward(true).sort()).toEqual(UPWARD_TYPES.map(inWords).sort());
  });
});

describe("docs/architecture.md", () => {
  test("shows the imports as they are", async () => {
    const isCurrent = read(PICTURE) === (await architectureSvg());
    expect(isCurrent ? "current" : `${PICTURE} is out of date. Run: ${REGENERATE}`).toBe("current");
  });

  test("names each folder and file directly in src", () => {
    const entries = readdirSync(join(root, "src"), { withFileTypes: true });
    const names = entries.map((entry) => `src/${entry.name}${entry.isDirectory() ? "/" : ""}`);
    expect(names.filter((name) => !page.includes(`\`${name}\``))).toEqual([]);
  });

  test("names only files and folders that exist", () => {
    const inCode = [...page.matchAll(/`([\w.-]+\/[\w./-]*|[\w-]+\.(?:md|json|ts|js))`/g)];
    const linked = [...page.matchAll(/\]\(([\w./-]+)\)/g)];
    const paths = [
      ...inCode.map(([, path = ""]) => path),
      ...linked.map(([, path = ""]) => `docs/${path}`),
    ];
    expect(paths.length).toBeGreaterThan(50);
    expect(paths.filter((path) => !existsSync(join(root, path)))).toEqual([]);
  });

  // In its tables, a cell with code after a cell with nothing but a file says what stands in that file.
  const fragments = page.split("\n").flatMap((line) => {
    const cells = line.split("|").map((cell) => cell.trim());
    return cells.flatMap((cell, index) => {
      const [, file] = /^`(src\/[\w./-]+\.ts)`$/.exec(cell) ?? [];
      const [, code] = /^`([^`]+)`$/.exec(cells[index + 1] ?? "") ?? [];
      return file === undefined || code === undefined ? [] : [[file, code] as const];
    });
  });

  test("quotes the code of each step", () => {
    expect(fragments.length).toBeGreaterThanOrEqual(20);
  });

  test.each(fragments)("quotes %s as it is: %s", (file, code) => {
    expect(read(file).replace(/\s+/g, " ")).toContain(code);
  });
});
