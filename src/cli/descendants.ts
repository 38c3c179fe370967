import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

/** A process of this machine. */
interface Process {
  readonly parent: number;
  /** When it started, which tells it from a later process with the same id. */
  readonly start: string;
}

/** The processes that a process has started, and those that they have, in whatever process group they are. */
export class Descendants {
  /** When each of those that were found started. One whose parent has ended is no longer found as a descendant. */
  readonly #found = new Map<number, string>();

  /** Looks for those of the process with this id, and returns all that were found by now, and have not ended. */
  of(root: number): readonly number[] {
    const all = processes();
    for (const [pid, start] of this.#found) {
      if (all.get(pid)?.start !== start) this.#found.delete(pid);
    }
    for (let count = -1; count < this.#found.size;) {
      count = this.#found.size;
      for (const [pid, { parent, start }] of all) {
        if (parent === root || this.#found.has(parent)) this.#found.set(pid, start);
      }
    }
    return [...this.#found.keys()];
  }
}

/** By their ids. Linux tells without `ps`, which many images do not have. */
function processes(): Map<number, Process> {
  try {
    return process.platform === "linux" ? processesOfProc() : processesOfPs();
  } catch {
    // There is no /proc here, or no ps: what the command has started is then killed by its process group alone.
    return new Map();
  }
}

function processesOfProc(): Map<number, Process> {
  const all = new Map<number, Process>();
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    if (!(pid > 0)) continue;
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
      // Before these stands the name of the program, which may have spaces and parentheses.
      const fields = stat.slice(stat.lastIndexOf(")")).split(" ");
      all.set(pid, { parent: Number(fields[2]), start: fields[20] ?? "" });
    } catch {
      // It has ended since.
    }
  }
  return all;
}

function processesOfPs(): Map<number, Process> {
  const { stdout } = spawnSync("ps", ["-A", "-o", "pid=,ppid=,lstart="], { encoding: "latin1" });
  const all = new Map<number, Process>();
  for (const line of stdout.split("\n")) {
    const [pid, parent, ...start] = line.trim().split(/\s+/);
    all.set(Number(pid), { parent: Number(parent), start: start.join(" ") });
  }
  return all;
}
