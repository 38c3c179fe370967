import { Inject } from "@nestjs/common";
import { invalidType } from "../errors.js";
import { checkResources, checkTtl, slotKeysOf } from "../input.js";
import type { Redlock } from "../redlock.js";
import { extensionThresholdMs, resolveSettings, type Settings } from "../settings.js";
import { runHolding } from "./current-lock.js";
import { getRedlockToken } from "./token.js";

/** Settings of one `@Locked` method. */
export interface LockedSettings extends Settings {
  /** The name of the Redlock, if the module gave it one. Default: the Redlock without a name. */
  readonly redlock?: string | undefined;
}

/** Nothing, if the resource function can take the first of the method's arguments; otherwise what is wrong. */
type Takes<Args extends unknown[], Method extends (...args: never[]) => unknown> =
  Parameters<Method> extends [...Args, ...unknown[]]
    ? unknown
    : "The parameters of the resource function are not those of the method";

/**
 * Decorates a method that returns a promise and has at least the parameters `Args`.
 *
 * @typeParam Method the method's type
 */
export type LockedDecorator<Args extends unknown[]> = <
  Method extends (...args: never[]) => Promise<unknown>,
>(
  target: object,
  key: string | symbol,
  descriptor: TypedPropertyDescriptor<Method> & Takes<Args, Method>,
) => void;

type AnyMethod = (this: unknown, ...args: unknown[]) => unknown;

/**
 * Runs a method of a provider or controller under a lock, inside `redlock.using`: the lock is extended until the method's
 * promise settles, then released. Its errors and those of the lock reach the caller unchanged. {@link lockSignal} is the
 * signal that aborts when the lock is lost.
 *
 * @param resource what to lock: a name, several names, or a function of the method's arguments that returns them
 * @param ttl ms after which the servers free the lock by themselves
 * @param settings as for `redlock.using`, and the name of the Redlock if it has one
 * @throws TypeError or RangeError when the class is defined, for a bad ttl or setting, and for what is no method. The
 *   method rejects as `redlock.using` does, and with a TypeError on an object that Nest did not make.
 * @example
 * ```ts
 * @Injectable()
 * export class Invoices {
 *   @Locked((id: string) => `invoice:${id}`, 10_000, { acquireTimeout: 2000 })
 *   async pay(id: string): Promise<void> {
 *     lockSignal().throwIfAborted();
 *   }
 * }
 * ```
 */
export function Locked<Args extends unknown[]>(
  resource: string | readonly string[] | ((...args: Args) => string | readonly string[]),
  ttl: number,
  settings: LockedSettings = {},
): LockedDecorator<Args> {
  const { name, own } = checked(resource, ttl, settings);
  return (target, key, descriptor) => {
    const method = methodOf(target, key, descriptor);
    const where = `${target.constructor.name}.${String(key)}`;
    // Nest's container brings the Redlock, by injection into a property of each instance. A global variable would mix
    // two applications of one process, and so would a method that is wrapped once they start, since they share the
    // class. Injection also reaches instances of one request, fails at the start if a module lacks the Redlock, and
    // takes what a test provides in place of it. The symbol's text is what Nest's error then shows.
    const property = Symbol(
      `Redlock of @Locked on ${where}: import RedlockModule, or set its isGlobal`,
    );
    Inject(getRedlockToken(name))(target, property);

    const locked = async function (this: unknown, ...args: unknown[]): Promise<unknown> {
      const redlock = redlockIn(this, property, where);
      const resources = typeof resource === "function" ? resource(...(args as Args)) : resource;
      return redlock.using(resources, ttl, own, (signal, lock) =>
        runHolding({ signal, lock }, async () => {
          const result = await settling(method.apply(this, args), where);
          // Nest subscribes to one that a promise brings, too.
          if (isObservable(result)) throw notSettled(where);
          return result;
        }),
      );
    };
    copyProperties(method, locked);
    Object.assign(descriptor, { value: locked });
  };
}

/** Throws for what `redlock.using` would refuse at every call. */
function checked(
  resource: unknown,
  ttl: number,
  settings: LockedSettings,
): { readonly name: string | undefined; readonly own: Settings } {
  const isObject = typeof (settings as unknown) === "object" && (settings as unknown) !== null;
  const { redlock: name, ...own } = isObject ? settings : {};
  // Not the defaults themselves, which the constructor has as the base: its own settings are none of a call.
  const base = { ...resolveSettings(undefined, "@Locked") };
  const resolved = resolveSettings(
    isObject && !Array.isArray(settings) ? own : settings,
    "@Locked",
    base,
  );
  if (typeof resource !== "function") {
    const names = checkResources(resource, "@Locked", "");
    const { permits } = resolved;
    if (permits !== undefined && names.length > 1) slotKeysOf(names, permits, "@Locked");
  }
  checkTtl(ttl, "@Locked", resolved.driftFactor);
  extensionThresholdMs(ttl, resolved);
  return { name, own };
}

/** Returns the method of a class member, as TypeScript's decorators of the setting experimentalDecorators pass it. */
function methodOf(target: unknown, key: unknown, descriptor: unknown): AnyMethod {
  const isMember = typeof target === "object" && target !== null && typeof key !== "object";
  const { value } = (descriptor ?? {}) as { value?: unknown };
  if (isMember && typeof value === "function") return value as AnyMethod;
  throw invalidType(
    `@Locked decorates methods of Nest's classes, but ${describe(target, key)} is no such method. ` +
      "Use it on a method that is neither static nor an accessor, and set experimentalDecorators in tsconfig.json.",
  );
}

function describe(target: unknown, key: unknown): string {
  // The decorators of the standard pass the method and an object that describes it.
  if (typeof key === "object" && key !== null && "name" in key) return String(key.name);
  return typeof target === "function"
    ? `${target.name}.${String(key)}, which is static,`
    : String(key);
}

function redlockIn(instance: unknown, property: symbol, where: string): Redlock {
  const redlock =
    typeof instance === "object" && instance !== null
      ? (Reflect.get(instance, property) as Redlock | undefined)
      : undefined;
  if (redlock !== undefined) return redlock;
  throw invalidType(
    `@Locked on ${where} has no Redlock: it was called on an object that Nest did not make. ` +
      "List the class in the providers or controllers of a module, rather than make it with new, in a useFactory or " +
      "as a useValue, and call the method on the instance that Nest injects.",
  );
}

/** Rejects a result that does its work only after the method has returned, and so without the lock. */
function settling(result: unknown, where: string): unknown {
  const isObject = typeof result === "object" && result !== null;
  if (!isObject || "then" in result) return result;
  if ("subscribe" in result || Symbol.asyncIterator in result) throw notSettled(where);
  return result;
}

function isObservable(value: unknown): boolean {
  return typeof value === "object" && value !== null && "subscribe" in value && "lift" in value;
}

function notSettled(where: string): TypeError {
  return invalidType(
    `@Locked on ${where} needs a method that returns a promise, but it returned an Observable or an async iterator, ` +
      "whose work would begin after the lock has ended. Await that work in the method, for example by lastValueFrom().",
  );
}

/** Gives `to` what other decorators have set on the method: routes, guards, schedules. And its name, for stack traces. */
function copyProperties(from: AnyMethod, to: AnyMethod): void {
  for (const key of Reflect.ownKeys(from)) {
    const property = Reflect.getOwnPropertyDescriptor(from, key);
    if (property !== undefined && key !== "prototype") Object.defineProperty(to, key, property);
  }
  for (const key of Reflect.getOwnMetadataKeys(from) as unknown[]) {
    Reflect.defineMetadata(key, Reflect.getOwnMetadata(key, from), to);
  }
}
