import { homedir } from "node:os";
import { join } from "node:path";

/** How a command's help names the folder. */
export const CACHE_IN_WORDS = "redlock-quorum in $XDG_CACHE_HOME, by default ~/.cache";

/** The folder in which servers and runtimes stay from one run to the next: outside the repository, the user's own. */
export const CACHE = join(
  process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"),
  "redlock-quorum",
);
