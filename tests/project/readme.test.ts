// Compiles and runs every code block of the README and of docs/*.md as a reader would: against the
// packed package and real servers.

import { EventEmitter } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { ask } from "../support/servers.js";
import { Lock, Redlock } from "../../src/index.js";
import { defaultOwner } from "../../src/runtime/owner.js";
import { resolveSettings } from "../../src/settings.js";
import { anchorsOfMarkdown } from "../support/links.js";
import { type PackedPackage, packPackage, run, runTool } from "../support/packed-package.js";
import { useServers } from "../support/use-servers.js";

const root = join(import.meta.dirname, "..", "..");
const readme = read("README.md");
const docs = existsSync(join(root, "docs")) ? readdirSync(join(root, "docs")) : [];
const guides = docs.filter((name) => name.endsWith(".md")).map((name) => `docs/${name}`);
const documents = ["README.md", ...guides];
const blocks = documents.flatMap(blocksOf);
const programs = blocksIn("ts", "js");
const shellLines = blocksIn("sh").flatMap(({ where, text }) =>
  text.split("\n").map((line) => ({ where, line })),
);

/** The documents' nodes. Each is replaced, wherever its port stands, by a server of this test. */
const documentedPorts = [6391, 6392, 6393, 6394, 6395];

/**
 * What goes around a program that makes no Redlock of its own; the README announces it under "API".
 * The long timeout lets no busy machine fail an example.
 */
const prologue = `
import { setTimeout as sleep } from "node:timers/promises";
import { Redlock } from "redlock-quorum";
const urls = ${JSON.stringify(documentedPorts)}.map((port) => \`redis://127.0.0.1:\${port}\`);
const redlock = new Redlock(urls, { nodeTimeout: 10_000 });
const work = async () => {
  await sleep(10);
};`;
const epilogue = "await redlock.quit();";

const compilerOptions = {
  target: "ES2022",
  lib: ["ES2022", "ESNext.Disposable"],
  types: ["node"],
  module: "nodenext",
  strict: true,
  noUncheckedIndexedAccess: true,
  exactOptionalPropertyTypes: true,
  noPropertyAccessFromIndexSignature: true,
  noImplicitReturns: true,
  allowJs: true,
  checkJs: true,
  skipLibCheck: false,
  // As in every Nest application.
  experimentalDecorators: true,
  emitDecoratorMetadata: true,
  rootDir: ".",
  outDir: "out",
};

interface Block {
  /** File and line. */
  readonly where: string;
  readonly language: string;
  readonly text: string;
}

const servers = useServers(documentedPorts.length);
let packed: PackedPackage | undefined;
let examples = "";
let diagnostics: string[] = [];

beforeAll(async () => {
  packed = await packPackage();
  examples = join(packed.directory, "examples");
  await mkdir(examples);
  for (const block of programs) {
    await writeFile(join(examples, fileOf(block)), onOurServers(whole(block.text)));
  }
  const files = programs.map(fileOf);
  await writeFile(join(examples, "tsconfig.json"), JSON.stringify({ compilerOptions, files }));
  const { out } = await runTool("typescript/bin/tsc", ["--pretty", "false"], examples);
  diagnostics = out.split("\n").filter((line) => line !== "");
});

afterAll(() => packed?.remove());

beforeEach(async () => {
  await Promise.all(servers.map(({ port }) => ask(port, ["FLUSHALL"])));
});

function read(path: string): string {
  return readFileSync(join(root, path), "utf8");
}

function blocksOf(path: string): Block[] {
  const text = read(path);
  return [...text.matchAll(/^```(.*)\n([^]*?)^```$/gm)].map((match) => ({
    where: `${path}:${text.slice(0, match.index).split("\n").length}`,
    language: match[1] ?? "",
    text: (match[2] ?? "").trimEnd(),
  }));
}

function blocksIn(...languages: string[]): Block[] {
  return blocks.filter(({ language }) => languages.includes(language));
}

function fileOf({ where, language, text }: Block): string {
  const name = where.replace(/\W/g, "-");
  if (language === "ts") return `${name}.mts`;
  return `${name}.${text.includes("require(") ? "cjs" : "mjs"}`;
}

/** A program as it can be compiled: with the prologue and epilogue, unless it makes its own Redlock. */
function whole(text: string): string {
  return /"redlock-quorum["/]/.test(text) ? text : `${prologue}\n{\n${text}\n}\n${epilogue}\n`;
}

function onOurServers(text: string): string {
  return documentedPorts.reduce(
    (replaced, port, index) => replaced.replaceAll(String(port), String(servers[index]?.port)),
    text,
  );
}

/** What a program prints is said in its comments: `// prints: …`, in this order. */
function announcedLines(text: string): string[] {
  return [...text.matchAll(/\/\/ prints: (.*)$/gm)].map((match) => match[1] ?? "");
}

describe("the documents' code blocks", () => {
  test("are all of a kind that is checked here", () => {
    // Those of the command line are checked by tests/cli/manual.test.ts.
    const others = blocks.filter(({ where, language }) => {
      const ofCommands = language === "console" && where.startsWith("docs/operations.md:");
      return !ofCommands && !where.startsWith("docs/command-line.md:");
    });
    const kinds = new Set(others.map(({ language }) => language));
    expect([...kinds].filter((kind) => !["ts", "js", "sh", "text"].includes(kind))).toEqual([]);
  });

  test.each(documents)("are all found in %s", (path) => {
    const fences = read(path).match(/^\s*(```|~~~)/gm) ?? [];
    const found = blocks.filter(({ where }) => where.startsWith(`${path}:`));
    expect(fences).toHaveLength(2 * found.length);
    const outside = read(path).replace(/^```.*\n[^]*?^```$/gm, "");
    expect(outside).not.toMatch(/^(\t| {4})/m);
  });

  test("compile without a diagnostic that belongs to none of them", () => {
    const files = programs.map(fileOf);
    expect(diagnostics.filter((line) => !files.some((file) => line.startsWith(file)))).toEqual([]);
  });

  test.each(programs.map((block) => [block.where, block] as const))(
    "%s compiles, runs and prints what it says",
    async (_where, block) => {
      expect(diagnostics.filter((line) => line.startsWith(fileOf(block)))).toEqual([]);
      const compiled = fileOf(block).replace(/\.mts$/, ".mjs");
      const { code, out, err } = await run(process.execPath, [join("out", compiled)], examples);
      expect({ code, err: code === 0 ? "" : err }).toEqual({ code: 0, err: "" });
      expect(out.split("\n").slice(0, -1)).toEqual(announcedLines(onOurServers(block.text)));
    },
  );

  test.each(shellLines.map(({ where, line }) => [where, line] as const))(
    "%s names what exists: %s",
    async (_where, line) => {
      const [commands = ""] = line.split(" # ");
      for (const command of commands.split(" && ")) expect(await flawOf(command)).toBeUndefined();
    },
  );

  test.each(blocksIn("text").map(({ where, text }) => [where, text] as const))(
    "%s is the message of an error with one node held, one frozen and one dead",
    async (_where, text) => {
      const [, , held, frozen, dead] = servers;
      await ask(held?.port ?? 0, ["SET", "invoice:7", "another lock"]);
      await frozen?.freeze();
      await dead?.kill();
      try {
        const said = await refusal();
        expect(withoutDuration(said)).toBe(withoutDuration(onOurServers(text)));
      } finally {
        frozen?.thaw();
        await dead?.restart();
      }
    },
  );
});

const { scripts, name, peerDependencies } = JSON.parse(read("package.json")) as {
  peerDependencies: Record<string, string>;
  name: string;
  scripts: Record<string, string>;
};

/** What is wrong with a shell command, which is not run here. */
async function flawOf(command: string): Promise<string | undefined> {
  const [program = "", verb = "", ...args] = command.split(" ");
  switch (`${program} ${verb}`) {
    case "npm ci":
      return existsSync(join(root, "package-lock.json")) ? undefined : "there is no lock file";
    case "npm test":
      return scripts["test"] === undefined ? "there is no script test" : undefined;
    case "npm install":
      return [name, ...Object.keys(peerDependencies)].includes(args.join(" "))
        ? undefined
        : "that is another package";
    case "npm run":
      return flawOfScript(args);
    case "redlock run":
    case "redlock status":
      // tests/cli/manual.test.ts checks the options.
      return undefined;
    case "docker compose": {
      const file = args[args.indexOf("-f") + 1] ?? "";
      return args.includes("-f") && existsSync(join(root, file)) ? undefined : `no file ${file}`;
    }
    default:
      return "this test has no rule for it";
  }
}

const helps = new Map<string, ReturnType<typeof run>>();

/** Many lines are calls of the same script. */
function helpOf(file: string): ReturnType<typeof run> {
  const help = helps.get(file) ?? run(process.execPath, ["--import", "tsx", file, "--help"], root);
  helps.set(file, help);
  return help;
}

async function flawOfScript([script = "", dashes, ...args]: string[]): Promise<string | undefined> {
  const [runner, file = ""] = (scripts[script] ?? "").split(" ");
  if (runner !== "tsx" || !existsSync(join(root, file))) return `there is no script ${script}`;
  if (dashes === undefined) return undefined;
  const { code, out } = await helpOf(file);
  const usage = out.split(/[^\w.-]+/).map((word) => word.replace(/\.$/, ""));
  // A URL, a path or a commit is the reader's own.
  const options = args.filter((arg) => !/\/|^[0-9a-f]{7,40}$/.test(arg));
  const words = options.flatMap((arg) => arg.split(","));
  return code === 0 && out.startsWith("Usage") && words.every((word) => usage.includes(word))
    ? undefined
    : `its help is: ${out}`;
}

/** In a process of its own, as a reader's would be. */
async function refusal(): Promise<string> {
  const program = `
    import { Redlock } from "redlock-quorum";
    const redlock = new Redlock(process.argv.slice(2));
    await redlock.acquire("invoice:7", 20_000, { retryCount: 0 }).catch(({ message }) => {
      console.log(message);
    });
    process.exit();
  `;
  await writeFile(join(examples, "refusal.mjs"), program);
  const urls = servers.map(({ url }) => url);
  return (await run(process.execPath, ["refusal.mjs", ...urls], examples)).out;
}

function withoutDuration(message: string): string {
  return message
    .trim()
    .replace(/\s+/g, " ")
    .replace(/(attempts? in) [\d.]+ m?s/, "$1 a while");
}

describe("the README and the reference", () => {
  const reference = read("docs/reference.md");
  const tableOf = (heading: string) => {
    const section = reference.split(/^## /m).find((text) => text.startsWith(`${heading}\n`)) ?? "";
    const rows = section.split("\n").filter((line) => line.startsWith("| `"));
    return rows.map((row) => row.split(/(?<!\\)\|/).map((cell) => cell.trim()));
  };

  test("lists every setting with its default", () => {
    expect(defaultOwner).toBe(`${hostname()}/${process.pid}`);
    const listed = tableOf("Settings").map(([, setting, value]) => [setting, value]);
    const settings = Object.entries(resolveSettings(undefined, "this test"));
    expect(listed.map(([setting]) => setting).sort()).toEqual(
      settings.map(([setting]) => `\`${setting}\``).sort(),
    );
    for (const [setting, value] of settings) {
      const [, cell = ""] =
        listed.find(([listedSetting]) => listedSetting === `\`${setting}\``) ?? [];
      if (value === undefined) expect(cell).toMatch(/^(none|from the ttl|the longest ttl used)$/);
      else expect(cell).toBe(`\`${setting === "owner" ? "hostname/pid" : JSON.stringify(value)}\``);
    }
  });

  test("fit a first reading: the README has at most 260 lines", () => {
    expect(readme.split("\n").length - 1).toBeLessThanOrEqual(260);
  });

  test("names every member of Redlock and Lock", () => {
    const members = [Redlock, Lock].flatMap(({ prototype }) =>
      Object.getOwnPropertyNames(prototype).filter(
        (member) => member !== "constructor" && !(member in EventEmitter.prototype),
      ),
    );
    expect(members).toContain("acquire");
    const names = [...reference.matchAll(/`(\w+)\b[^`\n]*`/g)].map((match) => match[1]);
    expect(members.filter((member) => !names.includes(member))).toEqual([]);
  });

  test("links only to headings that it has", () => {
    const anchors = [...readme.matchAll(/\]\(#([^)]*)\)/g)].map((match) => match[1]);
    const headings = anchorsOfMarkdown(readme);
    expect(anchors.filter((anchor) => !headings.has(anchor ?? ""))).toEqual([]);
  });

  test("has the heading to which the error about custom scripts points", () => {
    const message = /See “(.*)” in the README/.exec(read("src/input.ts"))?.[1];
    expect(readme).toContain(`\n## ${message ?? "no such message"}\n`);
  });
});
