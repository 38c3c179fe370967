// A command of another user, which this one may not signal. Who runs the tests may signal every process, so that
// process.kill refuses here by itself.

import { afterEach, expect, jest, test } from "@jest/globals";
import { GuardedCommand } from "../../src/cli/guard.js";
import type { Lock } from "../../src/index.js";

afterEach(() => {
  jest.restoreAllMocks();
});

function refuseSignals(): string[] {
  const lines: string[] = [];
  jest.spyOn(process, "kill").mockImplementation(() => {
    throw Object.assign(new Error("kill EPERM"), { code: "EPERM" });
  });
  jest.spyOn(process.stderr, "write").mockImplementation((line) => {
    if (String(line).startsWith("redlock: ")) lines.push(String(line));
    return true;
  });
  return lines;
}

function lockUntil(signal: AbortSignal): Lock {
  const lock = {
    ttl: 30_000,
    signal,
    get valid(): boolean {
      return !signal.aborted;
    },
    get remaining(): number {
      return signal.aborted ? 0 : 30_000;
    },
  };
  return lock as unknown as Lock;
}

test("a signal that cannot be passed on is said, and the command goes on", async () => {
  const lines = refuseSignals();
  const lock = lockUntil(new AbortController().signal);
  const guarded = new GuardedCommand(lock, 5000, ["sleep", "0.3"], process.env);
  guarded.pass("SIGTERM");
  expect(await guarded.ended()).toEqual({ status: 0 });
  expect(lines).toEqual([
    "redlock: sleep runs as another user, and may not be sent SIGTERM. End it yourself.\n",
  ]);
});

test("a loss ends the waiting for a command that cannot be killed, with status 70", async () => {
  const lines = refuseSignals();
  const loss = new AbortController();
  const guarded = new GuardedCommand(lockUntil(loss.signal), 5000, ["sleep", "2"], process.env);
  const ended = guarded.ended();
  loss.abort();
  expect(await ended).toMatchObject({ status: 70 });
  expect(lines).toEqual([
    "redlock: sleep runs as another user, and may not be sent SIGKILL. End it yourself.\n",
  ]);
});

test("SIGTSTP does not stop redlock, which the lock needs, if the command cannot be stopped", async () => {
  const lines = refuseSignals();
  const lock = lockUntil(new AbortController().signal);
  const guarded = new GuardedCommand(lock, 5000, ["sleep", "0.3"], process.env);
  process.emit("SIGTSTP", "SIGTSTP");
  process.emit("SIGCONT", "SIGCONT");
  expect(await guarded.ended()).toEqual({ status: 0 });
  // Only what the command was to be sent, and not this process.
  expect(lines).toEqual([
    "redlock: sleep runs as another user, and may not be sent SIGSTOP. End it yourself.\n",
  ]);
});
