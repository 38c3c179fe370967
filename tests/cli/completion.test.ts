// The scripts of redlock completion, in the shells themselves: a test types into them and presses the tab key.

import { execFileSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { Cli } from "../support/cli.js";
import { TerminalScreen } from "../support/terminal-screen.js";

const cli = new Cli([]);
let directory = "";

/** How each shell starts without anybody's settings, and loads the script. */
const SHELLS = {
  bash: {
    start: ["bash", "--norc", "--noprofile", "-i"],
    load: 'PS1="$ "; eval "$(redlock completion bash)"',
  },
  zsh: {
    start: ["zsh", "-f", "-i"],
    load: 'PS1="$ "; autoload -U compinit; compinit -u -D; eval "$(redlock completion zsh)"',
  },
  fish: {
    start: ["fish", "--no-config", "-i"],
    load: 'function fish_prompt; echo "\\$ "; end; redlock completion fish | source',
  },
} as const;

type Shell = keyof typeof SHELLS;

function isThere(shell: string): boolean {
  try {
    execFileSync(shell, ["-c", "exit 0"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "redlock-quorum-completion-"));
  const program = `#!/bin/sh\nexec '${process.execPath}' '${cli.path}' "$@"\n`;
  await writeFile(join(directory, "redlock"), program, { mode: 0o755 });
  await writeFile(join(directory, "nodes of mine.json"), "{}");
});

afterAll(() => rm(directory, { recursive: true, force: true }));

async function shellWithScript(shell: Shell): Promise<TerminalScreen> {
  const { start, load } = SHELLS[shell];
  const env = { PATH: `${directory}:${process.env["PATH"] ?? ""}`, HOME: directory };
  const screen = await TerminalScreen.start([...start], env, [100, 50]);
  screen.type(`cd '${directory}'\r${load}\rclear; echo rea''dy\r`);
  await screen.until(/^ready$/m);
  return screen;
}

describe.each(Object.keys(SHELLS) as Shell[])("in %s", (shell) => {
  // A machine without the shell says so.
  const testIn = isThere(shell) ? test : test.skip;

  testIn.each([
    ["a command", "redlock doc", /\$ redlock doctor$/m],
    ["an option of a command", "redlock run --fen", /\$ redlock run --fencing ?$/m],
    [
      "an option after a name",
      "redlock status report --wat",
      /\$ redlock status report --watch ?$/m,
    ],
    ["what an argument may be", "redlock completion fi", /\$ redlock completion fish ?$/m],
    ["a file", "redlock top --config nod", /\$ redlock top --config nodes\\ of\\ mine\.json ?$/m],
    ["the command under the lock", "redlock run --ttl 5s a -- mkfif", /-- mkfifo ?$/m],
  ])("completes %s", async (_, typed, completed) => {
    const screen = await shellWithScript(shell);
    screen.type(typed);
    await screen.until(new RegExp(`${typed}$`, "m"));
    screen.type("\t");
    await screen.until(completed);
  });

  testIn("lists the commands", async () => {
    const screen = await shellWithScript(shell);
    screen.type("redlock \t\t");
    for (const name of ["run", "status", "top", "unlock", "doctor", "bench", "completion"]) {
      await screen.until(new RegExp(`(^|\\s)${name}\\s`, "m"));
    }
  });
});

test("the scripts have every command and option that the help has", async () => {
  const { out: help } = await cli.call(["--help"]);
  const commands = [...help.matchAll(/^ {2}(\w+) {2,}/gm)].map(([, name = ""]) => name);
  const helps = await Promise.all(commands.map((name) => cli.call([name, "--help"])));
  const options = helps.flatMap(({ out }) =>
    [...out.matchAll(/^ {2}(?:-\w, )?--([\w-]+)/gm)].map(([, option = ""]) => option),
  );
  expect(options.length).toBeGreaterThan(20);
  for (const shell of Object.keys(SHELLS)) {
    const { status, out } = await cli.call(["completion", shell]);
    const words = new Set(out.match(/[\w-]+/g)?.map((word) => word.replace(/^--/, "")));
    expect({ shell, status }).toEqual({ shell, status: 0 });
    expect([...commands, ...options].filter((word) => !words.has(word))).toEqual([]);
  }
});
