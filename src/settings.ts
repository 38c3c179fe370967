import { invalidType, kindOf, outOfRange } from "./errors.js";
import { driftMs } from "./algorithm/validity.js";
import { defaultOwner, LONGEST_OWNER, OWNER } from "./runtime/owner.js";

/** Settings of a call. Settings passed to the constructor are defaults; settings passed to a call override them. */
export interface Settings {
  /** Share of the ttl subtracted for clock drift, besides 2 ms; at least 0 and below 1. Default 0.01. */
  readonly driftFactor?: number | undefined;
  /**
   * Attempts after the first; -1 for no limit. Default 10, with the default delays about 2 s in all: a hundred callers that
   * hold a lock for 50 ms each need 5 s, so that most of them fail. Set `acquireTimeout` where callers queue up.
   */
  readonly retryCount?: number | undefined;
  /** Ms between two attempts; 0 counts as 1. Default 200. */
  readonly retryDelay?: number | undefined;
  /** Ms by which that delay varies at random, up or down. Default 100. */
  readonly retryJitter?: number | undefined;
  /** Total ms that `acquire` may take, instead of `retryCount`; 0 for one attempt. Default: none. */
  readonly acquireTimeout?: number | undefined;
  /** Ends the waiting of `acquire`, which then rejects with its reason, and a leader's term. Does not abort a running `using`. */
  readonly signal?: AbortSignal | undefined;
  /**
   * Ms after which a node that has not replied votes against. Default: 5 % of the ttl, at least 50 and at most 1000; for a
   * slow node three times its recent round trip, as long as that is below a third of the ttl; 250 without a ttl.
   */
  readonly nodeTimeout?: number | undefined;
  /**
   * Whether the library extends a lock of `acquire` or `tryAcquire` until it is released or lost, as `using` always does.
   * Default false.
   */
  readonly autoExtend?: boolean | undefined;
  /**
   * Ms since the acquisition after which the library does not extend the lock any more. The lock then ends with its
   * validity, and its signal aborts before that. Default: no limit.
   */
  readonly maxHold?: number | undefined;
  /** Ms of validity left at which the library extends. Default: a third of the ttl, at most 10 000. */
  readonly automaticExtensionThreshold?: number | undefined;
  /** Whether to wait in the queue, and to hand over to the next waiter on release; false for polling. Default true. */
  readonly queue?: boolean | undefined;
  /**
   * Whether to read: any number of readers may hold a resource at once, but none beside a holder without `shared`. Not
   * with `fencing`. Default false.
   */
  readonly shared?: boolean | undefined;
  /** Whether a lock has a fencing token, `lock.fence`, larger than that of all earlier locks. Default false. */
  readonly fencing?: boolean | undefined;
  /**
   * How many may hold the resource at once, 2 to 1000. Each holder has a permit with a number, `lock.permit`. All processes
   * must use the same number of permits for a resource. Default: none, so that one holds it.
   */
  readonly permits?: number | undefined;
}

/** Settings of the constructor. */
export interface RedlockSettings extends Settings {
  /** Prefix of each resource's key. Default: "". */
  readonly keyPrefix?: string | undefined;
  /**
   * Who holds the locks, for `inspect`, `holder` and error messages: at most 200 printable ASCII characters without spaces;
   * "" for none. Default: `hostname/pid`.
   */
  readonly owner?: string | undefined;
  /**
   * Ms for which the votes of a node that may have restarted without its data do not count for acquisitions. Set it to the
   * longest ttl of all processes that share the nodes; false if the nodes persist every write. Default: the longest ttl
   * that this Redlock has used.
   */
  readonly restartGuard?: number | false | undefined;
}

/** The settings in force, with defaults filled in. Undefined if the default depends on the call. */
export interface ResolvedSettings {
  /** See {@link Settings.driftFactor}. */
  readonly driftFactor: number;
  /** See {@link Settings.retryCount}. */
  readonly retryCount: number;
  /** See {@link Settings.retryDelay}. */
  readonly retryDelay: number;
  /** See {@link Settings.retryJitter}. */
  readonly retryJitter: number;
  /** See {@link Settings.acquireTimeout}. */
  readonly acquireTimeout: number | undefined;
  /** See {@link Settings.signal}. */
  readonly signal: AbortSignal | undefined;
  /** See {@link Settings.nodeTimeout}. */
  readonly nodeTimeout: number | undefined;
  /** See {@link Settings.autoExtend}. */
  readonly autoExtend: boolean;
  /** See {@link Settings.maxHold}. */
  readonly maxHold: number | undefined;
  /** See {@link Settings.automaticExtensionThreshold}. */
  readonly automaticExtensionThreshold: number | undefined;
  /** See {@link Settings.queue}. */
  readonly queue: boolean;
  /** See {@link Settings.shared}. */
  readonly shared: boolean;
  /** See {@link Settings.fencing}. */
  readonly fencing: boolean;
  /** See {@link Settings.permits}. */
  readonly permits: number | undefined;
  /** See {@link RedlockSettings.keyPrefix}. */
  readonly keyPrefix: string;
  /** See {@link RedlockSettings.owner}. */
  readonly owner: string;
  /** See {@link RedlockSettings.restartGuard}. */
  readonly restartGuard: number | false | undefined;
}

const DEFAULTS: ResolvedSettings = {
  driftFactor: 0.01,
  retryCount: 10,
  retryDelay: 200,
  retryJitter: 100,
  acquireTimeout: undefined,
  signal: undefined,
  nodeTimeout: undefined,
  autoExtend: false,
  maxHold: undefined,
  automaticExtensionThreshold: undefined,
  queue: true,
  shared: false,
  fencing: false,
  permits: undefined,
  keyPrefix: "",
  owner: defaultOwner,
  restartGuard: undefined,
};

const CONSTRUCTOR_ONLY = new Set(["keyPrefix", "owner", "restartGuard"]);

/** Each is a key of its own, and a waiter asks about all of them in one command. */
const MOST_PERMITS = 1000;

type Check = (value: unknown, name: string) => void;

const CHECKS: Record<keyof ResolvedSettings, Check> = {
  driftFactor: (value, name) => {
    assertNumber(value, name);
    if (value < 0 || value >= 1) {
      throw outOfRange(
        `${name} is a share of the ttl, at least 0 and below 1, but is ${value}. The default is 0.01.`,
      );
    }
  },
  retryCount: wholeNumber(-1, "attempts after the first; -1 for no limit"),
  retryDelay: wholeNumber(0, "ms"),
  retryJitter: wholeNumber(0, "ms"),
  acquireTimeout: wholeNumber(0, "ms; 0 for one attempt"),
  signal: (value, name) => {
    if (!isAbortSignal(value))
      throw invalidType(`${name} must be an AbortSignal, but is ${kindOf(value)}.`);
  },
  nodeTimeout: wholeNumber(1, "ms"),
  autoExtend: assertBoolean,
  maxHold: wholeNumber(1, "ms since the acquisition"),
  automaticExtensionThreshold: wholeNumber(1, "ms"),
  queue: assertBoolean,
  shared: assertBoolean,
  fencing: assertBoolean,
  permits: (value, name) => {
    wholeNumber(2, "permits; leave it out for a lock that one holds")(value, name);
    if (Number(value) > MOST_PERMITS) {
      throw outOfRange(`${name} must be at most ${MOST_PERMITS}, but is ${String(value)}.`);
    }
  },
  keyPrefix: (value, name) => {
    if (typeof value !== "string")
      throw invalidType(`${name} must be a string, but is ${kindOf(value)}.`);
  },
  owner: (value, name) => {
    if (typeof value !== "string")
      throw invalidType(`${name} must be a string, but is ${kindOf(value)}.`);
    if (value.length > LONGEST_OWNER || !OWNER.test(value)) {
      throw outOfRange(
        `${name} must be at most ${LONGEST_OWNER} printable ASCII characters without spaces, since it is part of what ` +
          'the nodes store. Pass a short name such as "api-7", or "" for none.',
      );
    }
  },
  restartGuard: (value, name) => {
    if (value !== false)
      wholeNumber(1, "ms; false for nodes that persist every write")(value, name);
  },
};

/** Returns `base` with `given` over it. Throws a TypeError or RangeError that names the setting and the call. */
export function resolveSettings(
  given: RedlockSettings | undefined,
  call: string,
  base: ResolvedSettings = DEFAULTS,
): ResolvedSettings {
  if (given === undefined) return base;
  if (typeof given !== "object" || (given as unknown) === null || Array.isArray(given)) {
    throw invalidType(`The settings of ${call}() must be an object, but are ${kindOf(given)}.`);
  }
  if (isAbortSignal(given)) {
    throw invalidType(`The settings of ${call}() are an AbortSignal. Pass { signal } instead.`);
  }
  const resolved: Record<string, unknown> = { ...base };
  for (const [name, value] of Object.entries(given)) {
    if (!isSetting(name)) throw unknownSetting(name, call);
    if (value === undefined) continue;
    const isOther = base !== DEFAULTS && value !== base[name];
    if (isOther && CONSTRUCTOR_ONLY.has(name)) {
      throw invalidType(
        `${name} is a setting of the constructor, not of ${call}(). Make another Redlock for another ${name}.`,
      );
    }
    CHECKS[name](value, `The setting ${name} of ${call}()`);
    resolved[name] = value;
  }
  const all = resolved as unknown as ResolvedSettings;
  refuseTogether(all, call);
  return all;
}

/** Throws a TypeError for two settings that say different things of who may hold a resource at once. */
function refuseTogether({ shared, permits, fencing }: ResolvedSettings, call: string): void {
  if (shared && fencing) {
    throw invalidType(
      `${call}() cannot have shared and fencing: readers write nothing that a token could order. ` +
        "Pass fencing: false with shared: true, or take the lock without shared.",
    );
  }
  if (permits === undefined || !(shared || fencing)) return;
  throw invalidType(
    shared
      ? `${call}() cannot have shared and permits: readers are not counted. Leave out one of them.`
      : `${call}() cannot have permits and fencing: no token could order what several holders write. Leave out one of them.`,
  );
}

/** Returns the ms of validity left at which the library extends. Throws if the threshold leaves less than 100 ms of the ttl. */
export function extensionThresholdMs(ttlMs: number, settings: ResolvedSettings): number {
  const givenMs = settings.automaticExtensionThreshold;
  if (givenMs !== undefined && givenMs > ttlMs - 100) {
    throw outOfRange(
      "A lock `duration` must be at least 100ms greater than the `automaticExtensionThreshold` setting. " +
        `The ttl is ${ttlMs} ms and the threshold ${givenMs} ms: raise the one or lower the other.`,
    );
  }
  const freshMs = ttlMs - driftMs(ttlMs, settings.driftFactor);
  // A lock that was just extended must not be due again at once.
  return Math.min(givenMs ?? Math.min(ttlMs / 3, 10_000), freshMs * 0.9);
}

function wholeNumber(least: number, unit: string): Check {
  return (value, name) => {
    assertNumber(value, name);
    if (Number.isFinite(value) && !Number.isInteger(value)) {
      throw invalidType(`${name} must be a whole number (${unit}), but is ${value}. Round it.`);
    }
    if (value < least || !Number.isSafeInteger(value)) {
      throw outOfRange(
        `${name} must be a whole number of at least ${least} (${unit}), but is ${value}.`,
      );
    }
  };
}

function assertBoolean(value: unknown, name: string): void {
  if (typeof value !== "boolean")
    throw invalidType(`${name} must be true or false, but is ${kindOf(value)}.`);
}

function assertNumber(value: unknown, name: string): asserts value is number {
  if (typeof value !== "number" || Number.isNaN(value)) {
    throw invalidType(`${name} must be a number, but is ${kindOf(value)}.`);
  }
}

function isAbortSignal(value: unknown): boolean {
  return (
    typeof value === "object" &&
    value !== null &&
    "aborted" in value &&
    ["addEventListener", "removeEventListener", "throwIfAborted"].every(
      (name) => typeof Reflect.get(value, name) === "function",
    )
  );
}

function isSetting(name: string): name is keyof ResolvedSettings {
  return Object.hasOwn(CHECKS, name);
}

function unknownSetting(name: string, call: string): TypeError {
  const known = Object.keys(CHECKS);
  const [nearest] = known.sort((a, b) => editDistance(name, a) - editDistance(name, b));
  return invalidType(
    `${call}() knows no setting ${name}. Did you mean ${nearest ?? ""}? The settings are ${known.sort().join(", ")}.`,
  );
}

function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (let index = 0; index < from.length; index++) {
    const next = [index + 1];
    for (let column = 0; column < to.length; column++) {
      const replaced = (row[column] ?? 0) + (from[index] === to[column] ? 0 : 1);
      next.push(Math.min(replaced, (row[column + 1] ?? 0) + 1, (next[column] ?? 0) + 1));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}
