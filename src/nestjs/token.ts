import { Inject } from "@nestjs/common";
import { Redlock } from "../redlock.js";

/** What Nest's container knows a Redlock by: the class itself, or a text for a Redlock with a name. */
export type RedlockToken = typeof Redlock | string;

/**
 * Returns the token of the Redlock with this name, or of the one without a name. Use it to replace the Redlock in a test.
 *
 * @example
 * ```ts
 * builder.overrideProvider(getRedlockToken("billing")).useValue(stub);
 * ```
 */
export function getRedlockToken(name?: string): RedlockToken {
  return name === undefined ? Redlock : `Redlock:${name}`;
}

/**
 * Injects the Redlock with this name. A Redlock without a name needs no decorator: its type is its token.
 *
 * @example
 * ```ts
 * constructor(@InjectRedlock("billing") private readonly redlock: Redlock) {}
 * ```
 */
export function InjectRedlock(name?: string): PropertyDecorator & ParameterDecorator {
  return Inject(getRedlockToken(name));
}
