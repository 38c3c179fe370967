import { Violation } from "../violation.js";
import type { Library } from "../../virtual-world/library.js";
import type { Entry } from "../../../src/testing/redis/keyspace.js";
import { RedisModel } from "../../../src/testing/redis/model.js";
import type { Reply } from "../../../src/testing/redis/reply.js";
import { drain } from "../../virtual-world/world.js";
import { Client, type Programs, RESOURCE } from "./client.js";
import { type Pending, Wire } from "./wire.js";

/** Something that may happen next. */
export interface Choice {
  readonly kind: "request" | "reply" | "open" | "timer" | FaultKind;
  /** -1 where it is none's in particular. */
  readonly client: number;
  readonly node: number;
  readonly name: string;
  /** Whom it touches, one bit each: what touches nobody in common may as well happen in the other order. */
  readonly touches: number;
}

export const FAULT_KINDS = ["lose requests", "lose replies", "reset", "restart"] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

export interface Bounds {
  readonly deliveries: number;
  readonly faults: number;
  readonly timers: number;
  /** Left out, all kinds. */
  readonly kinds?: readonly FaultKind[];
}

export const NODES = 3;
const CLIENTS = [0, 1];
const FAULTS = new Set<string>(FAULT_KINDS);
/** Time is up from here, so that an instant of 0 is before everything. */
const UP_SINCE_MS = 5_000;
/** More steps than these to the end are no end. */
const MOST_STEPS_TO_END = 5_000;

function nodeBit(node: number): number {
  return 1 << node;
}

function clientBit(client: number): number {
  return 1 << (NODES + client);
}

/** The numbers that nodes may be given, each in all ways. */
const ORDERS: readonly (readonly number[])[] = [
  [0, 1, 2],
  [0, 2, 1],
  [1, 0, 2],
  [1, 2, 0],
  [2, 0, 1],
  [2, 1, 0],
];

const ALL_CLIENTS = clientBit(0) | clientBit(1);
/** Faults share one budget. */
const FAULT_BIT = 1 << (NODES + CLIENTS.length);
const EVERYTHING = (FAULT_BIT << 1) - 1;

/**
 * Two clients and three nodes, at rest until it is chosen what happens next. Messages take as long as
 * they are left lying; time goes on only when a timer fires.
 */
export class System {
  deliveries = 0;
  faults = 0;
  timers = 0;
  readonly #nodes: readonly RedisModel[];
  readonly #clients: readonly Client[];
  readonly #scripts: readonly string[];
  #nowMs = UP_SINCE_MS;
  readonly #holders: string[] = [];

  constructor({ before, then }: Programs, library: Library) {
    const scripts = [library.acquireScript, library.extendScript, library.handOverScript];
    this.#scripts = scripts.map(({ sha1 }) => sha1);
    this.#nodes = Array.from({ length: NODES }, () => {
      const redis = new RedisModel();
      for (const { text } of scripts) redis.execute("script", ["LOAD", text], this.#nowMs);
      return redis;
    });
    this.#clients = CLIENTS.map((index) => {
      const wires = this.#nodes.map((_, node) => new Wire(`node-${node + 1}:6379`));
      return new Client(index, wires, () => this.#nowMs, library);
    });
    void this.#client(0).run(before);
    this.#settle();
    for (let [next] = this.#deliveries(); next !== undefined; [next] = this.#deliveries()) {
      this.#happen(next);
      this.#settle();
    }
    for (const [index, client] of this.#clients.entries()) void client.run(then[index] ?? []);
    this.#settle();
  }

  /** What may happen next within the bounds. */
  choices(bounds: Bounds): Choice[] {
    const found = this.deliveries < bounds.deliveries ? this.#deliveries() : [];
    if (this.timers < bounds.timers) found.push(...this.#timers());
    if (this.faults < bounds.faults) {
      const { kinds = FAULT_KINDS } = bounds;
      found.push(...this.#faults().filter(({ kind }) => kinds.some((other) => other === kind)));
    }
    return found;
  }

  apply(choice: Choice): void {
    if (choice.kind === "timer") this.timers += 1;
    else if (FAULTS.has(choice.kind)) this.faults += 1;
    else this.deliveries += 1;
    this.#happen(choice);
    this.#settle();
    this.#check();
  }

  /** Everything that is still to come, in one fixed order; then nothing may be left. */
  finish(): void {
    let isQuiet = false;
    for (let step = 0; step < MOST_STEPS_TO_END; step++) {
      this.#closeLost();
      const [delivery] = this.#deliveries();
      if (delivery === undefined && !isQuiet && this.#clients.every(({ ended }) => ended)) {
        isQuiet = true;
        this.#checkResidue();
      }
      const next = delivery ?? this.#timers()[0];
      if (next === undefined) {
        this.#checkEnd();
        return;
      }
      this.apply(next);
    }
    throw new Violation("an end", `not after ${MOST_STEPS_TO_END} more steps`);
  }

  /** What the nodes hold, in whatever order, what each client believes, and what its calls gave. */
  get observable(): string {
    const nodes = this.#nodes.map((_, node) => this.#heldBy(node)).sort();
    const clients = this.#clients.map(
      ({ outcomes, believesUntilMs }) =>
        `${outcomes} ${believesUntilMs > this.#nowMs ? believesUntilMs : "-"}`,
    );
    return [this.#nowMs, ...nodes, ...clients].join("|");
  }

  /**
   * Two systems in the same state have the same future, but for the numbers of their nodes: of the
   * orders of the nodes, that counts which gives the first text. `labels` are the nodes' numbers in it.
   */
  get state(): { readonly text: string; readonly labels: readonly number[] } {
    const common = `${this.#nowMs} ${this.deliveries} ${this.faults} ${this.timers} ${this.#holders.join(" ")}`;
    const nodes = this.#nodes.map((redis, node) => {
      const cached = redis.execute("script", ["EXISTS", ...this.#scripts], this.#nowMs);
      const wires = this.#clients.map((client) => inText(this.#wire(client, node)));
      return `${this.#heldBy(node)} ${String(cached)} ${wires.join(" ")}`;
    });
    const texts = ORDERS.map((labels) => {
      const inOrder = labels.map((_, label) => nodes[labels.indexOf(label)]);
      const clients = this.#clients.map(({ history }) =>
        history.map(({ node, what }) => `${labels[node] ?? ""} ${what}`).join(";"),
      );
      return { text: [common, ...inOrder, ...clients].join("|"), labels };
    });
    return texts.reduce((first, other) => (other.text < first.text ? other : first));
  }

  #heldBy(node: number): string {
    const entry = this.#nodes[node]?.peek(RESOURCE, this.#nowMs);
    return entry === undefined ? "free" : `${entry.value} until ${entry.expiresAtMs}`;
  }

  #deliveries(): Choice[] {
    return this.#onWires(({ state, requests, replies }, client, node) => {
      const found: Choice[] = [];
      if (state === "down") found.push(choice("open", client, node, clientBit(client)));
      if (replies.length > 0) found.push(choice("reply", client, node, clientBit(client)));
      if (requests.length > 0) found.push(choice("request", client, node, nodeBit(node)));
      return found;
    });
  }

  /** The timer that is due first; both clients' where they are due at once. */
  #timers(): Choice[] {
    const firstMs = Math.min(...this.#clients.map(({ dueMs }) => dueMs));
    if (firstMs === Infinity) return [];
    return CLIENTS.filter((client) => this.#client(client).dueMs === firstMs).map((client) =>
      choice("timer", client, -1, firstMs > this.#nowMs ? EVERYTHING : clientBit(client)),
    );
  }

  /** Where they make a difference: to a message on its way, to a command without an answer. */
  #faults(): Choice[] {
    const onWires = this.#onWires(({ requests, replies, isWaiting }, client, node) => {
      const touches = clientBit(client) | nodeBit(node) | FAULT_BIT;
      const found: Choice[] = [];
      if (requests.length > 0) found.push(choice("lose requests", client, node, touches));
      if (replies.length > 0) found.push(choice("lose replies", client, node, touches));
      if (isWaiting) found.push(choice("reset", client, node, touches));
      return found;
    });
    const restarts = this.#nodes.flatMap((_, node) =>
      this.#clients.some((client) => this.#wire(client, node).isWaiting)
        ? [choice("restart", -1, node, nodeBit(node) | ALL_CLIENTS | FAULT_BIT)]
        : [],
    );
    return [...onWires, ...restarts];
  }

  #onWires(find: (wire: Wire, client: number, node: number) => Choice[]): Choice[] {
    return this.#clients.flatMap(({ wires }, client) =>
      wires.flatMap((wire, node) => find(wire, client, node)),
    );
  }

  #happen({ kind, client: index, node }: Choice): void {
    if (kind === "restart") {
      // With its data, as a server that writes every command to disk; without its scripts.
      this.#nodes[node]?.restart(true, this.#nowMs);
      for (const client of this.#clients) this.#close(client, node);
      return;
    }
    const client = this.#client(index);
    if (kind === "timer") {
      this.#nowMs = Math.max(this.#nowMs, client.dueMs);
      this.#note(client, -1, "timer");
      client.fireAlarm();
      return;
    }
    const wire = this.#wire(client, node);
    switch (kind) {
      case "request": {
        const pending = wire.requests.shift();
        if (pending === undefined) throw new Error("no request to deliver");
        const reply = this.#execute(node, pending);
        if (!wire.losesReplies) wire.replies.push({ pending, reply });
        return;
      }
      case "reply": {
        const { pending, reply } = wire.answer();
        this.#note(client, node, `${pending.command} ${replyInText(reply)}`);
        countVote(client, wire, pending, reply);
        return;
      }
      case "open":
        this.#note(client, node, "open");
        wire.open();
        return;
      case "lose requests":
        wire.loseRequests();
        return;
      case "lose replies":
        wire.loseReplies();
        return;
      case "reset":
        this.#close(client, node);
        return;
    }
  }

  #client(index: number): Client {
    const client = this.#clients[index];
    if (client === undefined) throw new Error("no such client");
    return client;
  }

  #wire({ wires }: Client, node: number): Wire {
    const wire = wires[node];
    if (wire === undefined) throw new Error("no such node");
    return wire;
  }

  #close(client: Client, node: number): void {
    this.#note(client, node, "closed");
    this.#wire(client, node).close();
  }

  #closeLost(): void {
    for (const client of this.#clients) {
      for (const [node, { isLost }] of client.wires.entries()) {
        if (isLost) this.#close(client, node);
      }
    }
    this.#settle();
  }

  #note({ history }: Client, node: number, what: string): void {
    history.push({ node, what: `${this.#nowMs} ${what}` });
  }

  /** Lets the clients do all that they can do now. */
  #settle(): void {
    drain();
    for (const client of this.#clients) {
      for (let run = client.takeAfterPoll(); run !== undefined; run = client.takeAfterPoll()) {
        run();
        drain();
      }
    }
  }

  /** On the node: only the owner changes a key, and brings its expiry no nearer. */
  #execute(node: number, { command, args }: Pending): Reply | Error {
    const redis = this.#nodes[node];
    if (redis === undefined) throw new Error("no such node");
    const before = redis.peek(RESOURCE, this.#nowMs);
    const reply = attempt(() => redis.execute(command, args, this.#nowMs));
    const value = command === "set" ? args[1] : args[2 + Number(args[1])];
    checkChange(value, before, redis.peek(RESOURCE, this.#nowMs), node);
    return reply;
  }

  #check(): void {
    const holders = this.#clients.filter((client) => client.believesUntilMs > this.#nowMs);
    for (const { failure } of this.#clients) if (failure !== undefined) throw failure;
    const values = holders.map(({ lock }) => lock?.value ?? "");
    if (values.length > 1) {
      throw new Violation("exclusion", `${values.join(" and ")} are held at once`);
    }
    const [value] = values;
    if (value === undefined || this.#holders.at(-1) === value) return;
    if (this.#holders.includes(value)) {
      throw new Violation("continuity", `another held it in the middle of the tenure of ${value}`);
    }
    this.#holders.push(value);
  }

  /** All is delivered, and both clients are done: what was refused or given back is nowhere. */
  #checkResidue(): void {
    for (const [node, redis] of this.#nodes.entries()) {
      // A debt is forgotten after the ttl, and the key gone 1 ms later.
      const left = redis.peek(RESOURCE, this.#nowMs + 1);
      const isKept = this.#clients.some(
        ({ lock, released }) => !released && lock?.value === left?.value,
      );
      if (left !== undefined && !isKept) {
        throw new Violation("release everywhere", `${left.value} is left on node ${node + 1}`);
      }
    }
  }

  #checkEnd(): void {
    for (const { name, ended, wires } of this.#clients) {
      if (!ended) throw new Violation("an end", `${name} waits for ever`);
      if (wires.some(({ isWaiting }) => isWaiting)) {
        throw new Violation("nothing leaks", `${name} waits for an answer`);
      }
    }
  }
}

function choice(kind: Choice["kind"], client: number, node: number, touches: number): Choice {
  return { kind, client, node, touches, name: `${kind} ${client + 1} ${node + 1}` };
}

function attempt(execute: () => Reply): Reply | Error {
  try {
    return execute();
  } catch (error) {
    if (error instanceof Error && error.name === "ReplyError") return error;
    throw error;
  }
}

function checkChange(
  value: string | undefined,
  before: Entry | undefined,
  after: Entry | undefined,
  node: number,
): void {
  if (before === undefined || before === after) return;
  if (before.value !== value) {
    throw new Violation(
      "only the owner",
      `a command for ${value ?? "nobody"} changed the key of ${before.value} on node ${node + 1}`,
    );
  }
  if (after !== undefined && after.expiresAtMs < before.expiresAtMs) {
    throw new Violation("expiry comes no nearer", `that of ${before.value} on node ${node + 1}`);
  }
}

/** Counted apart from the library, which is to be held to it. */
function countVote(client: Client, wire: Wire, pending: Pending, reply: Reply | Error): void {
  const { command, args } = pending;
  if (command === "set" && reply === "OK") client.attempts.get(args[1] ?? "")?.yes.add(wire);
  // Of the scripts only an extension has two arguments behind its one key.
  if (command.startsWith("eval") && args.length === 5 && reply === 1) client.extended.add(wire);
}

function inText({ state, requests, replies, losesRequests, losesReplies }: Wire): string {
  const lost = `${losesRequests ? "<" : ""}${losesReplies ? ">" : ""}`;
  const up = requests.map(({ command, args }) => `${command} ${args.slice(1).join(" ")}`);
  const down = replies.map(({ reply }) => replyInText(reply));
  return `${state}${lost}[${up.join()}][${down.join()}]`;
}

function replyInText(reply: Reply | Error): string {
  return reply instanceof Error ? reply.message : JSON.stringify(reply);
}
