// Carries the plan out, and writes down each fault: before it is begun, and once it is healed.

import { rm, readdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { RedisServer } from "../support/servers.js";
import type { ClientProcess } from "./clients.js";
import { type Link, type LinkFault, NO_FAULT } from "./links.js";
import { planClientStrike, planRound, type Strike } from "./plan.js";
import { seeded } from "./random.js";
import { type Journal, type NemesisRecord, nowUs, type RunFacts } from "./records.js";

/** How long it waits for a write to aim at. */
const LONGEST_AIM_MS = 1_000;

export interface Battlefield {
  readonly servers: readonly RedisServer[];
  /** By client, then by node. */
  readonly links: readonly (readonly Link[])[];
  readonly clients: readonly ClientProcess[];
  readonly journal: Journal<NemesisRecord>;
  readonly settleMs: RunFacts["settleMs"];
  readonly emptyRestarts: boolean;
}

export interface Nemesis {
  /** What it does now, for people. */
  readonly doing: string;
  /** Resolves once the time is over, or the signal aborted, and everything is healed. */
  run(signal: AbortSignal): Promise<void>;
}

export function nemesis(field: Battlefield, seed: number): Nemesis {
  let lastFault = 0;
  let doing = "";

  const record = (entry: NemesisRecord): void => {
    field.journal.add(entry);
  };

  /** Begins a fault, keeps it up, heals it. */
  const inflict = async (
    fault: Pick<NemesisRecord & { type: "began" }, "kind" | "node" | "clients" | "delayMs">,
    forMs: number,
    signal: AbortSignal,
    begin: () => void | Promise<void>,
    heal: () => void | Promise<void>,
  ): Promise<void> => {
    const id = ++lastFault;
    record({ type: "began", atUs: nowUs(), fault: id, ...fault });
    await begin();
    await pause(forMs, signal);
    await heal();
    record({ type: "healed", atUs: nowUs(), fault: id });
  };

  const runStrike = async (strike: Strike, signal: AbortSignal): Promise<void> => {
    await pause(strike.afterMs, signal);
    if (signal.aborted) return;
    const { kind, node, clients, forMs, delayMs } = strike;
    const { begin, heal } = weapon(field, strike);
    const fault = { kind, node, clients, ...(kind === "delay" ? { delayMs } : {}) };
    await inflict(fault, forMs, signal, begin, heal);
    // Before another node may fail, the clients are to have this one back.
    await pause(field.settleMs[kind], signal);
  };

  const runRounds = async (signal: AbortSignal): Promise<void> => {
    const random = seeded(seed, "rounds");
    while (!signal.aborted) {
      const { name, lanes } = planRound(random, field.emptyRestarts);
      doing = name;
      record({ type: "round", atUs: nowUs(), name });
      await Promise.all([
        pause(1_000, signal),
        ...lanes.map(async (lane) => {
          for (const strike of lane) await runStrike(strike, signal);
        }),
      ]);
    }
  };

  const runClientStrikes = async (signal: AbortSignal): Promise<void> => {
    const random = seeded(seed, "client strikes");
    while (!signal.aborted) {
      const { kind, client: index, aimed, afterMs, forMs } = planClientStrike(random);
      await pause(afterMs, signal);
      const client = field.clients[index];
      if (client === undefined) continue;
      if (aimed) await Promise.race([client.writing(), pause(LONGEST_AIM_MS, signal)]);
      const begin = async (): Promise<void> => {
        if (kind === "client freeze") {
          client.freeze();
          return;
        }
        await client.kill();
        record({ type: "died", atUs: nowUs(), client: index });
      };
      const heal = async (): Promise<void> => {
        if (kind === "client freeze") client.thaw();
        else await client.restart();
      };
      await inflict({ kind, clients: [index] }, forMs, signal, begin, heal);
    }
  };

  return {
    get doing() {
      return doing;
    },
    async run(signal) {
      await Promise.all([runRounds(signal), runClientStrikes(signal)]);
    },
  };
}

interface Weapon {
  readonly begin: () => void | Promise<void>;
  readonly heal: () => void | Promise<void>;
}

function weapon(field: Battlefield, { kind, node, clients, delayMs }: Strike): Weapon {
  const server = field.servers[node];
  if (server === undefined) throw new Error(`there is no node ${node}`);
  const onLinks = (fault: Partial<LinkFault>): Weapon => {
    const set = (value: LinkFault): void => {
      for (const client of clients) {
        const link = field.links[client]?.[node];
        if (link !== undefined) link.fault = value;
      }
    };
    return {
      begin: () => {
        set({ ...NO_FAULT, ...fault });
      },
      heal: () => {
        set(NO_FAULT);
      },
    };
  };
  switch (kind) {
    case "kill":
      return {
        begin: () => server.kill(),
        heal: async () => {
          if (field.emptyRestarts) await removeData(server);
          await server.restart();
        },
      };
    case "freeze":
      return {
        begin: () => server.freeze(),
        heal: () => {
          server.thaw();
        },
      };
    case "cut":
      return onLinks({ cut: true });
    case "partition":
      return onLinks({ requestsHeld: true, repliesHeld: true });
    case "mute":
      return onLinks({ requestsHeld: true });
    case "deaf":
      return onLinks({ repliesHeld: true });
    case "delay":
      return onLinks({ delayMs });
  }
}

async function removeData({ directory }: RedisServer): Promise<void> {
  const entries = await readdir(directory);
  await Promise.all(entries.map((entry) => rm(join(directory, entry), { recursive: true })));
}

/** Returns early where the signal aborts: what follows is the healing. */
async function pause(delayMs: number, signal: AbortSignal): Promise<void> {
  await sleep(delayMs, undefined, { signal }).catch(() => undefined);
}
