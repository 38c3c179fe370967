import { inList, inWords, isClosed } from "../errors.js";
import { type Lock, LockLostError, type RedlockAbortSignal } from "../lock.js";
import { noticeOnRead } from "../runtime/aborts.js";
import type { Link } from "../runtime/link.js";
import type { Instance } from "./instance.js";
import { type Extending, Keeper, MaxHoldReached } from "./keeper.js";
import type { Lease, LeaseListener } from "./lease.js";

/** What the library does for a lock beyond its calls: tells of its end, and extends it if it is to be kept. */
export class Handle implements LeaseListener {
  readonly lock: Lock;
  readonly #instance: Instance;
  readonly #lease: Lease;
  /** Its link among the held locks; undefined before it is held, and once it is not. */
  #link: Link<Handle> | undefined;
  #isPassedOn = false;
  #isKept = false;
  #keeper: Keeper | undefined;
  #controller: AbortController | undefined;
  #loss: LockLostError | undefined;

  constructor(instance: Instance, lease: Lease, makeLock: (handle: Handle) => Lock) {
    this.#instance = instance;
    this.#lease = lease;
    this.lock = makeLock(this);
    if (!lease.adopted) this.#link = instance.held.add(this);
    lease.listen(this);
  }

  /** Whether the lock is still held. Reading this notices its end. */
  get isHeld(): boolean {
    return this.#lease.open;
  }

  /** Whether the library extends the lock. */
  get isKept(): boolean {
    return this.#isKept;
  }

  /** The error that says how the lock was lost, if it was. Reading this notices a loss. */
  get loss(): LockLostError | undefined {
    return this.#lease.open ? undefined : this.#loss;
  }

  get signal(): RedlockAbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      noticeOnRead(this.#controller.signal, () => this.signal);
      this.watch();
    }
    // The event loop may have been blocked, so that no timer has noticed the end yet.
    const { loss } = this;
    if (loss !== undefined) this.#abort(loss);
    return this.#controller.signal;
  }

  /** Notices a loss in time from now on. */
  watch(): void {
    if (!this.#lease.open || this.#keeper !== undefined) return;
    const { watchAlarms, environment } = this.#instance;
    this.#keeper = new Keeper(this.#lease, watchAlarms, environment);
  }

  /** Extends the lock from now on until it is released or lost. */
  keep(extending: Extending): void {
    const { alarms, environment } = this.#instance;
    this.#isKept = true;
    this.#keeper?.stop();
    this.#keeper = new Keeper(this.#lease, alarms, environment, extending);
  }

  /** Notes that another process may adopt the lock: closing the Redlock then does not wait for it, nor release it. */
  passOn(): void {
    if (this.#isKept) return;
    this.#isPassedOn = true;
    this.#unlist();
  }

  onRenewed(): void {
    if (!this.#isPassedOn) this.#link ??= this.#instance.held.add(this);
    // A drain waits for the end of this lock, too, which was adopted after it had begun.
    if (this.#instance.draining.aborted) this.watch();
    this.#instance.announce("extended", () => ({ lock: this.lock }));
    this.#keeper?.wake();
  }

  onReleased(): void {
    this.#end();
    this.#instance.announce("released", () => ({ lock: this.lock }));
  }

  onLost(): void {
    const cause = this.#lease.lossCause ?? this.#keeper?.failure;
    this.#end();
    const { lock } = this;
    const loss = new LockLostError(
      `The lock on ${inList(lock.resources)}, with a ttl of ${inWords(lock.ttl)}, was lost: ${whyLost(cause, this.#isKept)}`,
      lock,
      cause && { cause },
      cause !== undefined && isClosed(cause) ? "closed" : "expired",
    );
    this.#loss = loss;
    this.#abort(loss);
    this.#instance.announce("lost", () => ({ lock, error: loss, isPassedOn: this.#isPassedOn }));
  }

  #abort(loss: LockLostError): void {
    const signal: RedlockAbortSignal | undefined = this.#controller?.signal;
    // To abort may be to read `aborted`, as in Deno.
    if (signal === undefined || signal.error !== undefined) return;
    signal.error = loss;
    this.#controller?.abort(loss);
  }

  #end(): void {
    this.#keeper?.stop();
    // It keeps the asynchronous context of the call, and a signal may be kept for long.
    this.#keeper = undefined;
    this.#unlist();
  }

  #unlist(): void {
    if (this.#link !== undefined) this.#instance.held.remove(this.#link);
    this.#link = undefined;
  }
}

function whyLost(cause: Error | undefined, isKept: boolean): string {
  if (cause === undefined && !isKept) {
    return "its validity ended before it was released. Call extend() in time, or acquire it with autoExtend: true.";
  }
  if (cause === undefined) {
    return "its validity ended before it was extended; was the event loop blocked, or the machine suspended?";
  }
  if (isClosed(cause)) {
    return (
      "its Redlock was closed before it was released. Let what runs under its locks end before quit() or disposal, " +
      "or give it time: quit({ drain: 5000 })."
    );
  }
  if (cause instanceof MaxHoldReached) return cause.message;
  return `it could not be extended in time. ${cause.message}`;
}
