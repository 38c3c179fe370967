import { readFileSync } from "node:fs";
import { join } from "node:path";
import { defined } from "./nodes.js";

const page = readFileSync(join(import.meta.dirname, "..", "..", "docs", "operations.md"), "utf8");
const line = defined(/^`(ACL SETUSER .*)`$/m.exec(page)?.[1]).split(" ");

/** The rules that docs/operations.md gives a Redis user: the least rights with which everything works. */
export const documentedRights: readonly string[] = line.slice(line.indexOf(">password") + 1);
