// What each command says of itself, and of a wrong call. There is no server: nothing may be sent.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { Cli, type CliOutcome } from "../support/cli.js";

const cli = new Cli([]);
/** A node that counts who comes. */
let connections = 0;
const node = createServer((socket) => {
  connections += 1;
  socket.destroy();
});
let nodes = "";
let directory = "";
let config = "";

beforeAll(async () => {
  await new Promise<void>((resolve) => node.listen(0, "127.0.0.1", resolve));
  const address = node.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  nodes = `redis://:secret@127.0.0.1:${address.port}`;
  directory = await mkdtemp(join(tmpdir(), "redlock-quorum-calls-"));
  config = join(directory, "config.json");
  await writeFile(config, '{"nodes": ["redis://:secret@h"], "node": 1}');
});

afterAll(async () => {
  node.close();
  await rm(directory, { recursive: true });
});

function call(args: readonly string[]): Promise<CliOutcome> {
  return cli.call(args, { env: { REDLOCK_NODES: nodes } });
}

/** Each command with what it needs for a correct call. */
const CORRECT: Readonly<Record<string, readonly string[]>> = {
  run: ["a", "--", "true"],
  status: ["a"],
  top: [],
  unlock: ["--force", "a"],
  doctor: [],
  bench: [],
};

type Case = readonly [args: readonly string[], what: RegExp];

/** What each command that asks the nodes must refuse. Options come before what the command needs. */
function casesOf(command: string): Case[] {
  const rest = CORRECT[command] ?? [];
  const withOption = (...options: string[]): string[] => [command, ...options, ...rest];
  return [
    [withOption("--froce"), /Unknown option '--froce'\..* Run redlock \w+ --help/],
    [withOption("--node-timeout", "1"), /such as 500ms, 30s, 5m or 1h/],
    [withOption("--node-timeout", "0s"), /Give a time from 1ms to 500h\./],
    [withOption("--nodes", ","), /There are no nodes\. Give them as --nodes /],
    [withOption("--nodes", "http://:secret@h"), /Node number 1 is not a URL of the form redis:/],
    [withOption("--nodes", "h:1,h:1"), /Node number 2 is the same/],
    [[command, "--nodes"], /Option '--nodes <urls>' argument missing\./],
    [withOption("--config", "/no/file"), /cannot be read: ENOENT/],
    [withOption("--config", "{config}"), /knows no setting node\. The settings are/],
  ];
}

const CASES: readonly Case[] = [
  ...Object.keys(CORRECT).flatMap(casesOf),
  [["stat", "a"], /Unknown command 'stat'\. Did you mean status\? Run redlock --help/],
  [["--nodes", "a", "status", "b"], /Unknown option '--nodes'\./],
  [["run", "--", "true"], /Missing required argument 'name'\. Run redlock run --help/],
  [["run", "a"], /There is no command\. Write it after --/],
  [["run", "--ttl", "10ms", "a", "--", "true"], /Give at least 1s\./],
  [["run", "{a}:redlock:line", "--", "true"], /Redlock uses the name .* itself\./],
  [["status"], /Missing required argument 'name'\. Run redlock status --help/],
  [["status", ""], /A name is empty\./],
  [["status", "--interval", "1", "a"], /such as 500ms, 30s, 5m or 1h/],
  [["status", "--interval", "0s", "a"], /Give a time from 1ms to 500h\./],
  [["top", "--interval", "600h", "a"], /Give a time from 1ms to 500h\./],
  [["doctor", "--node-timeout", "600h"], /Give a time from 1ms to 500h\./],
  [
    ["doctor", "--nodes", "h:1/abc"],
    /Node number 1 has a path that is not the number of a database/,
  ],
  [["run", "a", "--", ""], /The command is empty\. Write its name after --\./],
  [["status", "{a}:redlock:line"], /Redlock uses the name .* itself\./],
  [["top", "--interval", "fast"], /such as 500ms, 30s, 5m or 1h/],
  [["top", "{a}:redlock:line"], /Redlock uses the name .* itself\./],
  [["unlock", "--force"], /Missing required argument 'name'\. Run redlock unlock --help/],
  [["unlock", "a"], /add --force\./],
  [["unlock", "--froce", "a"], /Did you mean --force\?/],
  [["unlock", "--force", "{a}:redlock:line"], /Redlock uses the name .* itself\./],
  [["doctor", "a"], /Too many arguments/],
  [["doctor", "--", "a"], /Too many arguments/],
  [
    ["status", "--nodes", "h:1?connectTimeout=3000", "a"],
    /Node number 1 has an option after its .* Give a URL such as redis:[^ ]* with no options but/,
  ],
  [
    ["status", "--nodes", "redis://u:12,34@h:1", "a"],
    /^redlock: A node has an @ but no redis:\/\/ \(its text is not shown, .*as %2C, and begin each URL with [^\d]*$/,
  ],
  [["bench", "a"], /Too many arguments/],
  [["bench", "--users", "0"], /Give a whole number from 1 to 1000\./],
  [["bench", "--users", "1001"], /Give a whole number from 1 to 1000\./],
  [["bench", "--count", "many"], /Give a whole number from 1 to 1000000\./],
  [["bench", "--duration", "10"], /such as 500ms, 30s, 5m or 1h/],
  [["bench", "--duration", "0s"], /Give a longer time/],
  [["completion"], /Missing required argument 'shell'\. Run redlock completion --help/],
  [["completion", "tcsh"], /Allowed choices are bash, zsh, fish\./],
  [["completion", "bash", "zsh"], /Too many arguments/],
];

describe("a wrong call", () => {
  test("of any command is one line that says what to do, with status 64, and nothing is sent", async () => {
    const wrong: unknown[] = [];
    let next = 0;
    const worker = async (): Promise<void> => {
      for (let found = CASES[next++]; found !== undefined; found = CASES[next++]) {
        const [given, what] = found;
        const args = given.map((word) => (word === "{config}" ? config : word));
        const { status, out, err } = await call(args);
        const isOneLine = /^redlock: [^\n]*[.)?]\n$/.test(err);
        const isGood = status === 64 && out === "" && isOneLine && what.test(err);
        if (!isGood || err.includes("secret")) wrong.push({ args, status, out, err });
      }
    };
    await Promise.all([worker(), worker(), worker()]);
    expect(wrong).toEqual([]);
    expect(connections).toBe(0);
    // The same node is asked by a correct call.
    await call(["doctor", "--node-timeout", "1s"]);
    expect(connections).toBeGreaterThan(0);
  });
});

describe("each command", () => {
  test.each(["", ...Object.keys(CORRECT), "completion"])(
    "redlock %s --help is a manual that fits 80 columns",
    async (name) => {
      const { status, out, err } = await call([...(name === "" ? [] : [name]), "--help"]);
      expect({ status, err }).toEqual({ status: 0, err: "" });
      expect(out).toMatch(/^Exit status: /m);
      if (name !== "") expect(out).toMatch(/^Examples?:$/m);
      expect(out.split("\n").filter((line) => line.length > 80)).toEqual([]);
    },
  );
});
