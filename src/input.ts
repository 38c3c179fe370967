import { driftMs } from "./algorithm/validity.js";
import { invalidType, kindOf, outOfRange } from "./errors.js";
import { companionKey, isCompanionKey, permitKeys } from "./operations/companion-key.js";

/** Measured: a server takes 2 ms to lock this many resources, and 10 ms to put a waiter into their queues. */
const MOST_RESOURCES = 1000;
/** In all keys of one lock. Measured: writing this many to three nodes blocks the process for up to 20 ms. */
const MOST_CHARACTERS = 100_000;

/** A lock's data, checked. */
export interface AdoptedJson {
  readonly resources: string[];
  readonly value: string;
  readonly expiration: number;
  readonly ttl: number;
  readonly fence: number | undefined;
  readonly shared: boolean;
  readonly permit: number | undefined;
}

/** Returns the resources without repeats. Throws a TypeError that says which one is invalid. */
export function checkResources(resources: unknown, call: string, keyPrefix: string): string[] {
  const names =
    typeof resources === "string" ? [checkName(resources, 0, call)] : namesIn(resources, call);
  checkSize(names, call, keyPrefix);
  for (const name of names) {
    const key = keyPrefix + name;
    if (isCompanionKey(key)) {
      throw invalidType(
        `${call}() cannot use the resource ${name}: Redlock stores its own data beside a lock in keys ` +
          `of this form. Choose a name whose key does not end in ${key.slice(key.lastIndexOf(":redlock:"))}.`,
      );
    }
  }
  return names;
}

function namesIn(list: unknown, call: string): string[] {
  if (!Array.isArray(list)) {
    throw invalidType(
      `The resources of ${call}() must be a string or an array of strings, but are ${kindOf(list)}.`,
    );
  }
  if (list.length === 0) {
    throw invalidType(`The resources of ${call}() are empty. Name at least one to lock.`);
  }
  // Array.from does not skip the holes of a sparse array, as map does.
  return [...new Set(Array.from(list, (name: unknown, index) => checkName(name, index, call)))];
}

function checkName(name: unknown, index: number, call: string): string {
  if (typeof name === "string" && name !== "") return name;
  throw invalidType(
    `Each resource of ${call}() must be a non-empty string, but number ${index + 1} is ${kindOf(name)}.`,
  );
}

/** Throws a RangeError if the names are so many or so long that one lock would block a server or this process. */
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

/** Throws if the ttl is not a whole number of ms, or so small that the lock could never be valid. */
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

/** Throws a TypeError if the call was given several resources, or none. */
export function checkSingle(resource: unknown, call: string): void {
  if (typeof resource === "string") return;
  throw invalidType(
    `${call}() is about one resource, whose name is a string, but got ${kindOf(resource)}. Call it once for each.`,
  );
}

/** Throws a TypeError for the third argument that node-redlock has. */
export function refuseScripts(scripts: unknown): void {
  if (scripts === undefined) return;
  throw invalidType(
    "Redlock takes no third argument: custom scripts could break the guarantees of this library. " +
      "See “Coming from node-redlock” in the README.",
    "ERR_REDLOCK_SCRIPTS",
  );
}

/** Returns the one option that a call has; undefined if it was left out. Throws a TypeError for any other. */
export function onlyOption(options: unknown, call: string, name: string, unit = ""): unknown {
  if (typeof options !== "object" || options === null || Array.isArray(options)) {
    throw invalidType(`The options of ${call}() must be an object, but are ${kindOf(options)}.`);
  }
  const other = Object.keys(options).find((each) => each !== name);
  if (other !== undefined) {
    throw invalidType(`${call}() knows no option ${other}. Its only one is ${name}${unit}.`);
  }
  return (options as Record<string, unknown>)[name];
}

/** Returns the ms that a drain may take; 0 for none. Throws for anything but `{ drain: ms }`. */
export function checkDrain(options: unknown): number {
  const drain = onlyOption(options, "quit", "drain", ", in ms");
  if (drain === undefined) return 0;
  if (typeof drain !== "number" || Number.isNaN(drain)) {
    throw invalidType(
      `The option drain of quit() must be a number of ms, but is ${kindOf(drain)}.`,
    );
  }
  if (!Number.isSafeInteger(drain) || drain < 0) {
    throw outOfRange(
      `The option drain of quit() must be a whole number of at least 0 (ms), but is ${drain}.`,
    );
  }
  return drain;
}

/** Returns the keys of resources, in their order. */
export function keysOf(resources: readonly string[], keyPrefix: string): string[] {
  return resources.map((resource) => keyPrefix + resource);
}

/** Throws a TypeError that names a key that several cannot read at once. */
export function checkCompanions(keys: readonly string[], call: string): void {
  for (const key of keys) {
    if (companionKey(key, "shared") === undefined) throw noCompanion(key, call);
  }
}

function noCompanion(key: string, call: string): Error {
  return invalidType(
    `${call}() cannot let several hold the key ${key}: no other key is sure to lie in the same slot of a Redis Cluster. ` +
      "Name the resource without braces, or with a hash tag such as {order:7}:items.",
  );
}

/** Returns the keys of a resource's slots. Throws a TypeError or RangeError for what can have no permits. */
export function slotKeysOf(keys: readonly string[], count: number, call: string): string[] {
  const [key = ""] = keys;
  if (keys.length > 1) {
    throw invalidType(
      `${call}() takes permits of one resource, but got ${keys.length} resources. Call it once for each, in the same order everywhere.`,
    );
  }
  const slotKeys = permitKeys(key, count);
  if (slotKeys === undefined) throw noCompanion(key, call);
  const characters = slotKeys.reduce((sum, { length }) => sum + length, 0);
  if (characters > MOST_CHARACTERS) {
    throw outOfRange(
      `${call}() needs ${count} keys for the permits of ${key.slice(0, 100)}, which have ${characters} characters together, more than ${MOST_CHARACTERS}. ` +
        "Give the resource a shorter name.",
    );
  }
  return slotKeys;
}

/** Throws a TypeError if `json` is not what `lock.toJSON()` returns, or has another key prefix. */
export function checkJson(json: unknown, keyPrefix: string): AdoptedJson {
  if (typeof json !== "object" || json === null) {
    throw invalidType(
      `adopt() needs the object that lock.toJSON() gave, but got ${kindOf(json)}. JSON.parse a text first.`,
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
    shared = false,
    permit,
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
  const kind = checkKind(shared, permit, fence);
  checkTtl(ttl, "adopt", 0);
  const names = checkResources(resources, "adopt", keyPrefix);
  if (kind.shared) checkCompanions(keysOf(names, keyPrefix), "adopt");
  return { resources: names, value, expiration, ttl, fence, ...kind };
}

/** Throws a TypeError if a lock's data says that it is of two kinds, or of none that there is. */
function checkKind(
  shared: unknown,
  permit: unknown,
  fence: number | undefined,
): Pick<AdoptedJson, "shared" | "permit"> {
  const andFence = fence === undefined ? "" : ` and the fence ${fence}`;
  if (typeof shared !== "boolean" || (shared && fence !== undefined)) {
    throw invalidType(
      `adopt() needs shared: true for a reader, which has no fence, or none, but has ${kindOf(shared)}${andFence}.`,
    );
  }
  if (permit !== undefined && (!isPermit(permit) || shared || fence !== undefined)) {
    throw invalidType(
      `adopt() needs the number of the lock's permit, from 0 to 999, beside neither shared nor a fence, or none, but has ${kindOf(permit)}` +
        `${shared ? " and shared" : ""}${andFence}.`,
    );
  }
  return { shared, permit };
}

function isPermit(permit: unknown): permit is number {
  return Number.isInteger(permit) && Number(permit) >= 0 && Number(permit) < 1000;
}

function isToken(fence: unknown): fence is number {
  return typeof fence === "number" && Number.isSafeInteger(fence) && fence > 0;
}
