import type { Command } from "commander";
import type { NodeHealth } from "../index.js";
import { quorumOf } from "../quorum/round.js";
import { makeCommand, WIDTH } from "./command.js";
import { EXIT } from "./failure.js";
import { type NodeOptions, NODES_HELP, readConfig, withNodeOptions } from "./nodes.js";
import {
  inMs,
  JSON_OPTION,
  print,
  printable,
  printJson,
  problemInWords,
  table,
  withNodes,
} from "./report.js";

interface DoctorOptions extends NodeOptions {
  readonly json?: boolean;
}

const HELP = `
Asks each node for its health. Changes nothing. DANGER marks what can let two
clients hold one lock.
${NODES_HELP}

Exit status: 0, or
  1   something endangers the exclusion
  64  wrong arguments
  69  no quorum of the nodes replied

Examples:
  redlock doctor
  redlock doctor --json | jq '.[] | select(.reachable | not) | .node'`;

/** Makes `redlock doctor`. */
export function doctorCommand(): Command {
  const command = makeCommand("doctor", "say what is wrong with the nodes, and what to do")
    .description("Says what is wrong with the nodes, and what to do.")
    .usage("[options]")
    .option(...JSON_OPTION);
  return withNodeOptions(command)
    .addHelpText("after", HELP)
    .action(async (options: DoctorOptions) => {
      const health = await withNodes(options, readConfig(options), (redlock) => redlock.health());
      if (options.json === true) printJson(health.map(asJson));
      else print(inText(health));
      process.exitCode = statusOf(health);
    });
}

function statusOf(health: readonly NodeHealth[]): number {
  if (dangersIn(health) > 0) return EXIT.danger;
  return reachableIn(health) < quorumOf(health.length) ? EXIT.unavailable : EXIT.ok;
}

function dangersIn(health: readonly NodeHealth[]): number {
  return health.flatMap(({ problems }) => problems).filter((each) => each.endangersExclusion)
    .length;
}

function reachableIn(health: readonly NodeHealth[]): number {
  return health.filter(({ reachable }) => reachable).length;
}

function asJson(health: NodeHealth): unknown {
  const { error } = health;
  // The problems have the findings, too.
  const own = { findings: undefined, error: error === undefined ? null : problemInWords(error) };
  return { ...health, ...own };
}

function inText(health: readonly NodeHealth[]): string {
  const rows = health.map(({ node, reachable, version, latencyMs, persistence }) =>
    reachable
      ? [node, version ?? "?", latencyMs === null ? "?" : inMs(latencyMs), persistence ?? "?"]
      : [node, "–", "–", "no reply"],
  );
  const problems = health.flatMap(({ node, problems }) =>
    problems.map(({ finding, remedy, endangersExclusion }) => {
      const mark = endangersExclusion ? "DANGER: " : "";
      return `${wrapped(`${mark}${node} ${printable(finding)}.`, "")}\n${wrapped(remedy, "  ")}`;
    }),
  );
  return [
    table([["node", "version", "latency", "persistence"], ...rows]),
    ...problems,
    verdict(health),
  ].join("\n\n");
}

function verdict(health: readonly NodeHealth[]): string {
  const [replied, dangers] = [reachableIn(health), dangersIn(health)];
  const quorum = quorumOf(health.length);
  const answer = `${replied} of ${health.length} nodes replied`;
  const enough = replied < quorum ? `, ${quorum} needed: no lock can be acquired.` : ".";
  const safety =
    dangers === 0
      ? "Nothing was found that endangers the exclusion."
      : `${dangers} ${dangers === 1 ? "finding endangers" : "findings endanger"} the exclusion.`;
  return wrapped(`${answer}${enough} ${safety}`, "");
}

/** Breaks a text into lines of the terminal's width. */
function wrapped(text: string, indent: string): string {
  const width = WIDTH - indent.length;
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = "";
    }
    line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line].map((each) => indent + each).join("\n");
}
