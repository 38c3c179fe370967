// How much an object keeps in its maps, sets and arrays, and in those of what it holds, private
// fields included: the debugger's protocol sees what no other code can.

import { type Runtime, Session } from "node:inspector/promises";

const MOST_OBJECTS = 5_000;
const GROUP = "collection-sizes";
const HANDLE = Symbol.for("redlock-quorum benchmarks: walked");

/** Runs in the debugger, on each object. Gives nothing for one that was met before. */
const MEET = `function (met) {
  if (met.has(this)) return undefined;
  met.add(this);
  if (Array.isArray(this)) return { size: this.length };
  if (this instanceof Map || this instanceof Set) return { size: this.size };
  return {};
}`;
/** The protocol has more than the types of Node 20 know. */
type Properties = Runtime.GetPropertiesReturnType & {
  readonly privateProperties?: readonly Runtime.PropertyDescriptor[];
};

const VALUES = "function () { return [...this.values()]; }";

/**
 * The size of each collection reachable from `root`, by the path on which it was met first, such as
 * `#nodes.0.#owed.#byValue`. `strangers`, and what is reachable only through them, are not the root's.
 */
export async function collectionSizes(
  root: object,
  strangers: readonly object[],
): Promise<Map<string, number>> {
  const session = new Session();
  session.connect();
  Reflect.set(globalThis, HANDLE, { root, met: new Set(strangers) });
  try {
    return await walk(session);
  } finally {
    Reflect.deleteProperty(globalThis, HANDLE);
    await session.post("Runtime.releaseObjectGroup", { objectGroup: GROUP });
    session.disconnect();
  }
}

async function walk(session: Session): Promise<Map<string, number>> {
  const found = async (name: "root" | "met"): Promise<Runtime.RemoteObject> => {
    const expression = `globalThis[Symbol.for("${Symbol.keyFor(HANDLE) ?? ""}")].${name}`;
    return (await session.post("Runtime.evaluate", { expression, objectGroup: GROUP })).result;
  };
  const met = await found("met");
  const sizes = new Map<string, number>();
  const ahead = [{ path: "", object: await found("root") }];
  for (let next = ahead.pop(); next !== undefined; next = ahead.pop()) {
    const { path, object } = next;
    // A timer leads to all timers of the process, and a function nowhere.
    if (object.objectId === undefined || object.type !== "object") continue;
    if (object.className === "Timeout") continue;
    const meeting = await session.post("Runtime.callFunctionOn", {
      functionDeclaration: MEET,
      objectId: object.objectId,
      arguments: [met.objectId === undefined ? {} : { objectId: met.objectId }],
      returnByValue: true,
    });
    const seen = meeting.result.value as { readonly size?: number } | undefined;
    if (seen === undefined) continue;
    if (seen.size !== undefined) sizes.set(path, seen.size);
    if (ahead.length > MOST_OBJECTS)
      throw new Error(`More than ${MOST_OBJECTS} objects, at ${path}`);
    for (const [name, child] of await childrenOf(session, object, object.objectId)) {
      ahead.push({ path: path === "" ? name : `${path}.${name}`, object: child });
    }
  }
  return sizes;
}

async function childrenOf(
  session: Session,
  { subtype }: Runtime.RemoteObject,
  objectId: string,
): Promise<[string, Runtime.RemoteObject][]> {
  if (subtype === "map" || subtype === "set") {
    const values = await session.post("Runtime.callFunctionOn", {
      functionDeclaration: VALUES,
      objectId,
      objectGroup: GROUP,
    });
    const array = values.result;
    return array.objectId === undefined ? [] : childrenOf(session, array, array.objectId);
  }
  const { result, privateProperties = [] }: Properties = await session.post(
    "Runtime.getProperties",
    { objectId, ownProperties: true },
  );
  return [...result, ...privateProperties].flatMap(({ name, value }) =>
    value === undefined ? [] : [[name, value]],
  );
}
