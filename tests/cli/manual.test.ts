// docs/command-line.md, the operations guide and the README say of the program redlock only what is there.

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { Cli } from "../support/cli.js";
import { fresh } from "../support/nodes.js";
import { useServers } from "../support/use-servers.js";

const servers = useServers(3);
const cli = new Cli(servers);
const root = join(import.meta.dirname, "..", "..");
const COMMANDS = ["run", "status", "top", "unlock", "doctor", "bench", "completion"];

const page = await readFile(join(root, "docs", "command-line.md"), "utf8");
const readme = await readFile(join(root, "README.md"), "utf8");
const operations = await readFile(join(root, "docs", "operations.md"), "utf8");
/** All that is said of the program. */
const all = page + readme + operations;
const blocks = [...page.matchAll(/^```(\w+)\n([^]*?)^```$/gm)].map(([, language, text = ""]) => ({
  language,
  text,
}));

/** The options of a command, as its help has them. */
async function optionsOf(command: string): Promise<string[]> {
  const { out } = await cli.call([command, "--help"]);
  const options = out.slice(
    out.indexOf("\nOptions:"),
    out.indexOf("\n\n", out.indexOf("\nOptions:")),
  );
  return [...options.matchAll(/^ {2}(?:-\w, )?(--[\w-]+)/gm)].map(([, option = ""]) => option);
}

describe("the manual", () => {
  test.each(COMMANDS)("calls redlock %s only with options that it has", async (command) => {
    const options = await optionsOf(command);
    const pattern = new RegExp(`redlock ${command} ([^\n]*)`, "g");
    const calls = [...all.matchAll(pattern)].map(([, args = ""]) => args.split(" -- ")[0] ?? "");
    const named = calls.flatMap((args) => args.match(/(?<=^|\s)--[\w-]+/g) ?? []);
    expect(calls).not.toEqual([]);
    expect(named.filter((option) => !options.includes(option))).toEqual([]);
  });

  test("names no command that is not there", () => {
    const calls = [...all.matchAll(/(?:^|\$ |`)redlock ([a-z]+)/gm)];
    const named = calls.map(([, command = ""]) => command);
    expect(named.filter((command) => !COMMANDS.includes(command))).toEqual([]);
  });

  test("has each option of redlock run in its table", async () => {
    const rows = [...page.matchAll(/^\| `(--[\w-]+)/gm)].map(([, option]) => option);
    const missing = (await optionsOf("run")).filter((option) => !rows.includes(option));
    expect(missing).toEqual(["--config", "--help"].filter((option) => !rows.includes(option)));
  });

  test("shows a config file that redlock reads", async () => {
    const directory = await mkdtemp(join(tmpdir(), "redlock-quorum-manual-"));
    try {
      const path = join(directory, "redlock.json");
      const text = blocks.find(
        ({ language, text }) => language === "json" && text.includes('"keyPrefix"'),
      );
      await writeFile(path, text?.text ?? "");
      const nodes = servers.map(({ url }) => url).join(",");
      const args = ["run", "--config", path, "--nodes", nodes, fresh(), "--"];
      const { out, err } = await cli.call([...args, "sh", "-c", "echo $REDLOCK_VALUE"]);
      expect(err).toBe("");
      expect(out).toMatch(/ db-2\n$/);
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  test("says that only --nodes is split at commas: a password in the file may have one", async () => {
    const directory = await mkdtemp(join(tmpdir(), "redlock-quorum-manual-"));
    try {
      const path = join(directory, "redlock.json");
      // The user of a server without passwords takes any.
      const nodes = servers.map(({ port }) => `redis://default:a,b@127.0.0.1:${port}`);
      await writeFile(path, JSON.stringify({ nodes }));
      const { status, out } = await cli.call(["status", "--config", path, "--json", fresh()]);
      const [found] = JSON.parse(out) as { nodes: { node: string; error: unknown }[] }[];
      expect(status).toBe(0);
      expect(found?.nodes).toHaveLength(servers.length);
      for (const { error } of found?.nodes ?? []) expect(error).toBeNull();
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  test("shows the JSON of redlock status with the properties that it has", async () => {
    const block = blocks.find(({ text }) => text.includes('"resource"'));
    const [shown] = JSON.parse(block?.text ?? "") as { nodes: object[] }[];
    const { out } = await cli.call(["status", "--json", fresh()]);
    const [found] = JSON.parse(out) as { nodes: object[] }[];
    expect(Object.keys(shown ?? {})).toEqual(Object.keys(found ?? {}));
    expect(Object.keys(shown?.nodes[0] ?? {})).toEqual(Object.keys(found?.nodes[0] ?? {}));
  });
});
