// `tsx tests/chaos/check.ts LOGDIR`: judges a run of chaos by its log alone. Knows nothing of the
// library. Exits with 1 where something was wrong, 2 where there is no such log.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { coloured } from "../support/terminal.js";
import { reportOf } from "./check/report.js";
import { judgeFolder } from "./check/verdict.js";

const [folder] = process.argv.slice(2);
if (folder === undefined) {
  console.error("Usage: tsx tests/chaos/check.ts LOGDIR");
  process.exit(2);
}
try {
  const verdict = judgeFolder(folder);
  const report = reportOf(verdict);
  const verdictLine = /^(?:No violation\.|VIOLATIONS: \d+)$/m;
  const colour = verdict.violations.length === 0 ? "green" : "red";
  console.log(`\n${report.replace(verdictLine, (line) => coloured(colour, line))}`);
  writeFileSync(join(folder, "report.txt"), `${report}\n`);
  process.exitCode = verdict.violations.length === 0 ? 0 : 1;
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 2;
}
