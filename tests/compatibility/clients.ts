// `npm run test:clients`: the tests against real servers, with one client library after the other.

import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { Argument } from "commander";
import { CLIENT_VARIABLE, CLIENTS } from "../support/clients.js";
import { ensureServerBinary, SERVER_VARIABLE } from "../support/servers.js";
import { versionOf } from "../support/server-version.js";
import { npmScript } from "../support/terminal.js";
import { CACHE, CACHE_IN_WORDS } from "./cache.js";
import { type DebianServer, NoDebianError, UNAVAILABLE, unpackedServer } from "./debian-server.js";
import { INTERRUPTED, interruption } from "./interruption.js";
import { type Counts, printCounts, root, runJest } from "./jest-run.js";
import { SERVER_IDS, serversNamed } from "./server-list.js";
import { tableOf } from "./table.js";

const TESTS = "tests/redis";
/** How a test gets the clients that are to be tested. The others have clients of their own choice, or URLs. */
const USES_THE_CLIENTS = /\b(?:connectAll|makeClient|useServersAndClients)\(/;
/**
 * The first two compare with other libraries, which take clients of ioredis only. Fake timers stop node-redis itself,
 * which writes its commands in a `setImmediate`.
 */
const OF_IOREDIS = ["migrating.long.test.ts", "node-redlock.test.ts", "fake-timers.test.ts"];

const ABOUT = `Runs the tests against real servers with the clients of one library after the
other: those tests that take the clients that they are given. Each version of a
library is a library of its own here.`;
const AFTER = `
Servers: ${SERVER_IDS.join(", ")}.
They are Debian's, as those of npm run test:servers, and lie in the folder
${CACHE_IN_WORDS}.

Exit status: 0 if every test passed with every client, 1 if one did not, 2 for
wrong arguments, ${UNAVAILABLE} if this machine has no way to Debian's packages and the
cache does not have them.`;

/** A server, and what chooses it for a test run. */
interface Stand {
  readonly title: string;
  readonly binary: string;
}

/** What a client's run on a server found; absent if it did not run. */
type Cells = ReadonlyMap<string, ReadonlyMap<Stand, Counts>>;

async function main(): Promise<number> {
  const { clients, servers, tests } = parseCall();
  const cells = new Map<string, Map<Stand, Counts>>();
  const stands: Stand[] = [];
  try {
    stands.push(...(await standsOf(servers)));
    const files = (await filesOfTests()).filter((path) => path.includes(tests));
    if (files.length === 0) throw new Error(`No test of the clients has ${tests} in its path.`);
    for (const client of clients) {
      const ofClient = new Map<Stand, Counts>();
      cells.set(client, ofClient);
      for (const stand of stands) ofClient.set(stand, await testOn(stand, client, files));
    }
  } catch (error) {
    if (error instanceof NoDebianError) {
      console.error(
        `NOT RUN: a server is not in the cache, and cannot be unpacked: ${error.message}.`,
      );
      return UNAVAILABLE;
    }
    if (!interruption.aborted) throw error;
  }
  const table = servers === undefined ? tableOfClients(cells) : tableOfBoth(cells, clients, stands);
  console.log(`\n${table}`);
  if (interruption.aborted) return INTERRUPTED;
  const all = [...cells.values()].flatMap((ofClient) => [...ofClient.values()]);
  return all.every(({ failed }) => failed === 0) ? 0 : 1;
}

/** Without servers of its own choice, the run takes the one that all tests take. */
async function standsOf(servers: readonly DebianServer[] | undefined): Promise<Stand[]> {
  const stands: Stand[] = [];
  for (const server of servers ?? [undefined]) {
    const binary = await (server === undefined
      ? ensureServerBinary()
      : unpackedServer(server, CACHE));
    const { name, version } = await versionOf(binary);
    stands.push({ title: `${name} ${version}`, binary });
  }
  return stands;
}

async function filesOfTests(): Promise<string[]> {
  const files: string[] = [];
  for (const name of await readdir(join(root, TESTS))) {
    if (OF_IOREDIS.includes(name)) continue;
    const text = await readFile(join(root, TESTS, name), "utf8");
    if (USES_THE_CLIENTS.test(text)) files.push(`${TESTS}/${name}`);
  }
  return files;
}

async function testOn(stand: Stand, client: string, tests: readonly string[]): Promise<Counts> {
  const what = `${client} on ${stand.title}`;
  console.log(`${what}: running …`);
  const env = { [CLIENT_VARIABLE]: client, [SERVER_VARIABLE]: stand.binary };
  const counts = await runJest({ tests, env });
  printCounts(what, counts);
  return counts;
}

function tableOfClients(cells: Cells): string {
  const rows = [...cells].flatMap(([client, ofClient]) =>
    [...ofClient.values()].map(({ passed, failed, skipped, seconds }) => {
      return [client, passed, failed, skipped, seconds];
    }),
  );
  return tableOf(["client", "passed", "failed", "skipped", "seconds"], rows);
}

/** One row for each client, one column for each server. */
function tableOfBoth(cells: Cells, clients: readonly string[], stands: readonly Stand[]): string {
  const rows = clients.map((client) => [
    client,
    ...stands.map((stand) => inWords(cells.get(client)?.get(stand))),
  ]);
  return tableOf(["client", ...stands.map(({ title }) => title)], rows);
}

function inWords(counts: Counts | undefined): string {
  if (counts === undefined) return "not run";
  const { passed, failed, skipped } = counts;
  const others = [
    failed === 0 ? [] : `${failed} failed`,
    skipped === 0 ? [] : `${skipped} skipped`,
  ];
  return [`${passed} passed`, ...others.flat()].join(", ");
}

function parseCall(): {
  clients: readonly string[];
  servers: readonly DebianServer[] | undefined;
  tests: string;
} {
  const names = Object.keys(CLIENTS);
  const command = npmScript("test:clients", ABOUT)
    .usage("[-- options] [clients]")
    .addArgument(new Argument("[clients...]", "one or several; without one, all").choices(names))
    .option(
      "--servers <ID[,ID]>",
      "on each of these servers (listed below); all for all",
      serversNamed,
    )
    .option("--tests <path>", "the tests to run: a path or a part of it", TESTS)
    .addHelpText("after", AFTER)
    .parse();
  const chosen = command.processedArgs[0] as readonly string[];
  const { servers, tests } = command.opts<{ servers?: readonly DebianServer[]; tests: string }>();
  return { clients: chosen.length === 0 ? names : chosen, servers, tests };
}

process.exitCode = await main();
