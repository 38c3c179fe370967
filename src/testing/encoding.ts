import type { Reply } from "./redis/reply.js";

// The servers count and compare bytes. A string there has one character a byte.

const NOT_ASCII = /[^\0-\x7f]/;

/** Returns an argument of a command as the server reads it. */
export function toServer(argument: string | number | Buffer): string {
  if (typeof argument === "number") return String(argument);
  if (typeof argument !== "string") return argument.toString("latin1");
  return NOT_ASCII.test(argument) ? Buffer.from(argument).toString("latin1") : argument;
}

/** Returns a reply as a client of Redis gives it. */
export function fromServer(reply: Reply): Reply {
  if (typeof reply === "string") {
    return NOT_ASCII.test(reply) ? Buffer.from(reply, "latin1").toString() : reply;
  }
  return Array.isArray(reply) ? reply.map(fromServer) : reply;
}
