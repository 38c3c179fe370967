// One of the demo's workers: adds one to the number in a file, over and over, each time under the
// lock, and logs every turn.

import { appendFileSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { Redlock } from "../src/index.js";
import { nowUs, type Turn } from "./demo-report.js";

const TTL_MS = 2_000;
const WORK_MS = 2;

const [counterFile = "", logFile = "", ...nodes] = process.argv.slice(2);
const redlock = new Redlock(nodes, { retryCount: -1, retryDelay: 20, retryJitter: 10 });

async function increment(): Promise<Turn> {
  const turn: Turn = { askedUs: nowUs() };
  try {
    await redlock.using(["demo:counter"], TTL_MS, async (signal) => {
      turn.enteredUs = nowUs();
      try {
        const count = Number(await readFile(counterFile, "utf8"));
        await sleep(WORK_MS);
        signal.throwIfAborted();
        await writeFile(counterFile, String(count + 1));
      } finally {
        turn.leftUs = nowUs();
      }
    });
  } catch (error) {
    turn.error = String(error);
  }
  return turn;
}

// The parent disconnects to end this, and is disconnected where it died.
while (process.connected) {
  appendFileSync(logFile, `${JSON.stringify(await increment())}\n`);
  process.send?.("turn", undefined, undefined, ignoreDisconnected);
}
await redlock.quit();

function ignoreDisconnected(): void {
  // It disconnected during the turn; the loop's condition sees it.
}
