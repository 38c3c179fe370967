// `npm run chaos`: five real Redis servers, client processes that lock, and a nemesis that breaks
// servers, connections and clients. What the run wrote down is then judged by check.ts.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { InvalidArgumentError, Option } from "commander";
import { type RedisServer, startServers, stopAll } from "../support/servers.js";
import { coloured, npmScript, positiveNumber, wholeNumber } from "../support/terminal.js";
import { ClientProcess } from "./clients.js";
import { Link } from "./links.js";
import { nemesis } from "./nemesis.js";
import { CLIENT_COUNT, LONGEST_DELAY_MS, LONGEST_TTL_MS, NODE_COUNT } from "./plan.js";
import { guarded, Journal, type NemesisRecord, type RunFacts, watchForStalls } from "./records.js";
import { type Access, Register } from "./register.js";
import { watchServers } from "./watch.js";

const ABOUT = `Runs five real Redis servers and client processes that lock, and breaks servers,
connections and clients meanwhile. An independent checker then judges the log.`;
const EXIT_STATUS = `
Exit status: 0 if the checker found no violation, 1 if it did, 2 for wrong
arguments or where the servers or clients did not start.`;

const KEYS = ["a", "b", "c", "d", "e", "f", "g", "h"];
/** Fewer than there are users, so that they wait for them. */
const PERMITS = 2;
const BREAKS = ["", "no-lock", "no-check"];
const NODE_TIMEOUT_MS = 100;
/** What a client may take to have a node back; see check/faults.ts for when a node is up. */
const SETTLE_MS = {
  // Connecting is tried every 500 ms at least; a server that loads its data is asked again after 100 ms.
  kill: 700,
  cut: 600,
  // The library may just have given up the silent connection: 250 ms to end it, 50 to the next.
  freeze: 400,
  partition: 400,
  mute: 400,
  deaf: 400,
  // What is on its way still takes this long.
  delay: LONGEST_DELAY_MS + 50,
};
/** A node that came back empty is held back, and by its uptime alone for up to 2 s more. */
const GUARDED_SETTLE_MS = { ...SETTLE_MS, kill: SETTLE_MS.kill + LONGEST_TTL_MS + 2000 };
const PROGRESS_INTERVAL_MS = 5_000;
const DURABLE = ["--appendonly", "yes", "--appendfsync", "always"];

interface Stage {
  readonly folder: string;
  readonly facts: RunFacts;
  readonly registers: ReadonlyMap<string, Register>;
  servers: RedisServer[];
  links: Link[][];
  clients: ClientProcess[];
}

const interrupted = new AbortController();

async function main(): Promise<number> {
  const { facts, folder } = parseCall();
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "run.json"), `${JSON.stringify(facts, undefined, 2)}\n`);
  console.log(
    `Chaos of ${facts.minutes} min, seed ${facts.seed}; log: ${relative(process.cwd(), folder)}`,
  );
  const registers = new Map(guarded(facts).map((key) => [key, new Register(folder, key)]));
  const stage: Stage = { folder, facts, registers, servers: [], links: [], clients: [] };
  let isSetUp = false;
  try {
    await setUp(stage);
    isSetUp = true;
    await rage(stage);
  } catch (error) {
    // What the clients wrote down says what was wrong; so the checker still has its say.
    if (!interrupted.signal.aborted) console.error(messageOf(error));
  } finally {
    await tearDown(stage);
  }
  if (interrupted.signal.aborted) {
    console.error("Interrupted; the log was not judged.");
    return 130;
  }
  if (!isSetUp) {
    console.error("The run did not begin; there is no log to judge.");
    return 2;
  }
  return judge(facts, folder);
}

async function setUp(stage: Stage): Promise<void> {
  const { facts, folder } = stage;
  stage.servers = await startServers(NODE_COUNT, { args: DURABLE });
  stage.links = await Promise.all(
    Array.from({ length: CLIENT_COUNT }, () =>
      Promise.all(stage.servers.map(({ port }) => Link.open(port))),
    ),
  );
  const { signal } = interrupted;
  // Until then they would be held back as young, by an uptime in whole seconds.
  if (facts.emptyRestarts) await sleep(LONGEST_TTL_MS + 3000, undefined, { signal });
  signal.throwIfAborted();
  stage.clients = stage.links.map((links, index) => {
    const { seed, keys, permits, nodeTimeoutMs, fencing, readers = false, broken } = facts;
    const urls = links.map(({ url }) => url);
    const restartGuardMs = facts.emptyRestarts && LONGEST_TTL_MS;
    const lent = { keys, permits, fencing, readers };
    const told = { folder, urls, nodeTimeoutMs, restartGuardMs, broken, ...lent };
    return new ClientProcess({ index, seed, ...told });
  });
  for (const [index, client] of stage.clients.entries()) {
    client.onAccess = (access) => registerOf(stage, access).access(access);
    client.onHandOver = (handOver) => stage.clients[(index + 1) % CLIENT_COUNT]?.send(handOver);
  }
  await Promise.all(stage.clients.map((client) => client.ready()));
}

function registerOf({ registers }: Stage, { key }: Access): Register {
  const register = registers.get(key);
  if (register === undefined) throw new Error(`there is no register ${key}`);
  return register;
}

/** Ends when the time is over, all faults are healed, and each client has finished what it did. */
async function rage({ facts, folder, servers, links, clients }: Stage): Promise<void> {
  const journal = new Journal<NemesisRecord>(join(folder, "nemesis.jsonl"));
  const unwatch = watchForStalls((sinceUs, atUs) => {
    journal.add({ type: "stalled", sinceUs, atUs });
  });
  const ports = servers.map(({ port }) => port);
  const unwatchServers = watchServers(ports, (node, sinceUs, atUs) => {
    journal.add({ type: "server stalled", node, sinceUs, atUs });
  });
  const { settleMs, emptyRestarts, seed, minutes } = facts;
  const enemy = nemesis({ servers, links, clients, journal, settleMs, emptyRestarts }, seed);
  const endProgress = startProgress(clients, () => enemy.doing);
  try {
    const time = AbortSignal.timeout(Math.round(minutes * 60_000));
    await enemy.run(AbortSignal.any([interrupted.signal, time]));
    if (!interrupted.signal.aborted) await Promise.all(clients.map((client) => client.stop()));
  } finally {
    endProgress();
    unwatch();
    unwatchServers();
    journal.close();
  }
}

function startProgress(clients: readonly ClientProcess[], doing: () => string): () => void {
  const beganMs = performance.now();
  const timer = setInterval(() => {
    const seconds = Math.round((performance.now() - beganMs) / 1_000);
    const acquired = clients.reduce((sum, client) => sum + client.acquired, 0);
    const writes = clients.reduce((sum, client) => sum + client.writes, 0);
    console.log(
      `${String(seconds).padStart(4)} s  ${acquired} locks, ${writes} writes  ${doing()}`,
    );
  }, PROGRESS_INTERVAL_MS);
  return () => {
    clearInterval(timer);
  };
}

async function tearDown({ servers, links, clients }: Stage): Promise<void> {
  await Promise.all(clients.map((client) => client.kill()));
  await Promise.all(links.flat().map((link) => link.close()));
  await stopAll(servers);
}

/** A program of its own, which knows nothing but the log. */
async function judge({ minutes, seed }: RunFacts, folder: string): Promise<number> {
  const program = join(import.meta.dirname, "check.ts");
  const checker = spawn(process.execPath, [...process.execArgv, program, folder], {
    stdio: "inherit",
  });
  const [code] = (await once(checker, "exit")) as [number | null];
  if (code !== 0 && code !== 1) console.log(`\n${coloured("red", "NOT JUDGED")}`);
  const log = relative(process.cwd(), folder);
  console.log(`${minutes} min of chaos with seed ${seed}; log: ${log}`);
  return code ?? 1;
}

interface Options {
  readonly minutes: number;
  readonly seed?: number;
  readonly logs?: string;
  readonly fencing: boolean;
  readonly readers: boolean;
  readonly emptyRestarts: boolean;
  readonly break?: string;
}

function parseCall(): { facts: RunFacts; folder: string } {
  const options = npmScript("chaos", ABOUT)
    .option("--minutes <M>", "how long to run", positiveNumber, 1)
    .option("--seed <S>", "what breaks, and when, follows from it (default: random)", wholeNumber())
    .option("--logs <folder>", "where to keep the log (default: chaos-logs/<seed>-<time>)")
    .option(
      "--fencing",
      "use fencing tokens: the resource refuses a token smaller than one it has seen, " +
        "and no update may be lost, not even by clients frozen for longer than their ttl",
      false,
    )
    .addOption(
      new Option(
        "--readers",
        "most locks are readers' (`shared: true`): each reads its resource twice, and nobody may have " +
          "written in between; not with --fencing, since readers have no tokens",
      )
        .default(false)
        .conflicts("fencing"),
    )
    .option(
      "--empty-restarts",
      "killed servers lose their data, and the clients' restart guard holds them back; " +
        "overlaps that follow from the loss are reported, not judged",
      false,
    )
    .option(
      "--break <what>",
      "a run that must end with violations: no-lock (each client locks names of its own) " +
        "or no-check (clients write without a look at their lock)",
      breakNamed,
    )
    .addHelpText("after", EXIT_STATUS)
    .parse()
    .opts<Options>();
  const { minutes, logs, fencing, readers, emptyRestarts, break: broken = "" } = options;
  const seed = options.seed ?? Math.floor(Math.random() * 1e6);
  const time = new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, "");
  const home = join(import.meta.dirname, "..", "..", "chaos-logs");
  return {
    folder: logs ?? join(home, `${seed}-${time}`),
    facts: {
      seed,
      minutes,
      nodeCount: NODE_COUNT,
      clientCount: CLIENT_COUNT,
      keys: KEYS,
      // What is broken on purpose then shows what tokens prevent. Permits have none.
      permits: fencing && broken !== "" ? 0 : PERMITS,
      nodeTimeoutMs: NODE_TIMEOUT_MS,
      settleMs: emptyRestarts ? GUARDED_SETTLE_MS : SETTLE_MS,
      emptyRestarts,
      fencing,
      readers,
      broken,
    },
  };
}

function breakNamed(name: string): string {
  if (BREAKS.includes(name)) return name;
  throw new InvalidArgumentError("Give no-lock or no-check.");
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

// Not `once`: npm and tsx may each pass the same Ctrl-C on.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => {
    interrupted.abort();
  });
}
process.exit(await main());
