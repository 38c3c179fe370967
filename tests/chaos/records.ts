// What a run writes down. The checker knows a run by these files alone:
//
//   run.json                what was run
//   nemesis.jsonl           each fault, when it began and when it was healed
//   client-<n>-<l>.jsonl    what each client believed and did, in its life l: killed, it begins another
//   register-<key>.jsonl    the guarded resources themselves, each line an access, in the order of landing
//
// Every time ends in `Us`: microseconds of the machine's monotonic clock, which all processes share.

import { closeSync, openSync, writeSync } from "node:fs";

export interface RunFacts {
  readonly seed: number;
  readonly minutes: number;
  readonly nodeCount: number;
  readonly clientCount: number;
  readonly keys: readonly string[];
  /** How many permits the one resource has that has any. Each of them guards a resource of its own. */
  readonly permits: number;
  readonly nodeTimeoutMs: number;
  /** After a node is healed, what a client may take to have it back, by what was wrong with it. */
  readonly settleMs: Readonly<Record<NodeFaultKind, number>>;
  readonly emptyRestarts: boolean;
  /** The locks have tokens, and the guarded resources compare them. */
  readonly fencing: boolean;
  /** Most of the locks are readers': each reads its resource twice, and must find the same. Absent in older logs. */
  readonly readers?: boolean;
  /** What was broken on purpose, so that the checker must find something; "" in a real run. */
  readonly broken: string;
}

const SLOT = "permit-";

/** The guarded resource of the holder of a permit. */
export function guardedByPermit(permit: number): string {
  return SLOT + String(permit);
}

export function isGuardedByPermit(key: string): boolean {
  return key.startsWith(SLOT);
}

/** All guarded resources. */
export function guarded({ keys, permits }: Pick<RunFacts, "keys" | "permits">): string[] {
  return [...keys, ...Array.from({ length: permits }, (_, permit) => guardedByPermit(permit))];
}

export type NodeFaultKind = "kill" | "freeze" | "cut" | "partition" | "mute" | "deaf" | "delay";
export type ClientFaultKind = "client freeze" | "client kill";
export type FaultKind = NodeFaultKind | ClientFaultKind;

export type NemesisRecord =
  | { readonly type: "round"; readonly atUs: number; readonly name: string }
  | {
      readonly type: "began";
      readonly atUs: number;
      readonly fault: number;
      readonly kind: FaultKind;
      /** Absent where a client itself is the victim. */
      readonly node?: number;
      /** The clients that feel it. */
      readonly clients: readonly number[];
      readonly delayMs?: number;
    }
  | { readonly type: "healed"; readonly atUs: number; readonly fault: number }
  /** A client process that was killed has ended; the next one of its number begins another life. */
  | { readonly type: "died"; readonly atUs: number; readonly client: number }
  /** A server did not answer for a while, whether or not the nemesis was why. */
  | {
      readonly type: "server stalled";
      readonly node: number;
      readonly sinceUs: number;
      readonly atUs: number;
    }
  /** The event loop of the process with the proxies in it was late. */
  | { readonly type: "stalled"; readonly sinceUs: number; readonly atUs: number };

export type Call = "using" | "acquire" | "tryAcquire" | "acquire a permit" | "adopt";

/** A tenure is one lock in the hands of one client, from its acquisition on. */
export type ClientRecord =
  | {
      readonly type: "acquired";
      readonly atUs: number;
      readonly tenure: string;
      readonly call: Call;
      readonly keys: readonly string[];
      readonly askedUs: number;
      readonly remainingMs: number;
      /** The lock's fencing token, if it has one. */
      readonly fence?: number;
      /** Whether it is a reader's, beside which others may read. */
      readonly shared?: true;
    }
  /** What `lock.remaining` said; `atUs` was read before it, so that no pause makes it look longer. */
  | {
      readonly type: "valid";
      readonly atUs: number;
      readonly tenure: string;
      readonly remainingMs: number;
    }
  /** The library said so. */
  | {
      readonly type: "lost";
      readonly atUs: number;
      readonly tenure: string;
      readonly call: Call;
      readonly why: string;
    }
  /**
   * A timer of the client's, due when the validity of a lock of `using` ends, ran and found the signal
   * aborted. Where the event loop was blocked, it is late by just that.
   */
  | { readonly type: "watched"; readonly atUs: number; readonly tenure: string }
  /** From here on the client does not rely on the lock: about to be released, say. */
  | {
      readonly type: "ended";
      readonly atUs: number;
      readonly tenure: string;
      readonly how: "released" | "handed over" | "abandoned";
    }
  | {
      readonly type: "refused";
      readonly atUs: number;
      readonly call: Call;
      readonly askedUs: number;
      readonly why: string;
    }
  | {
      readonly type: "wrote";
      /** After the resource's answer. */
      readonly atUs: number;
      readonly tenure: string;
      readonly key: string;
      readonly token: string;
      /** The last look at the clock and at the lock before the write. */
      readonly checkedUs: number;
      readonly remainingMs: number;
      /** Whether the resource took it. */
      readonly accepted: boolean;
    }
  /** The resource had seen a later holder, so the client gave up. */
  | {
      readonly type: "read refused";
      readonly atUs: number;
      readonly tenure: string;
      readonly key: string;
    }
  /** A write, or a reader's second read, that was not made, since too little validity was left. */
  | {
      readonly type: "held back";
      readonly atUs: number;
      readonly tenure: string;
      readonly remainingMs: number;
    }
  /** A lock on a resource that is this client's alone, so that only faults can refuse it. */
  | {
      readonly type: "probed";
      readonly atUs: number;
      readonly askedUs: number;
      /** Why it was refused, if it was. */
      readonly why?: string;
    }
  /** The event loop was late: busy, frozen, or not scheduled. */
  | { readonly type: "stalled"; readonly sinceUs: number; readonly atUs: number }
  | { readonly type: "crashed"; readonly atUs: number; readonly why: string }
  /** The last: every call has ended. */
  | { readonly type: "done"; readonly atUs: number };

/** One access to a guarded resource. */
export interface RegisterLine {
  /** When it landed. */
  readonly atUs: number;
  readonly what: "read" | "write";
  /** The tenure, and which of its updates: a write has the token of its read. */
  readonly token: string;
  /** The token of the write that was the last when the writer, or this read, read; "" for the first. */
  readonly read: string;
  readonly fence?: number;
  readonly accepted: boolean;
}

export function nowUs(): number {
  return Number(process.hrtime.bigint() / 1_000n);
}

/** Appends to one file; what was appended survives the process. */
export class Journal<Entry> {
  readonly #file: number;

  constructor(path: string) {
    this.#file = openSync(path, "a");
  }

  add(entry: Entry): void {
    writeSync(this.#file, `${JSON.stringify(entry)}\n`);
  }

  close(): void {
    closeSync(this.#file);
  }
}

const BEAT_MS = 10;
/** Less than this is the coarseness of timers. */
const LEAST_LATENESS_MS = 5;

/** Tells `onStall` of each time in which this process's event loop should have turned and did not. */
export function watchForStalls(onStall: (sinceUs: number, atUs: number) => void): () => void {
  let dueUs = nowUs() + BEAT_MS * 1_000;
  const timer = setInterval(() => {
    const atUs = nowUs();
    if (atUs - dueUs > LEAST_LATENESS_MS * 1_000) onStall(dueUs, atUs);
    dueUs = atUs + BEAT_MS * 1_000;
  }, BEAT_MS).unref();
  return () => {
    clearInterval(timer);
  };
}
