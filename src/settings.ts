import { isCompanionKey } from "./operations/companion-key.js";
import { invalidType, outOfRange } from "./errors.js";
import { driftMs } from "./algorithm/validity.js";

/** Settings of one call; given to the constructor, they are the default of every call. */
export interface Settings {
  /** Share of the ttl given up to clock drift, plus 2 ms; at least 0 and below 1. Default 0.01. */
  readonly driftFactor?: number | undefined;
  /** Attempts after the first; -1 is without end. Default 10. */
  readonly retryCount?: number | undefined;
  /** Ms between two attempts. Default 200. */
  readonly retryDelay?: number | undefined;
  /** Ms by which that delay varies at random, up or down. Default 100. */
  readonly retryJitter?: number | undefined;
  /** Total ms that `acquire` may take, in place of `retryCount`; 0 is one attempt. Default: none. */
  readonly acquireTimeout?: number | undefined;
  /** Ends the waiting of `acquire`, which rejects with its reason. It does not abort a running `using`. */
  readonly signal?: AbortSignal | undefined;
  /**
   * Ms that one node has to answer in. Default: 5 % of the ttl within 50 to 1000, but not below three
   * times the node's recent round trip while that is under a third of the ttl; 250 without a ttl.
   */
  readonly nodeTimeout?: number | undefined;
  /** Ms of validity left when `using` extends. Default: a third of the ttl, at most 10 000. */
  readonly automaticExtensionThreshold?: number | undefined;
  /**
   * Whether to wait in line, and to release to the next in line; false is plain polling. Default true.
   */
  readonly queue?: boolean | undefined;
  /** Whether a lock has a fencing token, `lock.fence`, larger than those of all locks before. Default false. */
  readonly fencing?: boolean | undefined;
}

/** What the constructor takes. */
export interface RedlockSettings extends Settings {
  /** Put before each resource name to make its key. Default: "". */
  readonly keyPrefix?: string | undefined;
  /**
   * Ms for which a node that may have restarted without its data gives no vote for an acquisition: the
   * longest ttl of all processes that share the nodes. False for nodes that keep every write. Default: the
   * longest ttl that this Redlock has used.
   */
  readonly restartGuard?: number | false | undefined;
}

/** The settings in force: a default stands where nothing was given, undefined where it depends on the call. */
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
  /** See {@link Settings.automaticExtensionThreshold}. */
  readonly automaticExtensionThreshold: number | undefined;
  /** See {@link Settings.queue}. */
  readonly queue: boolean;
  /** See {@link Settings.fencing}. */
  readonly fencing: boolean;
  /** See {@link RedlockSettings.keyPrefix}. */
  readonly keyPrefix: string;
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
  automaticExtensionThreshold: undefined,
  queue: true,
  fencing: false,
  keyPrefix: "",
  restartGuard: undefined,
};

/** Measured: a server takes 2 ms to lock so many, and 10 ms to put a waiter into as many lines. */
const MOST_RESOURCES = 1000;
/** In all keys of one lock. Measured: this process is blocked for up to 20 ms while it writes so many to three nodes. */
const MOST_CHARACTERS = 100_000;

const CONSTRUCTOR_ONLY = new Set(["keyPrefix", "restartGuard"]);

/** What a lock's data says, checked. */
export interface AdoptedJson {
  readonly resources: string[];
  readonly value: string;
  readonly expiration: number;
  readonly ttl: number;
  readonly fence: number | undefined;
}

type Check = (value: unknown, name: string) => void;

const CHECKS: Record<keyof ResolvedSettings, Check> = {
  driftFactor: (value, name) => {
    assertNumber(value, name);
    if (value < 0 || value >= 1) {
      throw outOfRange(
        `${name} is a share of the ttl, at least 0 and below 1, but is ${value}. The usual one is 0.01.`,
      );
    }
  },
  retryCount: wholeNumber(-1, "attempts after the first; -1 is without end"),
  retryDelay: wholeNumber(0, "ms"),
  retryJitter: wholeNumber(0, "ms"),
  acquireTimeout: wholeNumber(0, "ms; 0 is one attempt"),
  signal: (value, name) => {
    if (!isAbortSignal(value))
      throw invalidType(`${name} must be an AbortSignal, but is ${kindOf(value)}.`);
  },
  nodeTimeout: wholeNumber(1, "ms"),
  automaticExtensionThreshold: wholeNumber(1, "ms"),
  queue: assertBoolean,
  fencing: assertBoolean,
  keyPrefix: (value, name) => {
    if (typeof value !== "string")
      throw invalidType(`${name} must be a string, but is ${kindOf(value)}.`);
  },
  restartGuard: (value, name) => {
    if (value !== false) wholeNumber(1, "ms; false for nodes that keep every write")(value, name);
  },
};

/** `given` over `base`. Throws a TypeError or RangeError that names the setting and the call. */
export function resolveSettings(
  given: RedlockSettings | undefined,
  call: string,
  base: ResolvedSettings = DEFAULTS,
): ResolvedSettings {
  if (given === undefined) return base;
  if (typeof given !== "object" || (given as unknown) === null || Array.isArray(given)) {
    throw invalidType(`The settings of ${call}() must be an object, but are ${kindOf(given)}.`);
  }
  const resolved: Record<string, unknown> = { ...base };
  for (const [name, value] of Object.entries(given)) {
    if (!isSetting(name)) throw unknownSetting(name, call);
    if (value === undefined) continue;
    const isOther = base !== DEFAULTS && value !== base[name];
    if (isOther && CONSTRUCTOR_ONLY.has(name)) {
      throw invalidType(
        `${name} is a setting of the constructor, not of ${call}(): one Redlock has one. Make another Redlock for another ${name}.`,
      );
    }
    CHECKS[name](value, `The setting ${name} of ${call}()`);
    resolved[name] = value;
  }
  return resolved as unknown as ResolvedSettings;
}

/** Returns the resources without repeats. Throws a TypeError that names the one that is no name of a resource. */
export function checkResources(resources: unknown, call: string, keyPrefix: string): string[] {
  const list: unknown = typeof resources === "string" ? [resources] : resources;
  if (!Array.isArray(list)) {
    throw invalidType(
      `The resources of ${call}() must be a string or an array of strings, but are ${kindOf(list)}.`,
    );
  }
  if (list.length === 0) {
    throw invalidType(`The resources of ${call}() are empty. Name at least one to lock.`);
  }
  // Array.from, since map would pass over holes.
  const given = Array.from(list, (name: unknown, index) => {
    if (typeof name === "string" && name !== "") return name;
    throw invalidType(
      `Each resource of ${call}() must be a non-empty string, but number ${index + 1} is ${kindOf(name)}.`,
    );
  });
  const names = [...new Set(given)];
  checkSize(names, call, keyPrefix);
  for (const name of names) {
    const key = keyPrefix + name;
    if (isCompanionKey(key)) {
      throw invalidType(
        `${call}() cannot use the resource ${name}: Redlock keeps its own data beside a lock in keys ` +
          `of this form. Choose a name whose key does not end in ${key.slice(key.lastIndexOf(":redlock:"))}.`,
      );
    }
  }
  return names;
}

/** Throws a RangeError for so many names, or such long ones, that one lock would hold up a server or this process. */
function checkSize(names: readonly string[], call: string, keyPrefix: string): void {
  if (names.length > MOST_RESOURCES) {
    throw outOfRange(
      `${call}() has ${names.length} resources, but one lock can have at most ${MOST_RESOURCES}. ` +
        "Lock a single one that stands for all of them.",
    );
  }
  let characters = 0;
  for (const name of names) characters += keyPrefix.length + name.length;
  if (characters > MOST_CHARACTERS) {
    throw outOfRange(
      `The keys of the resources of ${call}() have ${characters} characters together, but those of one lock can ` +
        `have at most ${MOST_CHARACTERS}. Give shorter names, for example a hash of each.`,
    );
  }
}

/** Throws where a lock of this ttl could never be valid, or is no whole number of ms. */
export function checkTtl(ttl: unknown, call: string, driftFactor: number): asserts ttl is number {
  const rule = "Duration must be an integer value in milliseconds.";
  if (typeof ttl !== "number" || Number.isNaN(ttl)) {
    throw invalidType(`${rule} The ttl of ${call}() is ${kindOf(ttl)}.`);
  }
  if (Number.isFinite(ttl) && !Number.isInteger(ttl)) {
    throw invalidType(`${rule} The ttl of ${call}() is ${ttl}. Round it.`);
  }
  const validityMs = ttl - driftMs(ttl, driftFactor);
  if (!Number.isSafeInteger(ttl) || !(validityMs > 0)) {
    throw outOfRange(
      `${rule} The ttl of ${call}() is ${ttl}, which leaves no time after the clock drift allowance ` +
        `of ${Math.round(driftFactor * 100)} % and 2 ms, or is no finite time. Give one of at least some tens of ms.`,
    );
  }
}

/** The ms of validity left at which `using` extends. Throws where the caller's threshold leaves less than 100 ms of the ttl. */
export function extensionThresholdMs(ttlMs: number, settings: ResolvedSettings): number {
  const givenMs = settings.automaticExtensionThreshold;
  if (givenMs !== undefined && givenMs > ttlMs - 100) {
    throw outOfRange(
      "A lock `duration` must be at least 100ms greater than the `automaticExtensionThreshold` setting. " +
        `The ttl is ${ttlMs} ms and the threshold ${givenMs} ms: raise the one or lower the other.`,
    );
  }
  const freshMs = ttlMs - driftMs(ttlMs, settings.driftFactor);
  // A lock that was just extended must not be due again.
  return Math.min(givenMs ?? Math.min(ttlMs / 3, 10_000), freshMs * 0.9);
}

/** Throws a TypeError where `json` is not what `lock.toJSON()` gives, or of another key prefix. */
export function checkJson(json: unknown, keyPrefix: string): AdoptedJson {
  if (typeof json !== "object" || json === null) {
    throw invalidType(
      `adopt() needs the object that lock.toJSON() gave, but has ${kindOf(json)}. JSON.parse a text first.`,
    );
  }
  const {
    version,
    resources,
    value,
    expiration,
    ttl,
    keyPrefix: prefix,
    fence,
  } = json as Record<string, unknown>;
  if (version !== 1) {
    throw invalidType(`adopt() reads version 1 of a lock's data, but this has ${kindOf(version)}.`);
  }
  if (typeof value !== "string" || value === "") {
    throw invalidType(`adopt() needs the lock's value, a string, but has ${kindOf(value)}.`);
  }
  if (typeof expiration !== "number" || Number.isNaN(expiration)) {
    throw invalidType(
      `adopt() needs the lock's expiration, in epoch ms, but has ${kindOf(expiration)}.`,
    );
  }
  if (prefix !== keyPrefix) {
    throw invalidType(
      "adopt() needs a lock of this Redlock's own keyPrefix: its keys have other names. Adopt it with a Redlock of the same prefix.",
    );
  }
  if (fence !== undefined && !isToken(fence)) {
    throw invalidType(
      `adopt() needs the lock's fence, a whole number from 1 to 2^53 − 1, or none, but has ${kindOf(fence)}.`,
    );
  }
  checkTtl(ttl, "adopt", 0);
  return {
    resources: checkResources(resources, "adopt", keyPrefix),
    value,
    expiration,
    ttl,
    fence,
  };
}

function isToken(fence: unknown): fence is number {
  return typeof fence === "number" && Number.isSafeInteger(fence) && fence > 0;
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
    "addEventListener" in value &&
    typeof value.addEventListener === "function"
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

/** What a wrong value is, in words: its text is shown only for numbers, since a string may be a secret. */
export function kindOf(value: unknown): string {
  if (value === null) return "null";
  if (value === "") return "an empty string";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "number") return String(value);
  return value === undefined ? "undefined" : `a value of type ${typeof value}`;
}
