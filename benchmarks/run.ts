// The benchmark suite: `npm run bench`. What it does and how to read it: docs/benchmarks.md.

import { execFileSync } from "node:child_process";
import os from "node:os";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { format } from "prettier";
import { ask, startServers, stopAll } from "../tests/support/servers.js";
import { installedLibraries, missingPeers } from "./libraries.js";
import { measureOwnServers } from "./own-servers.js";
import { buildPackage } from "./package-under-test.js";
import {
  goalsInMarkdown,
  type Result,
  resultInMarkdown,
  saveResults,
  writeDocs,
} from "./report.js";
import type { Scenario } from "./scenario.js";
import { contention } from "./scenarios/contention.js";
import { faults } from "./scenarios/faults.js";
import { fenced } from "./scenarios/fenced.js";
import { heldLocks } from "./scenarios/held-locks.js";
import { leaks } from "./scenarios/leaks.js";
import { line } from "./scenarios/line.js";
import { nodes } from "./scenarios/nodes.js";
import { oneUser } from "./scenarios/one-user.js";
import { resources } from "./scenarios/resources.js";
import { slowNode } from "./scenarios/slow-node.js";
import { users } from "./scenarios/users.js";

const SCENARIOS: readonly Scenario[] = [
  oneUser,
  users,
  nodes,
  resources,
  fenced,
  slowNode,
  faults,
  contention,
  line,
  heldLocks,
  leaks,
];
const NODES = 5;
const OWN_SERVERS_ROUNDS = 20;

const USAGE = `Usage: npm run bench -- [options]

  --scenario NAME[,NAME]  only these: ${SCENARIOS.map(({ name }) => name).join(", ")}
  --rounds N              instead of each scenario's own number
  --short                 a trial of a few minutes: few rounds, shorter ones
  --check                 exit with 1 where a goal is missed or cannot be judged
  --docs                  write the figures into docs/benchmarks.md, and the charts beside it
  --library FILE          measure this built module instead of a new build of src
  --nodes URL[,URL]       only latencies, on your own servers`;

interface Options {
  readonly scenarios: readonly Scenario[];
  readonly rounds: number | undefined;
  readonly short: boolean;
  readonly check: boolean;
  readonly docs: boolean;
  readonly library?: string | undefined;
  readonly nodes: readonly string[] | undefined;
}

/** Ends the process with the usage where they are wrong. */
function readOptions(): Options {
  try {
    const { values } = parseArgs({
      options: {
        scenario: { type: "string" },
        rounds: { type: "string" },
        short: { type: "boolean", default: false },
        check: { type: "boolean", default: false },
        docs: { type: "boolean", default: false },
        library: { type: "string" },
        nodes: { type: "string" },
      },
    });
    const { scenario, rounds, nodes: urls, ...others } = values;
    if (rounds !== undefined && !/^[1-9]\d*$/.test(rounds)) {
      throw new Error(`--rounds ${rounds} is no positive whole number.`);
    }
    return {
      ...others,
      rounds: rounds === undefined ? undefined : Number(rounds),
      scenarios: scenario === undefined ? SCENARIOS : scenario.split(",").map(scenarioNamed),
      nodes: urls
        ?.split(",")
        .filter((url) => url !== "")
        .map(checkUrl),
    };
  } catch (error) {
    console.error(`${USAGE}\n\n${error instanceof Error ? error.message : String(error)}`);
    process.exit(2);
  }
}

function scenarioNamed(name: string): Scenario {
  const found = SCENARIOS.find((scenario) => scenario.name === name);
  if (found === undefined) throw new Error(`There is no scenario ${name}.`);
  return found;
}

/** The message does not show the text, which may hold a password. */
function checkUrl(text: string, index: number): string {
  if (URL.canParse(text) && /^rediss?:$/.test(new URL(text).protocol)) return text;
  throw new Error(`Number ${index + 1} of --nodes is no redis:// or rediss:// URL.`);
}

async function measure(
  { scenarios, rounds, short }: Options,
  packageUrl: string,
): Promise<Result[]> {
  const libraries = installedLibraries(packageUrl);
  const missing = missingPeers(libraries);
  if (missing.length > 0) {
    console.log(`Not installed, so left out: ${missing.join(", ")} (npm ci --prefix benchmarks).`);
  }
  const servers = await startServers(NODES);
  const info = await ask(servers[0]?.port ?? 0, ["INFO", "server"]);
  const versions = {
    Node: process.versions.node,
    Redis: /redis_version:([\d.]+)/.exec(info)?.[1] ?? "",
    ...Object.fromEntries(libraries.map(({ name, version }) => [name, version])),
  };
  const results: Result[] = [];
  try {
    for (const scenario of scenarios) {
      const chosenRounds = rounds ?? scenario.rounds[short ? "short" : "usual"];
      console.error(`${scenario.name}: ${chosenRounds} rounds`);
      await Promise.all(servers.map(({ port }) => ask(port, ["FLUSHALL"])));
      const stage = { servers, libraries, packageUrl, rounds: chosenRounds, short };
      const result: Result = {
        scenario: scenario.name,
        rounds: chosenRounds,
        short,
        date: new Date().toISOString().slice(0, 10),
        commit: commit(),
        machine: `${os.cpus().length} cores (${os.cpus()[0]?.model ?? "unknown"})`,
        versions,
        outcome: await scenario.run(stage),
      };
      results.push(result);
      console.log(`\n## ${scenario.title}\n\n${await resultInMarkdown(scenario, result)}`);
    }
  } finally {
    await stopAll(servers);
  }
  return results;
}

function commit(): string {
  try {
    const git = (...args: string[]): string =>
      execFileSync("git", args, { cwd: import.meta.dirname, encoding: "utf8" }).trim();
    return (
      git("rev-parse", "--short", "HEAD") +
      (git("status", "--porcelain") === "" ? "" : " and changes")
    );
  } catch {
    return "unknown";
  }
}

// A signal alone would end the process without its exit event, on which servers and builds count.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.once(signal, () => {
    process.exit(1);
  });
}

const options = readOptions();
const { library } = options;
const packageUrl =
  library === undefined ? await buildPackage() : pathToFileURL(resolve(library)).href;

if (options.nodes === undefined) {
  const results = await measure(options, packageUrl);
  console.log(`Written: ${await saveResults(results)}`);
  if (options.docs) {
    for (const result of results) await writeDocs(scenarioNamed(result.scenario), result);
  }
  const goals = results.flatMap(({ outcome }) => outcome.goals);
  if (goals.length > 0) {
    console.log(`\n## Goals\n\n${await format(goalsInMarkdown(goals), { parser: "markdown" })}`);
  }
  if (options.check && goals.some(({ met }) => met !== true)) process.exitCode = 1;
} else if (options.nodes.length === 0) {
  console.error("--nodes needs the URL of at least one server.");
  process.exitCode = 2;
} else {
  try {
    await measureOwnServers(options.nodes, options.rounds ?? OWN_SERVERS_ROUNDS, packageUrl);
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  }
}
