import type { Command } from "commander";
import { InvalidArgumentError } from "commander";
import type { Lock, Redlock } from "../index.js";
import { makeCommand } from "./command.js";
import { duration } from "./duration.js";
import { asFailure, complain, EXIT, Failure, wrongCall } from "./failure.js";
import { GuardedCommand } from "./guard.js";
import { connect, type NodeOptions, NODES_HELP, readConfig, withNodeOptions } from "./nodes.js";
import { checkPermits, permitCount } from "./permits.js";
import { Interrupted, Signals, statusOfSignal } from "./signals.js";
import { take } from "./take.js";

const USUAL_TTL_MS = 30_000;
/** SIGTERM comes this long before the end of the validity, at most. The extension has been tried several times then. */
const LONGEST_GRACE_MS = 5000;
const LEAST_TTL_MS = 1000;

interface RunOptions extends NodeOptions {
  readonly ttl?: number;
  /** False for --no-wait. */
  readonly wait?: number | boolean;
  readonly fencing?: boolean;
  readonly shared?: boolean;
  readonly permits?: number;
  readonly keep?: boolean;
  readonly grace?: number;
  readonly conflictExitCode?: number;
  readonly owner?: string;
}

const HELP = `
Acquires the lock on all the NAMEs, runs COMMAND, and releases the lock. Redlock
extends the lock while COMMAND runs. There is no shell: write sh -c '…' for one.

If the nodes do not extend the lock in time, COMMAND gets SIGTERM while the lock
is still valid, and SIGKILL just before it ends, as does all that it has
started. If a quorum of the nodes says that the lock is gone, COMMAND gets
SIGKILL at once.

SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on to COMMAND.
While there is none yet, the first four end the waiting.

Without --wait, redlock waits without limit while somebody holds the lock. It
gives up after 10 s in which no quorum of the nodes can grant a lock, or 60 s if
the nodes just do not reply.

For a job that several machines start at the same time: put the day into the
name and --keep the lock, or a machine whose clock is late runs a short job
again.
${NODES_HELP}

Environment of COMMAND:
  REDLOCK_RESOURCE  the NAMEs, one a line
  REDLOCK_VALUE     what the keys hold
  REDLOCK_FENCE     the fencing token, with --fencing: what COMMAND writes to
                    must refuse a token smaller than one that it has seen
  REDLOCK_PERMIT    which of the permits it has, from 0, with --permits: no two
                    that run have the same

Exit status: that of COMMAND; 128 + n if signal n ended it or the waiting; or
  64   wrong arguments
  69   no quorum of the nodes granted the lock
  70   the lock was lost while COMMAND ran, or was about to be
  75   somebody else holds the lock, or all permits are taken
  126  COMMAND cannot be executed
  127  there is no COMMAND

Examples:
  export REDLOCK_NODES=redis://10.0.0.1,redis://10.0.0.2,redis://10.0.0.3
  redlock run nightly-report -- /usr/local/bin/report --all
  redlock run --wait 3s --conflict-exit-code 0 cleanup -- sh -c 'rm -f /tmp/x*'
  redlock run --wait 10s --ttl 1m --fencing account:7 -- ./transfer.sh
  redlock run --permits 3 resize -- sh -c 'convert in.png "out-$REDLOCK_PERMIT"'
  redlock run --wait 3s --keep --ttl 1h "report:$(date +%F)" -- report`;

/** Makes `redlock run`. @param given what follows `--` on the command line */
export function runCommand(given: readonly string[]): Command {
  const command = makeCommand("run", "run a command while holding a lock")
    .description("Runs a command while holding a lock.")
    .usage("[options] NAME... -- COMMAND [ARG...]")
    .argument("<name...>")
    .option(
      "--ttl <time>",
      "when the servers free the lock after a crash (default: 30s, at least 1s)",
      duration,
    )
    .option("--wait <time>", "how long to wait for the lock at most", duration)
    .option("--no-wait", "try once")
    .option("--keep", "after status 0, leave the lock until its ttl has passed")
    .option("--shared", "read: others with --shared may run beside it, and nobody without")
    .option("--permits <n>", "let up to n run at once: the same n everywhere", permitCount)
    .option("--fencing", "take a fencing token: REDLOCK_FENCE")
    .option(
      "--grace <time>",
      "time from SIGTERM to the end of the lock (default: a sixth of the ttl, at most 5s)",
      duration,
    )
    .option("--conflict-exit-code <n>", "instead of 75, if somebody else holds the lock", exitCode)
    .option("--owner <text>", "who holds the lock, for others (default: host/pid)");
  return withNodeOptions(command)
    .addHelpText("after", HELP)
    .action(async (names: string[], options: RunOptions) => {
      process.exitCode = await run(names, given, options);
      // Closing the connections would release the lock.
      if (options.keep === true) process.exit();
    });
}

/** Returns the exit status. */
async function run(
  names: readonly string[],
  command: readonly string[],
  options: RunOptions,
): Promise<number> {
  if (command.length === 0) {
    throw wrongCall("There is no command. Write it after --: redlock run NAME -- COMMAND ARG...");
  }
  if (command[0] === "") throw wrongCall("The command is empty. Write its name after --.");
  const signals = new Signals();
  const config = readConfig(options);
  const ttlMs = options.ttl ?? config.ttl ?? USUAL_TTL_MS;
  if (ttlMs < LEAST_TTL_MS) {
    throw wrongCall(
      `The ttl is ${ttlMs} ms, too short to end a command in time. Give at least 1s.`,
    );
  }
  const graceMs = options.grace ?? Math.min(ttlMs / 6, LONGEST_GRACE_MS);
  if (graceMs > ttlMs / 3) {
    throw wrongCall("--grace is more than a third of the ttl. Give a longer --ttl, or less.");
  }
  const { wait, fencing = false, shared = false, permits, keep = false, owner } = options;
  if (fencing && shared) {
    throw wrongCall("--shared readers have no fencing token. Leave out --fencing or --shared.");
  }
  if (permits !== undefined) checkPermits(names, shared || fencing);
  const { conflictExitCode: heldStatus = EXIT.held } = options;
  const nodeTimeout = options.nodeTimeout ?? config.nodeTimeout ?? usualNodeTimeoutMs(ttlMs);
  const redlock = await connect(options, config, { fencing, owner, nodeTimeout }, names);
  let isKept = false;
  try {
    const waitMs = wait === false ? 0 : typeof wait === "number" ? wait : undefined;
    const lock = await take(
      redlock,
      { names, ttlMs, waitMs, shared, permits, heldStatus },
      signals,
    );
    const status = await runUnder(lock, graceMs, command, signals);
    isKept = keep && status === EXIT.ok;
    if (isKept) await keepOn(redlock, lock, ttlMs);
    else await giveBack(redlock, lock);
    return status;
  } catch (error) {
    if (error instanceof Interrupted) return statusOfSignal(error.signal);
    throw asFailure(error);
  } finally {
    // This releases a lock that is still held, too, as after a failure.
    if (!isKept) await redlock.quit();
  }
}

/** The connections are new, so that a node has longer than the library's default of 5 % of the ttl. */
function usualNodeTimeoutMs(ttlMs: number): number {
  return Math.min(1000, Math.round(ttlMs / 5));
}

/** Returns the exit status of the command. Throws a Failure if the lock was lost. */
async function runUnder(
  lock: Lock,
  graceMs: number,
  command: readonly string[],
  signals: Signals,
): Promise<number> {
  const guarded = new GuardedCommand(lock, graceMs, command, environmentFor(lock));
  signals.passOnTo((signal) => {
    guarded.pass(signal);
  });
  const { status, loss } = await guarded.ended();
  if (loss === undefined) return status;
  throw new Failure(
    EXIT.lost,
    `The lock was lost before ${command[0]} had ended, or was about to be. ${loss} Check what it has done, and run it again.`,
  );
}

function environmentFor(lock: Lock): NodeJS.ProcessEnv {
  // Without what a redlock that this one may run under has set for its own lock.
  const outer = Object.entries(process.env).filter(
    ([name]) => name !== "REDLOCK_FENCE" && name !== "REDLOCK_PERMIT",
  );
  return {
    ...Object.fromEntries(outer),
    REDLOCK_RESOURCE: lock.resources.join("\n"),
    REDLOCK_VALUE: lock.value,
    ...(lock.fence === undefined ? {} : { REDLOCK_FENCE: String(lock.fence) }),
    ...(lock.permit === undefined ? {} : { REDLOCK_PERMIT: String(lock.permit) }),
  };
}

/** Releases the lock. The command has ended, so that a failure does not change the exit status. */
async function giveBack(redlock: Redlock, lock: Lock): Promise<void> {
  try {
    await redlock.release(lock, { retryCount: 1 });
  } catch (error) {
    const why = asFailure(error).message;
    complain(`The lock was not released; it ends by itself within its ttl. ${why}`);
  }
}

/** Leaves the lock for its whole ttl from now on. */
async function keepOn(redlock: Redlock, lock: Lock, ttlMs: number): Promise<void> {
  try {
    await redlock.extend(lock, ttlMs, { retryCount: 1 });
  } catch (error) {
    const why = asFailure(error).message;
    complain(`The lock is kept, but ends before its ttl has passed. ${why}`);
  }
}

function exitCode(text: string): number {
  const number = /^\d+$/.test(text) ? Number(text) : NaN;
  if (number <= 255) return number;
  throw new InvalidArgumentError("Give a whole number from 0 to 255.");
}
