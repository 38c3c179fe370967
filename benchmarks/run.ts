// The benchmark suite: `npm run bench`. What it does and how to read it: docs/benchmarks.md.

import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import os from "node:os";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { InvalidArgumentError } from "commander";
import { format } from "prettier";
import { ask, startServers, stopAll } from "../tests/support/servers.js";
import { coloured, npmScript, wholeNumber } from "../tests/support/terminal.js";
import { against } from "./against.js";
import { installedLibraries, missingPeers } from "./libraries.js";
import { measureOwnServers } from "./own-servers.js";
import { commitNamed, urlOfBuild } from "./other-build.js";
import { buildPackage } from "./package-under-test.js";
import {
  goalsInMarkdown,
  type Result,
  resultInMarkdown,
  saveResults,
  writeDocs,
} from "./report.js";
import type { Goal, Scenario } from "./scenario.js";
import { capacity } from "./scenarios/capacity.js";
import { contention } from "./scenarios/contention.js";
import { faults } from "./scenarios/faults.js";
import { fenced } from "./scenarios/fenced.js";
import { heldLocks } from "./scenarios/held-locks.js";
import { leaders } from "./scenarios/leaders.js";
import { leaks } from "./scenarios/leaks.js";
import { line } from "./scenarios/line.js";
import { nodeRedis } from "./scenarios/node-redis.js";
import { nodes } from "./scenarios/nodes.js";
import { oneUser } from "./scenarios/one-user.js";
import { readers } from "./scenarios/readers.js";
import { resources } from "./scenarios/resources.js";
import { semaphore } from "./scenarios/semaphore.js";
import { slowNode } from "./scenarios/slow-node.js";
import { startUp } from "./scenarios/start-up.js";
import { telemetry } from "./scenarios/telemetry.js";
import { users } from "./scenarios/users.js";

const SCENARIOS: readonly Scenario[] = [
  oneUser,
  nodeRedis,
  users,
  nodes,
  resources,
  fenced,
  slowNode,
  faults,
  contention,
  line,
  readers,
  semaphore,
  leaders,
  heldLocks,
  telemetry,
  capacity,
  leaks,
  startUp,
];
const NODES = 5;
const OWN_SERVERS_ROUNDS = 20;

const ABOUT = `Measures this library, other lock libraries and bare ioredis on five Redis
servers of its own, and compares the figures with the goals.`;
const EXIT_STATUS = `
Scenarios:
  ${SCENARIOS.map(({ name }) => name).join("\n  ")}

Exit status: 0 at the end of a run, 1 if it failed or, with --check, if a goal
was missed or could not be judged, 2 for wrong arguments.`;

interface Options {
  readonly scenarios: readonly Scenario[];
  readonly rounds: number | undefined;
  readonly short: boolean;
  readonly check: boolean;
  readonly docs: boolean;
  readonly library?: string | undefined;
  readonly nodes: readonly string[] | undefined;
}

function readOptions(): Options {
  const program = npmScript("bench", ABOUT)
    .option("--scenario <NAME[,NAME]>", "run only these scenarios (listed below)", scenariosNamed)
    .option("--rounds <N>", "run N rounds instead of each scenario's own number", wholeNumber(1))
    .option("--short", "make a trial of a few minutes: few rounds, shorter ones", false)
    .option("--check", "exit with 1 if a goal is missed or cannot be judged", false)
    .option("--docs", "write the figures and charts into docs/benchmarks.md", false)
    .option("--library <FILE>", "measure this built module instead of a new build of src")
    .option(
      "--against <FILE|COMMIT>",
      "measure only what an acquire and release costs, against this build, or the build of this commit or tag",
    )
    .option("--nodes <URL[,URL]>", "measure only latencies, on your own servers")
    .addHelpText("after", EXIT_STATUS)
    .parse();
  const { scenario, nodes, rounds, ...others } = program.opts<
    Pick<Options, "short" | "check" | "docs"> & {
      scenario?: readonly Scenario[];
      rounds?: number;
      library?: string;
      against?: string;
      nodes?: string;
    }
  >();
  const urls = nodes?.split(",").filter((url) => url !== "");
  // The message does not show the text, which may hold a password.
  const wrong = urls?.findIndex((url) => !isRedisUrl(url)) ?? -1;
  if (wrong >= 0)
    program.error(`URL number ${wrong + 1} of --nodes is no redis:// or rediss:// URL.`);
  const { library, against: other, docs } = others;
  if (library !== undefined && !existsSync(library)) {
    program.error(`--library: there is no file ${library}.`);
  }
  if (other !== undefined && !existsSync(other) && commitNamed(other) === undefined) {
    program.error(`--against: there is no file or commit ${other}.`);
  }
  if (other !== undefined && docs)
    program.error("--against has no place in the docs: leave out --docs.");
  if (urls?.length === 0) program.error("--nodes needs the URL of at least one server.");
  const scenarios = other === undefined ? scenario : [against(other, urlOfBuild(other))];
  return { ...others, rounds, nodes: urls, scenarios: scenarios ?? SCENARIOS };
}

function scenariosNamed(names: string): readonly Scenario[] {
  return names.split(",").map(scenarioNamed);
}

function scenarioNamed(name: string): Scenario {
  const found = SCENARIOS.find((scenario) => scenario.name === name);
  if (found === undefined) throw new InvalidArgumentError(`There is no scenario ${name}.`);
  return found;
}

function isRedisUrl(text: string): boolean {
  return URL.canParse(text) && /^rediss?:$/.test(new URL(text).protocol);
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
  console.log(verdictOn(goals));
  if (options.check && goals.some(({ met }) => met !== true)) process.exitCode = 1;
} else {
  try {
    await measureOwnServers(options.nodes, options.rounds ?? OWN_SERVERS_ROUNDS, packageUrl);
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  }
}

function verdictOn(goals: readonly Goal[]): string {
  const missed = goals.filter(({ met }) => met === false).length;
  const unjudged = goals.filter(({ met }) => met === undefined).length;
  const met = goals.length - missed - unjudged;
  if (goals.length === 0) return "Measured. These scenarios have no goals.";
  if (met === goals.length) return coloured("green", `All ${met} goals met.`);
  const others = unjudged === 0 ? "" : `, ${unjudged} not judged because a peer is missing`;
  return coloured("red", `${met} of ${goals.length} goals met, ${missed} missed${others}.`);
}
