import { Violation } from "../violation.js";
import type { Library } from "../../virtual-world/library.js";
import { RedisModel } from "../../../src/testing/redis/model.js";
import { type Reply, ReplyError } from "../../../src/testing/redis/reply.js";

// One node, with readers and writers that send it every sequence of the library's scripts, while time passes. The checks
// know the scripts only by what they answer and leave behind.

const KEY = "r";
const ORDER = "{r}:redlock:line";
const ALIVE = "{r}:redlock:alive";
const SET = "{r}:redlock:shared";
const QUEUE = [KEY, ORDER, ALIVE];
const START_MS = 1_000_000;
const GRACE_MS = 2;
const LIFE_MS = 6;
const TTL_MS = 3;
const LONG_TTL_MS = 5;
/** No key lives longer than this after the last command. */
const LONGEST_MS = Math.max(LONG_TTL_MS, LIFE_MS, GRACE_MS) + 1;

type Kind = "reader" | "writer";

interface Client {
  readonly kind: Kind;
  readonly value: string;
  readonly id: string;
  readonly ticketMs: number;
}

/** What the node has promised to one client, and what it knows of it. */
interface Known {
  /** Until when the node keeps its lock; 0 where it has none. */
  readonly untilMs: number;
  /** Until when its entry in the queue is alive; 0 where it is not in it. */
  readonly waitsUntilMs: number;
  /** Until when the key is kept for it, since it was notified. */
  readonly graceMs: number;
}

const NOTHING: Known = { untilMs: 0, waitsUntilMs: 0, graceMs: 0 };

interface State {
  readonly redis: RedisModel;
  readonly nowMs: number;
  readonly known: readonly Known[];
}

interface Step {
  readonly name: string;
  readonly next: (state: State) => State | undefined;
}

export interface ReadersFound {
  readonly states: number;
  readonly transitions: number;
  readonly violation: { readonly error: Violation; readonly steps: readonly string[] } | undefined;
}

/**
 * Tries all sequences of at most `depth` steps of these clients, in the order of their tickets.
 *
 * @param withLosses whether an operator may end locks, and the key or the readers' set may be lost, once
 */
export function searchReaders(
  kinds: readonly Kind[],
  depth: number,
  library: Library,
  withLosses = false,
): ReadersFound {
  const node = new Node(kinds, library, withLosses);
  const seen = new Map<string, number>();
  const path: string[] = [];
  let transitions = 0;
  const visit = (state: State, left: number): void => {
    const text = node.inText(state);
    if ((seen.get(text) ?? -1) >= left) return;
    seen.set(text, left);
    if (left === 0) return;
    for (const { name, next } of node.steps) {
      path.push(name);
      const after = next(state);
      if (after !== undefined) {
        transitions += 1;
        visit(after, left - 1);
      }
      path.pop();
    }
  };
  try {
    visit(node.start(), depth);
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    return { states: seen.size, transitions, violation: { error, steps: [...path] } };
  }
  return { states: seen.size, transitions, violation: undefined };
}

class Node {
  readonly steps: readonly Step[];
  readonly #clients: readonly Client[];
  readonly #library: Library;

  constructor(kinds: readonly Kind[], library: Library, withLosses: boolean) {
    this.#library = library;
    this.#clients = kinds.map((kind, index) => ({
      kind,
      value: `${kind}${index}`,
      id: `redlock:${"abcdef".charAt(index)}.1`,
      ticketMs: 100 + index,
    }));
    this.steps = [
      ...this.#clients.flatMap((client, index) => this.#stepsOf(client, index)),
      { name: "1 ms passes", next: (state) => this.#pass(state) },
      ...(withLosses ? this.#losses() : []),
    ];
  }

  start(): State {
    const redis = new RedisModel();
    return { redis, nowMs: START_MS, known: this.#clients.map(() => NOTHING) };
  }

  /** All that matters later, with times counted from now. */
  inText({ redis, nowMs, known }: State): string {
    const since = (ms: number): number => (ms >= nowMs && ms < Infinity ? ms - nowMs : -1);
    const keys = [KEY, ORDER, ALIVE, SET].map((key) => {
      const entry = redis.peek(key, nowMs);
      if (entry === undefined) return "-";
      const members = entry.members.map(({ member, score }) =>
        key === SET ? `${member}:${since(score)}` : member,
      );
      const fields = [...(entry.fields ?? [])]
        .map(([name, text]) => name + text.replace(/\d{7,}/g, (ms) => String(since(Number(ms)))))
        .sort();
      return [entry.value, ...members, ...fields, since(entry.expiresAtMs)].join(",");
    });
    const clients = known.map(
      ({ untilMs, waitsUntilMs, graceMs }) =>
        `${since(untilMs)} ${since(waitsUntilMs)} ${since(graceMs)}`,
    );
    return [...keys, ...clients].join("|");
  }

  #stepsOf(client: Client, index: number): Step[] {
    const { kind, value, id, ticketMs } = client;
    const reads = kind === "reader";
    const { library } = { library: this.#library };
    const sets = reads ? [SET] : [];
    const flag = reads ? ["1"] : [];
    const entry = [String(ticketMs), id, `c${index}`, String(GRACE_MS), String(LIFE_MS), ...flag];
    const step = (name: string, next: Step["next"]): Step => ({ name: `${value} ${name}`, next });
    const { acquireSharedScript, extendSharedScript, releaseSharedScript } = library;
    const acquire = (ttlMs: number) =>
      reads
        ? ["eval", acquireSharedScript.text, "4", ...QUEUE, SET, value, String(ttlMs), "3"]
        : ["set", KEY, value, "NX", "PX", String(ttlMs)];
    const extend = reads ? extendSharedScript : library.extendScript;
    const release = reads ? releaseSharedScript : library.releaseScript;
    const queueKeys = [String(3 + sets.length), ...QUEUE, ...sets];
    return [
      ...[TTL_MS, LONG_TTL_MS].map((ttlMs) =>
        step(`acquires for ${ttlMs}`, (state) =>
          this.#has(state, index)
            ? undefined
            : this.#granting(state, index, ttlMs, acquire(ttlMs), false),
        ),
      ),
      step("joins", (state) => this.#join(state, index, [...queueKeys, ...entry])),
      step("takes", (state) =>
        this.#has(state, index) || !this.#waits(state, index)
          ? undefined
          : this.#granting(
              state,
              index,
              TTL_MS,
              ["eval", library.takeScript.text, ...queueKeys, value, String(TTL_MS), ...entry],
              true,
            ),
      ),
      step("leaves", (state) => {
        if (!this.#waits(state, index)) return undefined;
        const args = [...queueKeys, id, "0", ...flag];
        return this.#run(
          state,
          ["eval", library.leaveScript.text, ...args],
          (known) => known.with(index, { ...at(known, index), waitsUntilMs: 0, graceMs: 0 }),
          index,
        ).state;
      }),
      step("extends", (state) => {
        const args = [String(1 + sets.length), KEY, ...sets, value, String(LONG_TTL_MS)];
        const { state: after, reply } = this.#run(state, ["eval", extend.text, ...args]);
        const { untilMs } = at(state.known, index);
        if (reply !== 1) {
          if (untilMs >= state.nowMs) throw new Violation("kept", `${value} was not extended`);
          return after;
        }
        if (untilMs < state.nowMs) {
          throw new Violation("continuity", `${value} was extended, but had not been held`);
        }
        return this.#checked({
          ...after,
          known: after.known.with(index, {
            ...at(after.known, index),
            untilMs: Math.max(untilMs, state.nowMs + LONG_TTL_MS),
          }),
        });
      }),
      step("releases", (state) => {
        const args = [String(1 + sets.length), KEY, ...sets, value];
        return this.#released(state, index, ["eval", release.text, ...args], false);
      }),
      step("hands over", (state) => {
        const args = [...queueKeys, value, ...flag];
        return this.#released(state, index, ["eval", library.handOverScript.text, ...args], true);
      }),
    ];
  }

  #losses(): Step[] {
    const forget = (name: string, keys: readonly string[]): Step => ({
      name,
      next: (state) => {
        if (state.redis.peek(keys[0] ?? "", state.nowMs) === undefined) return undefined;
        const isKey = keys.includes(KEY);
        const isOver = (index: number): boolean =>
          isKey || at(this.#clients, index).kind === "reader";
        return this.#run(state, ["del", ...keys], (known) =>
          known.map((each, index) => (isOver(index) ? voided(each) : each)),
        ).state;
      },
    });
    const { text } = this.#library.forceReleaseScript;
    return [
      forget("the key is lost", [KEY]),
      forget("the readers' set is lost", [SET]),
      {
        name: "an operator ends the lock",
        next: (state) => {
          const { state: after, reply } = this.#run(
            state,
            ["eval", text, "4", ...QUEUE, SET],
            // What is only kept for somebody stays.
            (known, said) => (Array.isArray(said) && said.length > 0 ? known.map(voided) : known),
          );
          const held = state.known.flatMap(({ untilMs }, index) =>
            untilMs >= state.nowMs ? [this.#clients[index]?.value] : [],
          );
          if (!Array.isArray(reply) || !held.every((value) => reply.includes(value ?? ""))) {
            throw new Violation(
              "force",
              `${held.join()} were ended, but ${String(reply)} was said`,
            );
          }
          return after;
        },
      },
    ];
  }

  #has({ known, nowMs }: State, index: number): boolean {
    return at(known, index).untilMs >= nowMs;
  }

  #waits({ known, nowMs }: State, index: number): boolean {
    const { waitsUntilMs, graceMs } = at(known, index);
    return Math.max(waitsUntilMs, graceMs) >= nowMs;
  }

  /** Executes a command, notes who is notified, and checks what it left behind. */
  #run(
    { redis: before, nowMs, known }: State,
    [command = "", ...args]: readonly string[],
    note: (known: readonly Known[], reply: Reply) => readonly Known[] = (same) => same,
    actor = -1,
  ): { state: State; reply: Reply } {
    const notified: string[] = [];
    const redis = before.copy((_, id) => {
      notified.push(id);
      return 1;
    });
    let reply: Reply;
    try {
      reply = redis.execute(command, args, nowMs);
    } catch (error) {
      if (error instanceof ReplyError) throw new Violation("no error", error.message);
      throw error;
    }
    const after = note(known, reply).map((each, index) =>
      notified.includes(this.#clients[index]?.id ?? "")
        ? { ...each, waitsUntilMs: 0, graceMs: nowMs + GRACE_MS }
        : each,
    );
    const state = { redis, nowMs, known: after };
    this.#checkGroup(known, notified, nowMs, actor);
    return { state: this.#checked(state), reply };
  }

  #granting(
    state: State,
    index: number,
    ttlMs: number,
    command: readonly string[],
    queued: boolean,
  ): State {
    const client = at(this.#clients, index);
    const { kind, value } = client;
    const { nowMs, known } = state;
    const { state: after, reply } = this.#run(
      state,
      command,
      (before) => (queued ? before.with(index, { ...at(before, index), graceMs: 0 }) : before),
      index,
    );
    if (reply !== 1 && reply !== "OK") {
      // A take that is refused joins again.
      if (!queued || !Array.isArray(reply)) return after;
      const mine = { ...at(after.known, index), waitsUntilMs: nowMs + LIFE_MS };
      return { ...after, known: after.known.with(index, mine) };
    }
    for (const [other, { untilMs, waitsUntilMs, graceMs }] of known.entries()) {
      const rival = at(this.#clients, other);
      if (other === index) continue;
      if (untilMs >= nowMs && !(kind === "reader" && rival.kind === "reader")) {
        throw new Violation("exclusion", `${value} was let in beside ${rival.value}`);
      }
      const isEarlier = !queued || rival.ticketMs < client.ticketMs;
      if (kind === "reader" && rival.kind === "writer" && isEarlier && waitsUntilMs >= nowMs) {
        throw new Violation("first come", `${value} passed ${rival.value}, which waits`);
      }
      if (rival.ticketMs < client.ticketMs && kind === "writer" && graceMs >= nowMs) {
        throw new Violation("together", `${value} passed ${rival.value}, which was notified`);
      }
    }
    // Nothing is kept any more for those whom a writer with an earlier ticket passes.
    const others =
      kind === "reader" ? after.known : after.known.map((each) => ({ ...each, graceMs: 0 }));
    const isOut = queued ? { waitsUntilMs: 0, graceMs: 0 } : {};
    const mine = { ...at(others, index), ...isOut, untilMs: nowMs + ttlMs };
    return this.#checked({ ...after, known: others.with(index, mine) });
  }

  #join(state: State, index: number, args: readonly string[]): State {
    const { text } = this.#library.joinScript;
    const { state: after } = this.#run(state, ["eval", text, ...args], (known) =>
      known.with(index, { ...at(known, index), waitsUntilMs: state.nowMs + LIFE_MS }),
    );
    return after;
  }

  #released(state: State, index: number, command: readonly string[], handsOver: boolean): State {
    const { value } = at(this.#clients, index);
    const had = this.#has(state, index);
    const { state: after } = this.#run(state, command, (known) =>
      known.with(index, { ...at(known, index), untilMs: 0 }),
    );
    const { redis, nowMs, known } = after;
    const holders = known.filter(({ untilMs }) => untilMs >= nowMs);
    const key = redis.peek(KEY, nowMs);
    if (had && holders.length === 0) {
      const isKept = known.some(({ graceMs }) => graceMs >= nowMs);
      if (key !== undefined && !isKept) {
        throw new Violation("released", `${value} has left ${key.value}`);
      }
      const isWaitedFor = state.known.some(({ waitsUntilMs }) => waitsUntilMs >= nowMs);
      if (handsOver && key === undefined && isWaitedFor) {
        throw new Violation("hand-over", `${value} freed the key, though somebody waits`);
      }
    }
    return after;
  }

  #pass(state: State): State {
    return this.#checked({ ...state, nowMs: state.nowMs + 1 });
  }

  /** Readers at the head of the queue are notified together, up to the next writer. */
  #checkGroup(
    before: readonly Known[],
    notified: readonly string[],
    nowMs: number,
    actor: number,
  ): void {
    if (notified.length === 0) return;
    const last = this.#clients.findLastIndex(({ id }) => notified.includes(id));
    const first = at(
      this.#clients,
      this.#clients.findIndex(({ id }) => notified.includes(id)),
    );
    if (first.kind === "writer" && notified.length > 1) {
      throw new Violation("one writer", `${notified.join()} were notified`);
    }
    for (const [index, { waitsUntilMs }] of before.entries()) {
      const { kind, id } = at(this.#clients, index);
      if (waitsUntilMs < nowMs || notified.includes(id) || index === actor) continue;
      const isNext = first.kind === "reader" && kind === "reader" && index > last;
      const next = this.#clients.findIndex(
        (client, at) =>
          at > last && client.kind === "writer" && (before[at]?.waitsUntilMs ?? 0) >= nowMs,
      );
      if (isNext && (next === -1 || index < next)) {
        throw new Violation("together", `${id} was not notified with ${notified.join()}`);
      }
    }
  }

  /** What must hold on the node at every moment. */
  #checked(state: State): State {
    const { redis, nowMs, known } = state;
    const key = redis.peek(KEY, nowMs);
    const set = redis.peek(SET, nowMs);
    for (const [index, { untilMs }] of known.entries()) {
      if (untilMs < nowMs) continue;
      const { kind, value } = at(this.#clients, index);
      const holds = key?.value === (kind === "reader" ? "shared" : value);
      if (!holds || key.expiresAtMs < untilMs) {
        throw new Violation("kept", `the key of ${value} holds ${key?.value ?? "nothing"}`);
      }
      const score = set?.members.find(({ member }) => member === value)?.score ?? 0;
      if (kind === "reader" && score < untilMs) {
        throw new Violation("kept", `${value} is not among the readers`);
      }
    }
    for (const name of [KEY, ORDER, ALIVE, SET]) {
      if ((redis.peek(name, nowMs)?.expiresAtMs ?? 0) > nowMs + LONGEST_MS) {
        throw new Violation("released by the ttl", `${name} stays`);
      }
    }
    return state;
  }
}

/** Nothing is promised any more. */
function voided(known: Known): Known {
  return { ...known, untilMs: 0, graceMs: 0 };
}

function at<T>(list: readonly T[], index: number): T {
  const item = list[index];
  if (item === undefined) throw new Error("no such client");
  return item;
}
