// What the nemesis will do, drawn from the seed alone: nothing here depends on how a run goes.

import { between, oneOf, type Random, someOf, weighted } from "./random.js";
import type { ClientFaultKind, NodeFaultKind } from "./records.js";

export const NODE_COUNT = 5;
export const CLIENT_COUNT = 4;
/** The most nodes that may be faulty for one client at once, outside a round that says otherwise. */
export const MINORITY = 2;

/** The longest ttl that a client uses. */
export const LONGEST_TTL_MS = 1_500;

export const LONGEST_DELAY_MS = 150;

export interface Strike {
  readonly kind: NodeFaultKind;
  readonly node: number;
  /** Whose connections to the node are faulty; a killed or frozen server is so for all. */
  readonly clients: readonly number[];
  /** Ms of peace before it. */
  readonly afterMs: number;
  readonly forMs: number;
  /** Ms by which a delayed connection holds each message back. */
  readonly delayMs: number;
}

/** Lanes run side by side, the strikes of a lane one after the other. */
export interface Round {
  readonly name: "minority" | "split" | "majority gone" | "calm";
  readonly lanes: readonly (readonly Strike[])[];
}

export interface ClientStrike {
  readonly kind: ClientFaultKind;
  readonly client: number;
  /** Not before a write of the client's is on its way: that is when a pause hurts. */
  readonly aimed: boolean;
  readonly afterMs: number;
  readonly forMs: number;
}

const KINDS: Record<NodeFaultKind, number> = {
  kill: 4,
  freeze: 4,
  cut: 2,
  partition: 2,
  mute: 1,
  deaf: 2,
  delay: 2,
};
const LINK_KINDS = { cut: 2, partition: 2, mute: 1, deaf: 2, delay: 1 };
const nodes = Array.from({ length: NODE_COUNT }, (_, node) => node);
const clients = Array.from({ length: CLIENT_COUNT }, (_, client) => client);

/** @param dataLoss killed servers come back empty: more rounds in which a majority does so at once */
export function planRound(random: Random, dataLoss: boolean): Round {
  const gone = dataLoss ? 10 : 2;
  const name = weighted(random, { minority: 8, split: 3, "majority gone": gone, calm: 1 });
  switch (name) {
    case "minority":
      return { name, lanes: minorityLanes(random) };
    case "split":
      return { name, lanes: clients.flatMap((client) => splitLanes(random, client)) };
    case "majority gone":
      return { name, lanes: dataLoss ? wipeLanes(random) : majorityLanes(random) };
    case "calm":
      return { name, lanes: [] };
  }
}

/** Each lane has nodes of its own, and at most one of them is faulty at a time. */
function minorityLanes(random: Random): Strike[][] {
  const [a = 0, b = 0, c = 0, d = 0, e = 0] = someOf(random, nodes, NODE_COUNT);
  const lanes: [number, ...number[]][] = [
    [a, b, c],
    [d, e],
  ];
  return lanes.map((own) =>
    Array.from({ length: between(random, 1, 4) }, () => {
      const kind = weighted(random, KINDS);
      const victims =
        kind === "kill" || kind === "freeze" || random() < 0.6
          ? clients
          : someOf(random, clients, between(random, 1, CLIENT_COUNT - 1));
      return strike(random, kind, oneOf(random, own), victims);
    }),
  );
}

/** Each client is cut off from a minority of its own. */
function splitLanes(random: Random, client: number): Strike[][] {
  return someOf(random, nodes, between(random, 1, MINORITY)).map((node) => [
    strike(random, weighted(random, LINK_KINDS), node, [client]),
  ]);
}

function majorityLanes(random: Random): Strike[][] {
  const forMs = between(random, 50, 2 * LONGEST_TTL_MS);
  const draw = (): NodeFaultKind => weighted(random, { kill: 2, freeze: 3, cut: 1, partition: 1 });
  // Often all for one reason, as in a power failure.
  const shared = random() < 0.5 ? draw() : undefined;
  return someOf(random, nodes, between(random, MINORITY + 1, NODE_COUNT)).map((node) => [
    { ...strike(random, shared ?? draw(), node, clients), afterMs: 0, forMs },
  ]);
}

/** For so short a time that locks are held across it. */
function wipeLanes(random: Random): Strike[][] {
  const forMs = between(random, 0, 200);
  return someOf(random, nodes, between(random, MINORITY + 1, NODE_COUNT)).map((node) => [
    { ...strike(random, "kill", node, clients), afterMs: 0, forMs },
  ]);
}

function strike(
  random: Random,
  kind: NodeFaultKind,
  node: number,
  victims: readonly number[],
): Strike {
  // Now and then long enough that the library gives a silent connection up.
  const longestMs = random() < 0.05 ? 7_000 : 2_500;
  return {
    kind,
    node,
    clients: [...victims].sort(),
    afterMs: between(random, 0, 400),
    forMs: kind === "cut" && random() < 0.5 ? 0 : between(random, 100, longestMs),
    delayMs: between(random, 5, LONGEST_DELAY_MS),
  };
}

/** Frozen mostly for longer than any ttl; killed, and another started in its place after `forMs`. */
export function planClientStrike(random: Random): ClientStrike {
  const client = between(random, 0, CLIENT_COUNT - 1);
  const afterMs = between(random, 100, 1_000);
  const kind = weighted(random, { "client freeze": 3, "client kill": 1 });
  if (kind === "client kill") {
    return { kind, client, aimed: false, afterMs, forMs: between(random, 0, 1_000) };
  }
  const aimed = random() < 0.9;
  const forMs =
    random() < 0.8
      ? between(random, LONGEST_TTL_MS + 100, 2 * LONGEST_TTL_MS)
      : between(random, 50, LONGEST_TTL_MS);
  return { kind, client, aimed, afterMs, forMs };
}
