import pTimeout from "p-timeout";
import { asError } from "../errors.js";
import { partsOf } from "../lock.js";
import type { Node } from "../nodes/node.js";
import { endOfTurn, pTimeoutTimers, sleep } from "../runtime/environment.js";
import type { Handle } from "./handle.js";
import { closedError, type Ending, type Instance } from "./instance.js";
import { askRelease, Release, releaseSettings } from "./release.js";

/** How to close. */
export interface Closing {
  /** The nodes whose connections are closed. */
  readonly nodes: readonly Node[];
  /** How long a connection waits for its last replies. */
  readonly timeoutMs: number;
  /** How long the locks that are held may stay; 0 for no drain. */
  readonly drainMs: number;
}

/**
 * Ends everything that an instance does, then closes the connections to `nodes`: each once it has no command in flight,
 * or after `timeoutMs`. With a drain, no new lock is given meanwhile, and those that are held have time to be released.
 */
export async function close(
  instance: Instance,
  { draining, closing }: Ending,
  { nodes, timeoutMs, drainMs }: Closing,
): Promise<void> {
  const { queues, undecided, held, environment } = instance;
  const error = closedError();
  draining.abort(error);
  for (const round of undecided.items()) round.cut();
  if (drainMs > 0) await drain(instance, drainMs);
  closing.abort(error);
  queues.close();
  for (const node of instance.nodes) node.forgetPending();
  // Another process may have adopted a lock that nothing here extends.
  for (const handle of held.all()) if (drainMs > 0 || handle.isKept) end(instance, handle);
  // Calls that attempt, wait or run a routine send their releases before the connections close.
  await endOfTurn(environment);
  const customTimers = pTimeoutTimers(environment);
  await Promise.all(
    nodes.map((node) =>
      pTimeout(node.quit(), { milliseconds: timeoutMs, customTimers }).catch(() => {
        node.disconnect();
      }),
    ),
  );
}

/** Waits until no lock is held, or another call closes the instance, but at most `mostMs`. */
async function drain({ held, closing, environment }: Instance, mostMs: number): Promise<void> {
  for (const handle of held.all()) handle.watch();
  const wakeWhenEmpty = (wake: () => void): void => {
    void held.empty().then(wake);
  };
  await sleep(environment, mostMs, [closing], wakeWhenEmpty).catch(() => undefined);
}

/** Releases a lock whose Redlock closes. The release is on its way before the holder learns of the loss. */
function end(instance: Instance, { lock }: Handle): void {
  const parts = partsOf(lock, "quit");
  if (!parts.lease.open) return;
  askRelease(new Release(instance, lock, releaseSettings(instance, parts)));
  parts.lease.lose(asError(instance.closing.reason));
}
