// `npm run test:clients`: the tests against real servers, with one client library after the other.

import { Argument } from "commander";
import { CLIENT_VARIABLE, CLIENTS } from "../support/clients.js";
import { npmScript } from "../support/terminal.js";
import { INTERRUPTED, interruption } from "./interruption.js";
import { printCounts, runJest } from "./jest-run.js";
import { tableOf } from "./table.js";

const TESTS = "tests/redis";
/**
 * The first two compare with other libraries, which take clients of ioredis only. Fake timers stop node-redis itself,
 * which writes its commands in a `setImmediate`.
 */
const OF_IOREDIS = [
  "--testPathIgnorePatterns",
  "redis/migrating",
  "redis/node-redlock",
  "redis/fake-timers",
  "consumers/",
];

const ABOUT = `Runs the tests against real servers with the clients of one library after the
other. Each version of a library is a library of its own here.`;
const AFTER = `
Exit status: 0 if every test passed with every client, 1 if one did not, 2 for
wrong arguments.`;

async function main(): Promise<number> {
  const { clients, tests } = parseCall();
  const rows: (string | number)[][] = [];
  let isGood = true;
  for (const client of clients) {
    console.log(`${client}: running ${tests} …`);
    try {
      const counts = await runJest({
        tests: [tests, ...OF_IOREDIS],
        env: { [CLIENT_VARIABLE]: client },
      });
      printCounts(client, counts);
      rows.push([client, counts.passed, counts.failed, counts.skipped, counts.seconds]);
      isGood &&= counts.failed === 0;
    } catch (error) {
      if (interruption.aborted) return INTERRUPTED;
      throw error;
    }
  }
  console.log(`\n${tableOf(["client", "passed", "failed", "skipped", "seconds"], rows)}`);
  return isGood ? 0 : 1;
}

function parseCall(): { clients: readonly string[]; tests: string } {
  const names = Object.keys(CLIENTS);
  const command = npmScript("test:clients", ABOUT)
    .usage("[-- options] [clients]")
    .addArgument(new Argument("[clients...]", "one or several; without one, all").choices(names))
    .option("--tests <path>", "the tests to run: a path or a part of it", TESTS)
    .addHelpText("after", AFTER)
    .parse();
  const chosen = command.processedArgs[0] as readonly string[];
  return {
    clients: chosen.length === 0 ? names : chosen,
    tests: command.opts<{ tests: string }>().tests,
  };
}

process.exitCode = await main();
