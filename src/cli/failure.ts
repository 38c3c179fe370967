import { inspect } from "node:util";

/** The exit statuses, of sysexits(3) and of the shell. */
export const EXIT = {
  ok: 0,
  /** `doctor`: something endangers the exclusion. */
  danger: 1,
  usage: 64,
  unavailable: 69,
  lost: 70,
  defect: 71,
  /** The output cannot be written. */
  unwritten: 74,
  held: 75,
  notExecutable: 126,
  notFound: 127,
} as const;

/** What the messages of the library's errors begin with: it says what the rest says better. */
const OPENING = "The operation was unable to achieve a quorum during its retry window. ";

/** Ends the program with a status, and one line on stderr that says what to do. */
export class Failure extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

/** Makes the failure for wrong arguments. */
export function wrongCall(message: string): Failure {
  return new Failure(EXIT.usage, message);
}

/** Returns the failure that an error of the library stands for. Its code tells, since its class may have a copy. */
export function asFailure(thrown: unknown): Failure {
  if (thrown instanceof Failure) return thrown;
  if (codeOf(thrown) === "ERR_REDLOCK_INVALID_ARGUMENT") return wrongCall(messageOf(thrown));
  if (reasonOf(thrown) === "held") return new Failure(EXIT.held, messageOf(thrown));
  if (reasonOf(thrown) === undefined) throw thrown;
  return unavailable(messageOf(thrown).replace(OPENING, ""));
}

/** Makes the failure for too few nodes. */
export function unavailable(what: string): Failure {
  return new Failure(EXIT.unavailable, `${what} See what is wrong with the nodes: redlock doctor.`);
}

/** The `code` of an error, if it has one. */
export function codeOf(thrown: unknown): string | undefined {
  return propertyOf(thrown, "code");
}

/** The `reason` of an error of the library, if it is one. */
export function reasonOf(thrown: unknown): string | undefined {
  return propertyOf(thrown, "reason");
}

export function messageOf(thrown: unknown): string {
  return propertyOf(thrown, "message") ?? inspect(thrown);
}

function propertyOf(thrown: unknown, name: string): string | undefined {
  if (typeof thrown !== "object" || thrown === null) return undefined;
  const value: unknown = (thrown as Record<string, unknown>)[name];
  return typeof value === "string" ? value : undefined;
}

/** Prints one line on stderr. */
export function complain(message: string): void {
  process.stderr.write(`redlock: ${message.replace(/\s*\n\s*/g, " ")}\n`);
}
