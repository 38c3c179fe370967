import { hostname } from "node:os";

/** The longest owner, in characters of one byte each. It is sent to every node with each acquisition. */
export const LONGEST_OWNER = 200;

/** Printable ASCII without spaces: the owner is the last word of a lock's value. */
export const OWNER = /^[!-~]*$/;

/** Returns `hostname/pid`; `unknown/pid` if this process may not read its host's name, as under Deno without rights. */
function processName(): string {
  return `${hostNameOr("unknown")}/${process.pid}`;
}

function hostNameOr(substitute: string): string {
  try {
    return (
      hostname()
        .replace(/[^!-~]/g, "-")
        .slice(0, LONGEST_OWNER - 20) || substitute
    );
  } catch {
    return substitute;
  }
}

/** Who holds the locks of this process, unless the setting `owner` says otherwise. */
export const defaultOwner = processName();
