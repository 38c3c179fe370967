// Reads what a run wrote down. What cannot be read is a problem, not a crash.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import {
  type ClientRecord,
  guarded,
  type NemesisRecord,
  type RegisterLine,
  type RunFacts,
} from "../records.js";

export interface Log {
  readonly facts: RunFacts;
  readonly nemesis: readonly NemesisRecord[];
  /** By client, all its lives together. */
  readonly clients: readonly (readonly ClientRecord[])[];
  /** By client, in order. */
  readonly lives: readonly (readonly Life[])[];
  /** By key. */
  readonly registers: ReadonlyMap<string, readonly RegisterLine[]>;
  readonly problems: readonly string[];
}

/** One process. */
export interface Life {
  readonly client: number;
  readonly records: readonly ClientRecord[];
  /** When it was gone, where it was killed. */
  readonly diedUs: number | undefined;
}

type Fields = Record<string, "string" | "number" | "boolean" | "object">;

const CLIENT_FIELDS: Record<ClientRecord["type"], Fields> = {
  acquired: {
    tenure: "string",
    call: "string",
    keys: "object",
    askedUs: "number",
    remainingMs: "number",
  },
  valid: { tenure: "string", remainingMs: "number" },
  lost: { tenure: "string", call: "string", why: "string" },
  watched: { tenure: "string" },
  ended: { tenure: "string", how: "string" },
  refused: { call: "string", askedUs: "number", why: "string" },
  wrote: {
    tenure: "string",
    token: "string",
    checkedUs: "number",
    remainingMs: "number",
    accepted: "boolean",
  },
  "read refused": { tenure: "string" },
  "held back": { tenure: "string" },
  probed: { askedUs: "number" },
  stalled: { sinceUs: "number" },
  crashed: { why: "string" },
  done: {},
};
const NEMESIS_FIELDS: Record<NemesisRecord["type"], Fields> = {
  round: { name: "string" },
  began: { fault: "number", kind: "string", clients: "object" },
  healed: { fault: "number" },
  died: { client: "number" },
  "server stalled": { node: "number", sinceUs: "number" },
  stalled: { sinceUs: "number" },
};
const LINE_FIELDS: Fields = {
  atUs: "number",
  what: "string",
  token: "string",
  read: "string",
  accepted: "boolean",
};

export function readLog(folder: string): Log {
  const facts = JSON.parse(readFileSync(join(folder, "run.json"), "utf8")) as RunFacts;
  const problems: string[] = [];
  const present = new Set(readdirSync(folder));
  const lines = <T>(name: string, guard: (value: unknown) => value is T): T[] => {
    if (present.has(name)) return readLines(folder, name, guard, problems);
    problems.push(`${name} is missing`);
    return [];
  };
  const isClientRecord = (value: unknown): value is ClientRecord => isRecord(value, CLIENT_FIELDS);
  const isNemesisRecord = (value: unknown): value is NemesisRecord =>
    isRecord(value, NEMESIS_FIELDS);
  const isLine = (value: unknown): value is RegisterLine => hasFields(value, LINE_FIELDS);
  const nemesis = lines("nemesis.jsonl", isNemesisRecord);
  const lives = Array.from({ length: facts.clientCount }, (_, client) => {
    const deaths = nemesis.flatMap((record) =>
      record.type === "died" && record.client === client ? [record.atUs] : [],
    );
    return [...deaths, undefined].map((diedUs, life): Life => {
      const records = lines(`client-${client}-${life}.jsonl`, isClientRecord);
      return { client, records, diedUs };
    });
  });
  return {
    facts,
    nemesis,
    clients: lives.map((own) => own.flatMap(({ records }) => records)),
    lives,
    registers: new Map(guarded(facts).map((key) => [key, lines(`register-${key}.jsonl`, isLine)])),
    problems,
  };
}

function readLines<T>(
  folder: string,
  name: string,
  guard: (value: unknown) => value is T,
  problems: string[],
): T[] {
  const entries: T[] = [];
  for (const [index, line] of readFileSync(join(folder, name), "utf8").split("\n").entries()) {
    if (line === "") continue;
    const entry = parse(line);
    if (guard(entry)) entries.push(entry);
    else problems.push(`${name}:${index + 1} cannot be read: ${line.slice(0, 80)}`);
  }
  return entries;
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

function isRecord(value: unknown, kinds: Record<string, Fields>): boolean {
  if (!hasFields(value, { type: "string", atUs: "number" })) return false;
  const fields = kinds[(value as { type: string }).type];
  return fields !== undefined && hasFields(value, fields);
}

function hasFields(value: unknown, fields: Fields): boolean {
  if (typeof value !== "object" || value === null) return false;
  const record = value as Record<string, unknown>;
  return Object.entries(fields).every(([name, kind]) => typeof record[name] === kind);
}
