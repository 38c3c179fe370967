// `npm run test:servers`: the tests against real servers, on one Redis and Valkey after the other.

import { Argument } from "commander";
import { SERVER_VARIABLE } from "../support/servers.js";
import { type ServerVersion, versionOf } from "../support/server-version.js";
import { coloured, npmScript } from "../support/terminal.js";
import { CACHE, CACHE_IN_WORDS } from "./cache.js";
import { type DebianServer, NoDebianError, UNAVAILABLE, unpackedServer } from "./debian-server.js";
import { INTERRUPTED, interruption } from "./interruption.js";
import { type Counts, printCounts, runJest } from "./jest-run.js";
import { SERVER_IDS, SERVERS } from "./server-list.js";
import { tableOf } from "./table.js";

const TESTS = "tests/redis";

const ABOUT = `Runs the tests against real servers on one Redis or Valkey after the other.
The servers are Debian's: a package that the cache does not have is downloaded
and unpacked there, and nothing is installed. It needs apt-get and dpkg.`;
const AFTER = `
The cache is the folder ${CACHE_IN_WORDS}.
Remove a folder there to download that server again.

On a machine without Debian's packages, ${SERVER_VARIABLE} chooses the
server of a test run: the path of a redis-server or valkey-server.

Exit status: 0 if every test passed on every server, 1 if one did not or a
server could not be unpacked, 2 for wrong arguments, ${UNAVAILABLE} if this machine has no
way to Debian's packages and the cache does not have them.`;

interface Outcome extends Counts {
  readonly server: ServerVersion;
}

async function main(): Promise<number> {
  const { servers, tests } = parseCall();
  const outcomes: Outcome[] = [];
  let isComplete = true;
  for (const server of servers) {
    try {
      outcomes.push(await testOn(server, tests));
    } catch (error) {
      if (interruption.aborted) return INTERRUPTED;
      const message = error instanceof Error ? error.message : String(error);
      if (error instanceof NoDebianError) {
        console.error(
          `NOT RUN: ${server.id} is not in the cache, and cannot be unpacked: ${message}.`,
        );
        return UNAVAILABLE;
      }
      console.error(`${coloured("red", "FAIL")} ${server.id}: ${message}`);
      isComplete = false;
    }
  }
  printTable(outcomes);
  return isComplete && outcomes.every(({ failed }) => failed === 0) ? 0 : 1;
}

async function testOn(server: DebianServer, tests: string): Promise<Outcome> {
  const binary = await unpackedServer(server, CACHE);
  const version = await versionOf(binary);
  console.log(`${version.name} ${version.version}: running ${tests} …`);
  const counts = await runJest({ tests: [tests], env: { [SERVER_VARIABLE]: binary } });
  printCounts(`${version.name} ${version.version}`, counts);
  return { ...counts, server: version };
}

function printTable(outcomes: readonly Outcome[]): void {
  const rows = outcomes.map(({ server, passed, failed, skipped, seconds }) => {
    return [`${server.name} ${server.version}`, passed, failed, skipped, seconds];
  });
  console.log(`\n${tableOf(["server", "passed", "failed", "skipped", "seconds"], rows)}`);
}

function parseCall(): { servers: readonly DebianServer[]; tests: string } {
  const command = npmScript("test:servers", ABOUT)
    .usage("[-- options] [servers]")
    .addArgument(
      new Argument("[servers...]", "one or several; without one, all").choices(SERVER_IDS),
    )
    .option("--tests <path>", "the tests to run: a path or a part of it", TESTS)
    .addHelpText("after", AFTER)
    .parse();
  const chosen = command.processedArgs[0] as readonly string[];
  const servers = SERVERS.filter(({ id }) => chosen.length === 0 || chosen.includes(id));
  return { servers, tests: command.opts<{ tests: string }>().tests };
}

process.exitCode = await main();
