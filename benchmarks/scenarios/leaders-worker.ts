// One of the processes that campaign for one leadership. It tells its parent when it leads, and when it learns that it
// leads no more.

import { loadPackage } from "../package-under-test.js";

export interface Task {
  readonly packageUrl: string;
  readonly urls: readonly string[];
  readonly name: string;
  readonly ttlMs: number;
}

/** What a process tells, and when: in epoch ms, which the processes of one machine share. */
export interface Told {
  readonly what: "ready" | "leads" | "ends";
  readonly atMs: number;
}

const { packageUrl, urls, name, ttlMs } = JSON.parse(process.argv[2] ?? "") as Task;
const { Redlock } = await loadPackage(packageUrl);
const redlock = new Redlock(urls);
for (let index = 0; index < 50; index++) {
  await redlock.using(`warm-up:${process.pid}:${index}`, ttlMs, () => undefined);
}

function tell(what: Told["what"], atMs = epochMs()): void {
  process.send?.({ what, atMs });
}

function epochMs(): number {
  return performance.timeOrigin + performance.now();
}

let resignation = new AbortController();
process.on("message", () => {
  resignation.abort();
});
process.once("disconnect", () => process.exit());
tell("ready");
let abortedMs = NaN;
redlock.on("lost", () => {
  tell("ends");
});
for (;;) {
  const { signal: resigned } = resignation;
  await redlock.lead(name, ttlMs, { signal: resigned }, async (signal) => {
    tell("leads");
    await new Promise((resolve) => {
      signal.addEventListener("abort", resolve, { once: true });
    });
    abortedMs = epochMs();
  });
  tell("ends", abortedMs);
  resignation = new AbortController();
}
