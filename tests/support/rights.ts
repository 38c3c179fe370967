import { readFileSync } from "node:fs";
import { join } from "node:path";
import { defined } from "./nodes.js";
import { isAtLeast } from "./server-version.js";
import { testedServer } from "./tested-server.js";

const page = readFileSync(join(import.meta.dirname, "..", "..", "docs", "operations.md"), "utf8");
const line = defined(/^`(ACL SETUSER .*)`$/m.exec(page)?.[1]).split(" ");

/** Whether the server has rules for channels. Without them, a user with PUBLISH and SUBSCRIBE has every channel. */
export const hasChannelRules = isAtLeast(testedServer, 6, 2);

/** Leaves out the rules for channels if the server has none, as docs/operations.md says of Redis 6.0. */
export function rulesThatExist(rules: readonly string[]): string[] {
  const isOfChannels = (rule: string) => rule.startsWith("&") || rule.endsWith("channels");
  return rules.filter((rule) => hasChannelRules || !isOfChannels(rule));
}

/** The rules that docs/operations.md gives a Redis user: the least rights with which everything works. */
export const documentedRights: readonly string[] = rulesThatExist(
  line.slice(line.indexOf(">password") + 1),
);
