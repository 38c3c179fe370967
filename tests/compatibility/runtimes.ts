// `npm run test:runtimes`: the packed package in each Node, in Bun and in Deno, and the test suites in each Node.

import { cp, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Argument } from "commander";
import { pack } from "../support/packed-package.js";
import { ensureServerBinary } from "../support/servers.js";
import { versionOf } from "../support/server-version.js";
import { coloured, npmScript } from "../support/terminal.js";
import { CACHE, CACHE_IN_WORDS } from "./cache.js";
import { INTERRUPTED, interruption } from "./interruption.js";
import { type Counts, root, runJest } from "./jest-run.js";
import { installedProgram, npmInstall, programVersion } from "./npm-runtime.js";
import { countSteps, runProgram } from "./program.js";
import { tableOf } from "./table.js";

interface Runtime {
  /** The name on the command line and of the folder in the cache. */
  readonly id: string;
  readonly title: string;
  /** The npm package that brings the runtime. */
  readonly package: string;
  readonly program: string;
  /** What stands before the path of a program to run. */
  readonly args: readonly string[];
  /** Whether the nodes are clients of Bun's own. A second program then tests what these do. */
  readonly withBunClients?: boolean;
}

const BUN: Runtime = { id: "bun", title: "Bun", package: "bun", program: "bun", args: ["run"] };
const RUNTIMES: readonly Runtime[] = [
  ...["20", "22", "24", "26"].map((major) => {
    return {
      id: `node-${major}`,
      title: "Node",
      package: `node@${major}`,
      program: "node",
      args: [],
    };
  }),
  BUN,
  { ...BUN, id: "bun-client", withBunClients: true },
  { id: "deno", title: "Deno", package: "deno", program: "deno", args: ["run", "--allow-all"] },
];

const ABOUT = `Installs the packed package in an empty project and runs a program there on real
servers: in each Node, in Bun and in Deno. In bun-client the nodes are clients of
Bun's own, and a second program tests what these do. Then it runs the test suites
in each Node: the unit tests on src, and the tests against real servers on the
installed package. Those that look inside the library run on src.`;
const AFTER = `
The runtimes are npm packages. npm installs them once, in the folder
${CACHE_IN_WORDS}.
Remove a folder there to install the newest version.

Exit status: 0 if every step and test passed in every runtime, 1 if one did not
or a runtime could not be installed, 2 for wrong arguments.`;

/** A test with one of these modules replaces the library's clocks, which only src lets it do. */
const INSIDE = /internals\.js"|support\/environment\.js"/;

const PROGRAM = "program.js";
const BUN_PROGRAM = "bun-client.js";

interface Outcome {
  readonly title: string;
  readonly programs: readonly Counts[];
  readonly suites?: { readonly unit: Counts; readonly packed: Counts; readonly inside: Counts };
}

async function main(): Promise<number> {
  const { runtimes, withSuites } = parseCall();
  const server = await versionOf(await ensureServerBinary());
  const project = await mkdtemp(join(tmpdir(), "redlock-quorum-runtimes-"));
  const outcomes: Outcome[] = [];
  let isComplete = true;
  try {
    await npmInstall(await pack(project), project);
    for (const program of [PROGRAM, BUN_PROGRAM]) {
      await cp(join(root, "tests/consumers/runtimes", program), join(project, program));
    }
    for (const runtime of runtimes) {
      try {
        outcomes.push(await testIn(runtime, project, withSuites));
      } catch (error) {
        if (interruption.aborted) return INTERRUPTED;
        isComplete = false;
        console.error(`${coloured("red", "FAIL")} ${runtime.id}: ${messageOf(error)}`);
      }
    }
  } finally {
    await rm(project, { recursive: true, force: true });
  }
  printTable(outcomes, `${server.name} ${server.version}`, withSuites);
  return isComplete && outcomes.every(isGood) ? 0 : 1;
}

function isGood(outcome: Outcome): boolean {
  return [...outcome.programs, ...suitesOf(outcome)].every(({ failed }) => failed === 0);
}

async function testIn(runtime: Runtime, project: string, withSuites: boolean): Promise<Outcome> {
  const withBunClients = runtime.withBunClients === true;
  const folder = join(CACHE, withBunClients ? BUN.id : runtime.id);
  const binary = await installedProgram(runtime.package, runtime.program, folder);
  const clients = withBunClients ? ", its own client" : "";
  const title = `${runtime.title} ${await programVersion(binary)}${clients}`;
  const told = (what: string, counts: Counts): Counts => report(`${title}: ${what}`, counts);
  const command = [binary, ...runtime.args];
  const nodes = withBunClients ? ["--bun"] : [];
  const programs = [told(PROGRAM, await runProgram([...command, PROGRAM, ...nodes], project))];
  if (withBunClients) {
    const steps = await countSteps([...command, BUN_PROGRAM, join(root, "tests/support")], project);
    programs.push(told(BUN_PROGRAM, steps));
  }
  if (runtime.title !== "Node" || !withSuites) return { title, programs };
  const { inside, outside } = await realServerTests();
  const index = join(project, "node_modules/redlock-quorum/dist/index.js");
  const suites = {
    unit: told("unit tests on src", await runJest({ node: binary, tests: ["tests/unit"] })),
    packed: told(
      "real servers, the package",
      await runJest({
        node: binary,
        config: "tests/compatibility/jest.packed.config.js",
        tests: outside,
        env: { REDLOCK_QUORUM_INDEX: index },
      }),
    ),
    inside: told("real servers, src", await runJest({ node: binary, tests: inside })),
  };
  return { title, programs, suites };
}

/** The files of tests/redis that look inside the library, and the others. */
async function realServerTests(): Promise<{ inside: string[]; outside: string[] }> {
  const [inside, outside]: [string[], string[]] = [[], []];
  for (const name of await readdir(join(root, "tests/redis"))) {
    const path = join("tests/redis", name);
    const isInside = INSIDE.test(await readFile(join(root, path), "utf8"));
    (isInside ? inside : outside).push(path);
  }
  return { inside, outside };
}

function report(what: string, counts: Counts): Counts {
  for (const failure of counts.failures) console.log(failure);
  const verdict = counts.failed === 0 ? coloured("green", "PASS") : coloured("red", "FAIL");
  console.log(`${verdict} ${what}: ${inFigures(counts)} in ${counts.seconds} s`);
  return counts;
}

/** Such as `22 of 22`, and those that were skipped. */
function inFigures({ passed, failed, skipped }: Counts): string {
  const figures = `${passed} of ${passed + failed}`;
  return skipped === 0 ? figures : `${figures}, ${skipped} skipped`;
}

function printTable(outcomes: readonly Outcome[], server: string, withSuites: boolean): void {
  const suites = ["unit tests, src", "real servers, package", "real servers, src"];
  const columns = ["runtime", "program, package", ...(withSuites ? suites : [])];
  const rows = outcomes.map((outcome) => {
    const programs = outcome.programs.map(inFigures).join(" and ");
    const cells = [outcome.title, programs, ...suitesOf(outcome).map(inFigures)];
    return columns.map((_, index) => cells[index] ?? "–");
  });
  console.log(`\nOn ${server}:\n\n${tableOf(columns, rows)}`);
}

function suitesOf({ suites }: Outcome): Counts[] {
  return suites === undefined ? [] : [suites.unit, suites.packed, suites.inside];
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function parseCall(): { runtimes: readonly Runtime[]; withSuites: boolean } {
  const ids = RUNTIMES.map(({ id }) => id);
  const command = npmScript("test:runtimes", ABOUT)
    .usage("[-- options] [runtimes]")
    .addArgument(new Argument("[runtimes...]", "one or several; without one, all").choices(ids))
    .option("--program", "run the program only, not the test suites", false)
    .addHelpText("after", AFTER)
    .parse();
  const chosen = command.processedArgs[0] as readonly string[];
  return {
    runtimes: RUNTIMES.filter(({ id }) => chosen.length === 0 || chosen.includes(id)),
    withSuites: !command.opts<{ program: boolean }>().program,
  };
}

process.exitCode = await main();
