import { ReplyError } from "./reply.js";

export function syntaxError(): ReplyError {
  return new ReplyError("ERR syntax error");
}

export function integer(text = ""): number {
  if (/^(?:0|-?[1-9]\d*)$/.test(text) && Math.abs(Number(text)) < 2 ** 63) return Number(text);
  throw new ReplyError("ERR value is not an integer or out of range");
}

export function float(text = "", message = "ERR value is not a valid float"): number {
  const infinity = /^([-+]?)inf(?:inity)?$/i.exec(text);
  if (infinity !== null) return infinity[1] === "-" ? -Infinity : Infinity;
  if (/^[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?$/i.test(text)) return Number(text);
  throw new ReplyError(message);
}
