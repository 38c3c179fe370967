import { isDeepStrictEqual } from "node:util";
import type { Lock } from "../../src/lock.js";
import type { Host } from "../virtual-world/host.js";
import type { Library } from "../virtual-world/library.js";
import type { Link, LinkObserver } from "../virtual-world/link.js";
import type { SimulatedNode } from "../virtual-world/node.js";
import { type Question, questionsIn, repliesIn } from "../virtual-world/questions.js";
import {
  checkReading,
  checkTogether,
  isAwaited,
  isValue,
  readersOf,
  watchQueue,
} from "./readers.js";
import { isBefore, reservationIn } from "./tickets.js";
import { Violation } from "./violation.js";
import type { Entry } from "../../src/testing/redis/keyspace.js";
import type { RedisModel } from "../../src/testing/redis/model.js";
import { type Reply, ReplyError } from "../../src/testing/redis/reply.js";
import type { Actor, World } from "../virtual-world/world.js";

/** A lock that a program holds, or once held. */
export interface Tracked {
  readonly host: Host;
  readonly lock: Lock;
  readonly resources: readonly string[];
  readonly adopted: boolean;
  /** The node's time to answer: at most, and at least. */
  nodeTimeoutMs: number;
  surelyMs: number;
  /** By the host's clocks; 0 where it was never held. */
  monotonicEndMs: number;
  wallEndMs: number;
  /** It was seen to be over: lost, or released. */
  ended: boolean;
  /** Another host's program works under it now. */
  handedOver: boolean;
  /** The program gave it back. */
  released: boolean;
  /** Read from the lock, or of a `using` whose routine still runs: it must tell of a loss. */
  signal: AbortSignal | undefined;
  /** Of a lock that was released while it was held: it must never abort. */
  releasedSignal: AbortSignal | undefined;
  /** The library extends it. */
  isKept: boolean;
  maxHoldMs: number | undefined;
  /** When the program itself was about to extend it, by the host's monotonic clock. */
  readonly extendingMs: { readonly fromMs: number; untilMs: number }[];
  /** When it was seen to be over, by the host's monotonic clock. */
  endedMs: number | undefined;
  /** `host.pausedMs` when the end was last moved. */
  pausedMs: number;
  /** When it was first looked at, by the host's monotonic clock: one paused until then may have lost it already. */
  readonly seenMs: number;
}

/** One command of the library's to one node, and its answer. */
interface Ballot {
  readonly kind: "acquire" | "confirm" | "extend" | "release";
  readonly host: Host;
  readonly node: SimulatedNode;
  /** Whether the connection that it was sent on is still open. */
  readonly isConnected: () => boolean;
  readonly ttlMs: number;
  /** What was left of the lock's validity by both clocks; 0 or less where it was not held. */
  readonly leftMs: number;
  readonly sentMonotonicMs: number;
  readonly sentWallMs: number;
  /** How long the host had been in the turn in which it sent this: it may have been paused there. */
  readonly turnMs: number;
  /** The host's turn in which all nodes were asked; undefined for the payment of an owed release. */
  readonly round: number | undefined;
  /** The node did not know the script, so that it is sent again in full. */
  unknownScript: boolean;
  answeredMs: number | undefined;
  /** When it was read, the host had been at work since: no timer of its could fire. */
  restedMs: number;
  answeredTurn: number;
  yes: boolean;
  /** The answer, as text. */
  reply: string;
  /** The fencing token that it was about. */
  readonly token: string | undefined;
  sameEpoch: boolean;
}

/** A fenced lock that a program was given. */
interface Fenced {
  readonly value: string;
  readonly token: number;
  /** When the first node was asked for it. */
  readonly startMs: number;
}

/** Where the holder of a permit is stored, of a resource whose name has no braces. */
export function slotKey(resource: string, permit: number | undefined): string {
  return `{${resource}}:redlock:permit:${permit}`;
}

const LONG_AGO_MS = -1e15;
/** A timer is up to 1 ms late, and rounded up. */
const TIMER_SLACK_MS = 3;
/** What a lock may lose between the library's last look at it and its caller's first. */
const HAND_OVER_MS = 1;
const DAY_MS = 86_400_000;
/** A step of the wall clock is noticed within this. */
const LONGEST_CHECK_MS = 1000;

/**
 * What must hold, looked at after every event.
 *
 * A client believes in a lock as long as `lock.valid` would say true at this moment. The end of that is
 * read from the library with the clocks held still, so that the look changes nothing: `remaining` at
 * monotonic 0 and wall long ago gives the end by the monotonic clock, and the other way round. A paused
 * client is taken at its clocks' word, too: it might go on at any moment. A dead one believes nothing.
 */
export class Checker implements LinkObserver {
  readonly tracked: Tracked[] = [];
  /** Told of each call of several operations. */
  onBatch: (() => void) | undefined;
  /** Whether nodes that were started again may be held back: their votes to acquire decide nothing surely. */
  isGuarded = false;
  /** All of them, where an operator may end locks. */
  nodes: readonly SimulatedNode[] = [];
  readonly #world: World;
  readonly #library: Library;
  readonly #nodeCount: number;
  readonly #quorum: number;
  #broken: Error | undefined;
  readonly #ballots = new Map<string, Ballot[]>();
  /** Who held each resource, in order: one writer, or readers together. */
  readonly #holders = new Map<
    string,
    { readonly shared: boolean; readonly values: Set<string> }[]
  >();
  /** The fenced locks on each resource, in the order in which they were given. */
  readonly #fenced = new Map<string, Fenced[]>();
  readonly #startMs = new Map<string, number>();
  #lastLossMs = -Infinity;
  /** For each value of which an operator deleted a key: the key and the node, each time. */
  readonly #forced = new Map<string, Set<string>>();
  /** Those of them whose holders may not hold their locks any more, and need not know it. */
  readonly #excused = new Set<string>();
  /** Locks that an extension was refused for on a node in this turn. */
  #refused: Tracked[] = [];

  constructor(world: World, library: Library, nodeCount: number) {
    this.#world = world;
    this.#library = library;
    this.#nodeCount = nodeCount;
    this.#quorum = Math.floor(nodeCount / 2) + 1;
  }

  track(
    host: Host,
    lock: Lock,
    adopted: boolean,
    { mostMs, leastMs }: { readonly mostMs: number; readonly leastMs: number },
    isLossTold = false,
  ): Tracked {
    const tracked: Tracked = {
      host,
      lock,
      // A permit is a lock on the key of its slot.
      resources:
        lock.permit === undefined
          ? lock.resources
          : lock.resources.map((name) => slotKey(name, lock.permit)),
      adopted,
      nodeTimeoutMs: mostMs,
      surelyMs: leastMs,
      monotonicEndMs: 0,
      wallEndMs: 0,
      ended: false,
      released: false,
      handedOver: false,
      signal: undefined,
      releasedSignal: undefined,
      isKept: false,
      maxHoldMs: undefined,
      extendingMs: [],
      endedMs: undefined,
      pausedMs: host.turnPausedMs,
      seenMs: host.monotonicAt(host.timeMs),
    };
    this.tracked.push(tracked);
    this.refresh(tracked);
    const wasPaused = host.pausedMs > host.turnPausedMs;
    const nowMs = host.monotonicAt(host.timeMs);
    // The library may have seen the end between its last look and this one, within the turn.
    const endMs = tracked.monotonicEndMs || this.#latestEndMs(lock, host);
    const isOver = endMs < nowMs - HAND_OVER_MS;
    if (!adopted && isOver && !wasPaused && !isLossTold) {
      throw new Violation("validity", `${host.name} was given ${name(tracked)} without validity`);
    }
    if (adopted && tracked.monotonicEndMs !== 0) {
      throw new Violation("adoption", `${host.name} trusts ${name(tracked)} before it extended it`);
    }
    if (!adopted) this.#checkToken(tracked);
    return tracked;
  }

  /** When the validity ends, by the client's monotonic clock, of a lock whose acquisition began when it first asked. */
  #latestEndMs(lock: Lock, host: Host): number {
    const sentMs = this.#of(lock.value, host).map(({ sentMonotonicMs }) => sentMonotonicMs);
    return Math.min(...sentMs) + lock.ttl - driftMsOf(lock);
  }

  /** Whether the node's last answer to an acquisition under this value was no: it held another's key, of one resource at least. */
  wasRefused(value: string, host: Host, node: SimulatedNode): boolean {
    const answered = this.#of(value, host).filter(
      (ballot) =>
        ballot.kind === "acquire" && ballot.node === node && ballot.answeredMs !== undefined,
    );
    const lastTurn = answered.at(-1)?.answeredTurn;
    return answered.some(({ yes, answeredTurn }) => !yes && answeredTurn === lastTurn);
  }

  /** When the first node was asked for this value, in true time. */
  startMs(value: string): number {
    return this.#startMs.get(value) ?? 0;
  }

  /** A node came back without its data, and so without its fences. */
  onDataLoss(): void {
    this.#lastLossMs = this.#world.nowMs;
  }

  /** A later lock has the larger token, unless a node lost the earlier one's. */
  #checkToken(tracked: Tracked): void {
    const { value, fence: token } = tracked.lock;
    // Another may have come and gone, while the replies were under way to one whose lock an operator ended.
    if (token === undefined || this.#excused.has(value)) return;
    const startMs = this.#startMs.get(value) ?? 0;
    for (const resource of tracked.resources) {
      const earlier = this.#fenced.get(resource) ?? [];
      for (const other of earlier) {
        if (token > other.token || other.startMs <= this.#lastLossMs) continue;
        throw new Violation(
          "tokens only grow",
          `${name(tracked)} has the token ${token}, after ${other.value} had ${other.token}`,
        );
      }
      this.#fenced.set(resource, [...earlier, { value, token, startMs }]);
    }
  }

  /** Before a turn: whether a loss should have been told before. */
  before(actor: Actor): void {
    for (const tracked of this.tracked) {
      if (tracked.host === actor) this.checkTold(tracked);
    }
  }

  /** Notes a violation found in a function that the library called, which may make something else of the error. */
  break(error: Error): void {
    this.#broken ??= error;
  }

  /** After a turn, or a step of a clock. */
  after(actor: Actor | undefined): void {
    if (this.#broken !== undefined) throw this.#broken;
    if (actor === undefined) return;
    for (const tracked of this.tracked) {
      if (tracked.host === actor) this.refresh(tracked);
      if (tracked.host === actor) this.#checkSignal(tracked);
    }
    for (const tracked of this.#refused.splice(0)) this.#checkToldOfRefusal(tracked);
    this.checkHolders();
  }

  believes({ host, ended, handedOver, monotonicEndMs, wallEndMs }: Tracked): boolean {
    const { nowMs } = this.#world;
    return (
      !host.dead &&
      !ended &&
      !handedOver &&
      host.monotonicAt(nowMs) < monotonicEndMs &&
      host.wallAt(nowMs) < wallEndMs
    );
  }

  checkHolders(): void {
    for (const tracked of this.tracked) {
      if (tracked.monotonicEndMs === 0 || !this.believes(tracked)) continue;
      // An operator broke the exclusion on purpose, for this holder and for nobody else.
      if (this.#excused.has(tracked.lock.value)) continue;
      for (const resource of tracked.resources) this.#checkHolder(resource, tracked);
    }
  }

  #checkHolder(resource: string, tracked: Tracked): void {
    const { value, shared } = tracked.lock;
    for (const other of this.tracked) {
      if (other.lock.value === value || !other.resources.includes(resource)) continue;
      if (shared && other.lock.shared) continue;
      if (this.believes(other) && !this.#excused.has(other.lock.value)) {
        throw new Violation(
          "exclusion",
          `${tracked.host.name} and ${other.host.name} both hold ${resource}, as ${value} and ${other.lock.value}`,
        );
      }
    }
    let holders = this.#holders.get(resource);
    if (holders === undefined) this.#holders.set(resource, (holders = []));
    const last = holders.at(-1);
    if (last?.values.has(value) === true) return;
    if (holders.some(({ values }) => values.has(value))) {
      throw new Violation(
        "continuity",
        `${[...(last?.values ?? [])].join()} held ${resource} in the middle of the tenure of ${value}`,
      );
    }
    if (shared && last?.shared === true) last.values.add(value);
    else holders.push({ shared, values: new Set([value]) });
  }

  /** As a leader's routine begins: no other's runs for the same, or it has been told to stop. */
  checkAlone(tracked: Tracked): void {
    for (const other of this.tracked) {
      const isOfOther =
        other !== tracked && other.resources.some((name) => tracked.resources.includes(name));
      if (!isOfOther || other.host.dead) continue;
      if (other.signal === undefined || isTold(other.signal)) continue;
      if (this.#excused.has(other.lock.value) || this.#excused.has(tracked.lock.value)) continue;
      if (this.believes(other)) {
        throw new Violation(
          "one leader",
          `${tracked.host.name} leads ${tracked.resources.join()} beside ${other.host.name}, as ${tracked.lock.value} and ${other.lock.value}`,
        );
      }
      this.checkTold(other);
    }
  }

  /** A loss is told no later than the validity ends, but for pauses; a step of the wall clock within a second. */
  checkTold(tracked: Tracked): void {
    const { host, signal, ended, monotonicEndMs, wallEndMs } = tracked;
    if (signal === undefined || isTold(signal) || ended) return;
    const { nowMs } = this.#world;
    // The host's clock may run faster than true time.
    const pausesMs = 1.01 * (host.pausedMs - tracked.pausedMs);
    // A timer that comes due in a turn waits for its end.
    const restedMs = Math.min(nowMs, host.busySinceMs);
    const wasNeverSeenValid = monotonicEndMs === 0;
    const sinceEndMs =
      host.monotonicAt(restedMs) -
      (wasNeverSeenValid ? tracked.seenMs + TIMER_SLACK_MS : monotonicEndMs);
    const sinceWallEndMs = wasNeverSeenValid ? sinceEndMs : host.wallAt(restedMs) - wallEndMs;
    const sinceStepMs = nowMs - host.lastStepMs;
    const isStepNoticed = sinceStepMs > 1.01 * LONGEST_CHECK_MS + TIMER_SLACK_MS + pausesMs;
    const wallSlackMs = isStepNoticed ? 1 + pausesMs : Infinity;
    const isLate = sinceEndMs > pausesMs || sinceWallEndMs > wallSlackMs;
    if (isLate) {
      throw new Violation(
        "loss in time",
        `${host.name} was not told that ${name(tracked)} is lost, ${Math.max(sinceEndMs, sinceWallEndMs).toFixed(1)} ms after its end`,
      );
    }
  }

  refresh(tracked: Tracked): void {
    const { host, lock } = tracked;
    const endMs = host.readAt({ monotonicMs: 0, wallMs: LONG_AGO_MS }, () => lock.remaining);
    if (endMs === 0) {
      if (tracked.monotonicEndMs !== 0) tracked.ended = true;
      if (tracked.ended) tracked.endedMs ??= host.monotonicAt(host.timeMs);
      return;
    }
    if (tracked.ended) {
      throw new Violation("loss is final", `${host.name} has ${name(tracked)} again after its end`);
    }
    const wallEndMs = host.readAt({ monotonicMs: LONG_AGO_MS, wallMs: 0 }, () => lock.remaining);
    if (endMs === tracked.monotonicEndMs && wallEndMs === tracked.wallEndMs) return;
    const isNew = tracked.monotonicEndMs === 0 && !tracked.adopted;
    if (
      tracked.monotonicEndMs !== 0 &&
      (host.monotonicAt(host.turnStartMs) > tracked.monotonicEndMs ||
        host.wallAt(host.turnStartMs) > tracked.wallEndMs)
    ) {
      throw new Violation("continuity", `${host.name} renewed ${name(tracked)} after its end`);
    }
    tracked.monotonicEndMs = endMs;
    tracked.wallEndMs = wallEndMs;
    tracked.pausedMs = host.turnPausedMs;
    this.#checkTerm(tracked, isNew ? "acquire" : "extend");
    if (!isNew) this.#checkMaxHold(tracked);
    if (this.#excused.has(lock.value)) this.#readmit(tracked);
  }

  /** No extension of the library's begins later than maxHold after the acquisition. */
  #checkMaxHold(tracked: Tracked): void {
    const { host, lock, maxHoldMs, monotonicEndMs, seenMs, extendingMs } = tracked;
    if (maxHoldMs === undefined) return;
    const beganMs = monotonicEndMs - lock.ttl + driftMsOf(lock);
    const isItsOwn = extendingMs.some(
      ({ fromMs, untilMs }) => beganMs >= fromMs - 1e-6 && beganMs <= untilMs,
    );
    const workMs = 1.01 * (host.pausedSince(seenMs + maxHoldMs) + host.longestTurnMs) + 1e-3;
    if (!isItsOwn && beganMs > seenMs + maxHoldMs + workMs) {
      throw new Violation(
        "maxHold",
        `${host.name} began to extend ${name(tracked)} ${(beganMs - seenMs).toFixed(1)} ms after it had it, ` +
          `with a maxHold of ${maxHoldMs} ms`,
      );
    }
  }

  /** A lock that an operator ended in part, and that a quorum has kept while nobody else held it, is held as any other. */
  #readmit(tracked: Tracked): void {
    const { resources, lock } = tracked;
    const { value, shared } = lock;
    const holding = this.nodes.filter(({ redis, clockMs }) =>
      resources.every((key) =>
        shared
          ? readersOf(redis, clockMs, key, `{${key}}:redlock:shared`)?.has(value)
          : redis.peek(key, clockMs)?.value === value,
      ),
    );
    const isAlone = resources.every((resource) => {
      const holders = this.#holders.get(resource) ?? [];
      return (
        (holders.at(-1)?.values.has(value) === true ||
          !holders.some(({ values }) => values.has(value))) &&
        !this.tracked.some(
          (other) =>
            other.lock.value !== value &&
            other.resources.includes(resource) &&
            !(shared && other.lock.shared) &&
            this.believes(other),
        )
      );
    });
    if (holding.length >= this.#quorum && isAlone) this.#excused.delete(value);
  }

  /** Whether an operator deleted a key of this value, on this node or on any. */
  wasForced(value: string, key?: string, node?: string): boolean {
    const places = this.#forced.get(value);
    return key === undefined ? places !== undefined : places?.has(`${key} on ${node}`) === true;
  }

  /** The signal aborts with the loss of the lock, and not with its release. */
  #checkSignal({ host, lock, released, ended, signal, releasedSignal }: Tracked): void {
    if (releasedSignal !== undefined && isTold(releasedSignal)) {
      throw new Violation(
        "a release is no loss",
        `the signal of ${lock.value} aborted on ${host.name}, though it was released`,
      );
    }
    if (ended && !released && signal !== undefined && !isTold(signal)) {
      throw new Violation(
        "loss in time",
        `${host.name} lost ${lock.value}, and the lock's signal did not abort`,
      );
    }
  }

  /** A holder is told at once by an extension that so many nodes refuse that no quorum can hold the lock. */
  #checkToldOfRefusal(tracked: Tracked): void {
    const { host, lock, surelyMs } = tracked;
    if (tracked.ended || tracked.monotonicEndMs === 0) return;
    const extensions = this.#of(lock.value, host).filter(({ kind }) => kind === "extend");
    const last = extensions.findLast(({ answeredTurn }) => answeredTurn === host.turn);
    const inRound = extensions.filter(
      ({ round, ttlMs }) => round === last?.round && ttlMs === last?.ttlMs,
    );
    // What else was a vote against may have decided before, when the others had not refused yet.
    if (new Set(inRound.map(({ node }) => node)).size < this.#nodeCount) return;
    const answered = inRound.filter(({ answeredMs }) => answeredMs !== undefined);
    // A node that did not know the script was asked again, within the time of the first question. The time of the attempt
    // began in that turn.
    const startMs = Math.min(
      ...inRound.map(({ sentMonotonicMs, turnMs }) => sentMonotonicMs - turnMs),
    );
    const leftMs = Math.min(...inRound.map((ballot) => ballot.leftMs));
    const timeMs = Math.min(surelyMs, leftMs / 3) - TIMER_SLACK_MS;
    const isPlain = answered.every(
      ({ reply, yes, sameEpoch, answeredMs = Infinity }) =>
        sameEpoch && (yes || reply === "0") && answeredMs - startMs < timeMs,
    );
    const refusals = answered.filter(({ yes }) => !yes);
    const isWhole = inRound.every(({ isConnected }) => isConnected());
    if (isPlain && isWhole && refusals.length > this.#nodeCount - this.#quorum) {
      throw new Violation(
        "told at the next extension",
        `${host.name} still holds ${name(tracked)}, which ${refusals.map(({ node }) => node.name).join(", ")} held no longer`,
      );
    }
  }

  /** Quorum and validity: a majority's yes, in time, to commands sent after the beginning of the term. */
  #checkTerm(tracked: Tracked, kind: Ballot["kind"]): void {
    const { host, lock, monotonicEndMs, wallEndMs } = tracked;
    const driftMs = driftMsOf(lock);
    const sinceMs = monotonicEndMs - lock.ttl + driftMs - 1e-6;
    const sinceWallMs = wallEndMs - lock.ttl + driftMs;
    const ballots = this.#of(lock.value, host).filter((ballot) => ballot.kind === kind);
    const inTerm = ballots.filter(
      ({ sentMonotonicMs, sentWallMs }) =>
        sentMonotonicMs >= sinceMs && (sentWallMs >= sinceWallMs || host.lastStepMs > 0),
    );
    if (kind === "acquire" && inTerm.length < ballots.length) {
      throw new Violation(
        "validity",
        `${name(tracked)} is valid for longer than its ttl less the drift, counted from the first command`,
      );
    }
    const workMs = (host.pausedSince(sinceMs) + host.longestTurnMs) * 1.01;
    const askedMs = Math.min(...inTerm.map(({ sentMonotonicMs }) => sentMonotonicMs)) - sinceMs;
    if (kind === "confirm" && askedMs > tracked.nodeTimeoutMs + workMs) {
      throw new Violation(
        "quorum",
        `${name(tracked)} was to be confirmed after the nodes' time was over`,
      );
    }
    const votes = inTerm.filter(
      ({ yes, sameEpoch, restedMs }) =>
        yes && sameEpoch && restedMs - sinceMs <= tracked.nodeTimeoutMs + TIMER_SLACK_MS + workMs,
    );
    if (new Set(votes.map(({ node }) => node)).size < this.#quorum) {
      throw new Violation(
        "quorum",
        `${name(tracked)} had no ${this.#quorum} votes to ${kind} it within ${tracked.nodeTimeoutMs} ms in its present term`,
      );
    }
    if (kind === "acquire" && lock.fence !== undefined) {
      const isConfirmed = this.#of(lock.value, host).some((ballot) => ballot.kind === "confirm");
      if (!isConfirmed) this.#checkAccepted(tracked, votes);
      if (isConfirmed) this.#checkTerm(tracked, "confirm");
      if (isConfirmed) return;
    }
    if (kind === "confirm") this.#checkAccepted(tracked, votes);
    // The round that began the term: a call and the library may both extend a lock, one while the other waits for answers.
    // After a pause two rounds may begin at one moment.
    const isOwn = ({ ttlMs }: Ballot): boolean => kind !== "extend" || ttlMs === lock.ttl;
    const own = inTerm.filter(isOwn);
    const firstMs = Math.min(...own.map(({ sentMonotonicMs }) => sentMonotonicMs));
    const began = own.filter(({ sentMonotonicMs }) => sentMonotonicMs === firstMs);
    const last = Math.max(...began.map(({ round = 0 }) => round));
    const earlier = votes.filter(isOwn).filter(
      ({ answeredMs = Infinity, answeredTurn, round, node }) =>
        // One that restarted may be held back, and its vote not count.
        (kind === "extend" || !(this.isGuarded && node.incarnation > 1)) &&
        (kind === "acquire" || round === last) &&
        answeredTurn < host.turn &&
        answeredMs - sinceMs < tracked.surelyMs,
    );
    this.#checkMajoritySpeed(earlier, this.#quorum, `to ${kind} ${name(tracked)}`);
  }

  /** Of the nodes that hold the lock, a majority accepted its token. */
  #checkAccepted(tracked: Tracked, votes: readonly Ballot[]): void {
    const accepted = votes.filter(
      ({ reply, token }) => reply === "accepted" && token === String(tracked.lock.fence),
    );
    if (new Set(accepted.map(({ node }) => node)).size < this.#quorum) {
      throw new Violation(
        "fence quorum",
        `no ${this.#quorum} nodes accepted that ${name(tracked)}`,
      );
    }
  }

  /** Nothing is waited for once the majority has decided. */
  #checkMajoritySpeed(earlier: readonly Ballot[], enough: number, what: string): void {
    const nodes = new Set(earlier.map(({ node }) => node.name));
    if (nodes.size >= enough) {
      throw new Violation(
        "majority speed",
        `${[...nodes].join(", ")} had decided before that ${what}`,
      );
    }
  }

  /** As a call ends: whether enough nodes had answered its last round in an earlier turn. */
  checkPrompt(
    value: string,
    host: Host,
    kind: "extend" | "release",
    startMs: number,
    surelyMs: number,
    attempts = 1,
  ): void {
    // Of several attempts, the last may have been refused before the turn's end, when nodes are asked.
    if (attempts > 1) return;
    const ballots = this.#of(value, host).filter(
      (ballot) => ballot.kind === kind && ballot.sentMonotonicMs >= startMs,
    );
    const last = Math.max(...ballots.map(({ round = 0 }) => round));
    const inRound = ballots.filter(({ round }) => round === last);
    const untilMs = surelyMs + Math.min(...inRound.map(({ sentMonotonicMs }) => sentMonotonicMs));
    const nowMs = host.monotonicAt(host.timeMs);
    const earlier = inRound.filter(
      ({ answeredMs = Infinity, answeredTurn, yes, sameEpoch }) =>
        answeredTurn < host.turn &&
        // Where no node replied, a failed extension lets the sockets be read once more, for which no time passes: an answer
        // to what was sent again on a new connection is no reply.
        (kind === "extend"
          ? !yes && (sameEpoch || answeredMs < nowMs)
          : sameEpoch && answeredMs < untilMs),
    );
    const enough = kind === "extend" ? this.#nodeCount - this.#quorum + 1 : this.#quorum;
    this.#checkMajoritySpeed(earlier, enough, `to ${kind} ${value}`);
  }

  #of(value: string, host: Host): Ballot[] {
    return this.#ballots.get(value)?.filter((ballot) => ballot.host === host) ?? [];
  }

  /** How many nodes answered yes to extensions of this value sent since. */
  extensionVotes(value: string, host: Host, sinceMs: number): number {
    const votes = this.#of(value, host).filter(
      ({ kind, yes, sentMonotonicMs }) => kind === "extend" && yes && sentMonotonicMs >= sinceMs,
    );
    return new Set(votes.map(({ node }) => node)).size;
  }

  /** How many nodes set the value, and kept it when they last answered an extension. */
  #lastKept(value: string, host: Host): number {
    const last = new Map<SimulatedNode, boolean>();
    for (const { kind, node, yes, answeredMs } of this.#of(value, host)) {
      if (answeredMs === undefined) continue;
      if (kind === "extend" || (kind === "acquire" && yes)) last.set(node, yes);
    }
    return [...last.values()].filter((yes) => yes).length;
  }

  /**
   * For a node that was away, and did not say that it lost the key: how many granted the lock, also where some of them do
   * not hold it by now.
   */
  #granted(value: string, host: Host, node: SimulatedNode): number {
    const answered = this.#of(value, host).filter(({ answeredMs }) => answeredMs !== undefined);
    const last = answered.filter((ballot) => ballot.node === node).at(-1);
    if (last?.kind === "extend" && !last.yes) return 0;
    const votesFor = answered.filter(({ kind, yes }) => kind === "acquire" && yes);
    return new Set(votesFor.map((ballot) => ballot.node)).size;
  }

  /** How many nodes kept the lock in the extension in which this node said, perhaps much later, that it had lost the key. */
  #keptWithout(value: string, host: Host, node: SimulatedNode): number {
    const extensions = this.#of(value, host).filter(
      ({ kind, answeredMs }) => kind === "extend" && answeredMs !== undefined,
    );
    const lost = extensions.filter((ballot) => ballot.node === node).at(-1);
    if (lost === undefined || lost.yes) return 0;
    return extensions.filter(({ round, yes }) => round === lost.round && yes).length;
  }

  /** How many nodes answered an acquisition under this value at all. */
  answers(value: string, host: Host): number {
    const answered = this.#of(value, host).filter(
      ({ kind, answeredMs }) => kind === "acquire" && answeredMs !== undefined,
    );
    return new Set(answered.map(({ node }) => node)).size;
  }

  onSend(
    link: Link,
    command: string,
    args: readonly string[],
  ): ((reply: unknown, sameEpoch: boolean) => void) | undefined {
    const questions = questionsIn(command, args, this.#library);
    if (questions.length === 0) return undefined;
    if (questions.length > 1) this.onBatch?.();
    const told = questions.map((question) => this.#onQuestion(link, command, question));
    return (reply, sameEpoch) => {
      const replies = repliesIn(reply, questions.length);
      for (const [index, tell] of told.entries()) tell?.(replies[index] ?? reply, sameEpoch);
    };
  }

  #onQuestion(
    link: Link,
    command: string,
    { kind, value, keys, fenceKeys, token, ttlMs }: Question,
  ): ((reply: unknown, sameEpoch: boolean) => void) | undefined {
    if (kind === "inspect" || kind === "line" || kind === "force") return undefined;
    const { host, node, epoch } = link;
    // Thrown here, it would be one more answer to the library.
    try {
      if (kind === "acquire" && command !== "eval") this.#checkAsked(host, node, value);
      if (kind === "release" && command !== "eval") this.#checkRefused(host, value);
      if (kind === "release") this.#checkNotPassedOn(host, value);
    } catch (error) {
      this.break(error as Error);
    }
    if (!this.#startMs.has(value)) this.#startMs.set(value, this.#world.nowMs);
    const sent = this.#of(value, host);
    const unknown = sent.find(
      (ballot) => ballot.unknownScript && ballot.kind === kind && ballot.node === node,
    );
    // What is left alone of a batch whose script was unknown goes as a plain SET.
    const isAgain = command === "eval" || (command === "set" && unknown !== undefined);
    if (isAgain && unknown !== undefined) unknown.unknownScript = false;
    const holder = this.tracked.find((each) => each.host === host && each.lock.value === value);
    const ballot: Ballot = {
      kind,
      host,
      node,
      isConnected: () => link.state === "ready" && link.epoch === epoch,
      ttlMs,
      leftMs: Math.min(
        (holder?.monotonicEndMs ?? 0) - host.monotonicAt(host.timeMs),
        (holder?.wallEndMs ?? 0) - host.wallAt(host.timeMs),
      ),
      sentMonotonicMs: host.monotonicAt(host.timeMs),
      sentWallMs: host.wallAt(host.timeMs),
      turnMs: 1.01 * (host.timeMs - host.turnStartMs),
      round: isAgain ? unknown?.round : host.turn,
      unknownScript: false,
      answeredMs: undefined,
      restedMs: Infinity,
      answeredTurn: Infinity,
      yes: false,
      reply: "",
      token,
      sameEpoch: false,
    };
    const ballots = this.#ballots.get(value);
    if (ballots === undefined) this.#ballots.set(value, [ballot]);
    else ballots.push(ballot);
    return (reply, sameEpoch) => {
      if (reply instanceof Error && reply.message.startsWith("NOSCRIPT")) {
        // Sent again on a new connection it is no vote, and what follows it is a debt.
        ballot.unknownScript = sameEpoch;
        return;
      }
      ballot.answeredTurn = host.turn;
      ballot.answeredMs = host.monotonicAt(host.timeMs);
      ballot.restedMs = host.monotonicAt(host.busySinceMs);
      const isToken = typeof reply === "string" && Number(reply) > 0;
      ballot.yes =
        reply === "OK" ||
        reply === "accepted" ||
        reply === keys.length ||
        (kind === "acquire" && fenceKeys.length > 0 && isToken);
      ballot.reply = String(reply);
      ballot.sameEpoch = sameEpoch;
      if (kind === "extend" && holder !== undefined && !ballot.yes) this.#refused.push(holder);
    };
  }

  /** Once a lock may be another process's, this one leaves it alone. */
  #checkNotPassedOn(host: Host, value: string): void {
    if (
      this.tracked.some(
        (each) => each.host === host && each.lock.value === value && each.handedOver,
      )
    ) {
      throw new Violation("passed on", `${host.name} released ${value}, which it had passed on`);
    }
  }

  /** One question a node under one value; a key is given again only while the lock is held, after a quorum kept it. */
  #checkAsked(host: Host, node: SimulatedNode, value: string): void {
    const owners = this.tracked.filter(
      (tracked) => tracked.host === host && tracked.lock.value === value,
    );
    if (owners.length === 0) {
      const isAsked = ({ node: other, unknownScript }: Ballot): boolean =>
        other === node && !unknownScript;
      if (this.#of(value, host).some(isAsked)) {
        throw new Violation("own value", `${host.name} asked ${node.name} twice for ${value}`);
      }
      return;
    }
    const isOpen = owners.some(
      ({ lock }) => host.readAt({ monotonicMs: 0, wallMs: LONG_AGO_MS }, () => lock.remaining) > 0,
    );
    if (!isOpen) {
      throw new Violation("healing", `${host.name} gave ${value} to ${node.name} after its end`);
    }
    // Of a forced release, the holder learns later. Until then, it gives the key on the word of an earlier quorum.
    if (this.wasForced(value)) return;
    const kept = Math.max(
      this.#lastKept(value, host),
      this.#granted(value, host, node),
      this.#keptWithout(value, host, node),
    );
    if (kept < this.#quorum) {
      throw new Violation(
        "healing",
        `${host.name} gave ${value} to ${node.name} before a quorum had kept it`,
      );
    }
  }

  /** A failed attempt is released, at the latest, when its failure is certain. */
  #checkRefused(host: Host, value: string): void {
    const ballots = this.#of(value, host);
    if (ballots.some(({ kind }) => kind === "release")) return;
    if (this.tracked.some(({ lock }) => lock.value === value)) return;
    const decisive = ballots.some(({ kind }) => kind === "confirm") ? "confirm" : "acquire";
    const earlier = ballots.filter(
      ({ kind, yes, answeredTurn }) => kind === decisive && !yes && answeredTurn < host.turn,
    );
    this.#checkMajoritySpeed(
      earlier,
      this.#nodeCount - this.#quorum + 1,
      `to refuse ${value}, when it was released`,
    );
  }

  /**
   * On the server: only the owner changes a key, an extension brings no expiry nearer and lies about none.
   * Several operations in one call do what they would do one after the other.
   */
  readonly onExecute = (
    node: SimulatedNode,
    command: string,
    args: readonly string[],
    run: () => Reply,
  ): Reply => {
    const questions = questionsIn(command, args, this.#library);
    const [question] = questions;
    if (question === undefined) return run();
    if (questions.length === 1) return this.#execute(node, node.redis, question, run);
    const { clockMs } = node;
    const one = node.redis.copy((channel) => node.listenerCount(channel));
    const expected = questions.map((question) => {
      try {
        return this.#execute(node, one, question, () =>
          one.execute("eval", question.alone, clockMs),
        );
      } catch (error) {
        if (error instanceof ReplyError) return FAILED;
        throw error;
      }
    });
    const reply = run();
    const keys = questions.flatMap(({ keys, fenceKeys, sets }) => [...keys, ...fenceKeys, ...sets]);
    if (
      !isDeepStrictEqual(
        comparable(questions, repliesIn(reply, questions.length).map(asFailed)),
        comparable(questions, expected),
      ) ||
      keys.some((key) => !isDeepStrictEqual(one.peek(key, clockMs), node.redis.peek(key, clockMs)))
    ) {
      throw new Violation(
        "one call is as many",
        `${node.name} did ${args.at(-1) ?? ""} and answered ${String(reply)}, ` +
          `one by one ${JSON.stringify(expected)}`,
      );
    }
    return reply;
  };

  #execute(node: SimulatedNode, redis: RedisModel, question: Question, run: () => Reply): Reply {
    const { kind, keys, fenceKeys, value, ttlMs } = question;
    const { clockMs } = node;
    if (kind === "force") return this.#executeForced(node, question, run);
    if (question.reads) return checkReading(node, redis, question, run);
    const before = keys.map((key) => redis.peek(key, clockMs));
    const fences = fenceKeys.map((key) => redis.peek(key, clockMs));
    const waiting = watchQueue(node, redis, question);
    const reply = run();
    const isHolder = keys.every((key) => redis.peek(key, clockMs)?.value === value);
    for (const [index, key] of fenceKeys.entries()) {
      const after = redis.peek(key, clockMs);
      this.#checkFence(node, key, fences[index], after, isHolder, ttlMs);
    }
    for (const [index, key] of keys.entries()) {
      const after = redis.peek(key, clockMs);
      this.#checkChange(node, key, question, before[index], after);
      if (after !== before[index]) {
        checkTogether(node, redis, question, index, after, waiting[index]);
      }
    }
    if (
      kind === "extend" &&
      reply === keys.length &&
      before.some((entry) => entry?.value !== value)
    ) {
      throw new Violation(
        "only the owner",
        `${node.name} granted an extension of ${value}, which it did not hold`,
      );
    }
    return reply;
  }

  /** An operator ends whatever lock a key holds, and nothing else; where somebody waits for it, the key passes to them. */
  #executeForced(
    node: SimulatedNode,
    { keys, queueKeys, sets }: Question,
    run: () => Reply,
  ): Reply {
    const { redis, clockMs } = node;
    const [key = ""] = keys;
    const before = redis.peek(key, clockMs);
    const readers = readersOf(redis, clockMs, key, sets[0] ?? "");
    const held =
      readers === undefined ? [before?.value ?? ""] : [...readers.keys()].filter(isValue);
    const isWaitedFor = isAwaited(node, redis, queueKeys);
    const reply = run();
    const after = redis.peek(key, clockMs);
    const isLock =
      before?.type === "string" && reservationIn(before.value) === undefined && held.length > 0;
    if (!isLock) {
      if (before === after && String(reply) === "") return reply;
      throw new Violation(
        "only locks are ended by force",
        `${key} on ${node.name} held ${before?.value ?? "nothing"}, then ${after?.value ?? "nothing"}`,
      );
    }
    const isReserved = after !== undefined && reservationIn(after.value) !== undefined;
    if (String(reply) !== String(held) || !(after === undefined || isReserved)) {
      throw new Violation(
        "a lock is ended by force",
        `${key} of ${before.value} on ${node.name} then held ${after?.value ?? "nothing"}`,
      );
    }
    if (isWaitedFor && !isReserved) {
      throw new Violation(
        "a forced release hands over",
        `${key} of ${before.value} on ${node.name} was free, though somebody waited for it`,
      );
    }
    for (const value of held) {
      const places = this.#forced.get(value) ?? new Set();
      this.#forced.set(value, places.add(`${key} on ${node.name}`));
      this.#excused.add(value);
    }
    return reply;
  }

  /** A fence only rises, by who holds the lock, and outlives whoever could propose less. */
  #checkFence(
    node: SimulatedNode,
    key: string,
    before: Entry | undefined,
    after: Entry | undefined,
    isHolder: boolean,
    ttlMs: number,
  ): void {
    if (before === after) return;
    const [old, token] = [before, after].map((entry) => Number.parseInt(entry?.value ?? "0"));
    const isSame = before?.value === after?.value;
    if (old === undefined || token === undefined || !(isSame || token > old)) {
      throw new Violation("tokens only grow", `${key} from ${old} to ${token} on ${node.name}`);
    }
    if (!isHolder) {
      throw new Violation("only the owner", `${key} is ${token} on ${node.name} by no holder`);
    }
    const lifeMs = Math.max(DAY_MS, 10 * ttlMs);
    const expiresAtMs = after?.expiresAtMs ?? 0;
    if (
      expiresAtMs < Math.max(node.clockMs, isSame ? 0 : token / 1000) + lifeMs ||
      expiresAtMs < (before?.expiresAtMs ?? 0)
    ) {
      throw new Violation("fences last", `${key} on ${node.name} expires at ${expiresAtMs}`);
    }
  }

  #checkChange(
    node: SimulatedNode,
    key: string,
    { kind, value, ticket }: Question,
    before: Entry | undefined,
    after: Entry | undefined,
  ): void {
    if (before === after) return;
    const reserved = before && reservationIn(before.value);
    if (before === undefined) {
      if (kind === "acquire") return;
      throw new Violation("only the owner", `${kind} made ${key} on ${node.name}`);
    }
    if (reserved !== undefined) {
      const isItsOwn = ticket?.id === reserved.id;
      const mayTake = ticket !== undefined && isBefore(ticket, reserved);
      if (isItsOwn || (mayTake && after?.value === value)) return;
      throw new Violation(
        "a reservation is its ticket's",
        `${kind} of ${ticket?.id ?? value} changed ${key}, reserved for ${reserved.id}, on ${node.name}`,
      );
    }
    if (before.value !== value) {
      throw new Violation(
        "only the owner",
        `a command for ${value} changed ${key} of ${before.value} on ${node.name}`,
      );
    }
    if (after?.value === before.value && after.expiresAtMs < before.expiresAtMs) {
      throw new Violation(
        "expiry comes no nearer",
        `${key} of ${before.value} on ${node.name} by ${before.expiresAtMs - after.expiresAtMs} ms`,
      );
    }
  }
}

/** Stands for an operation's error, whose words differ. */
const FAILED = { err: true };

/** The replies of one command. Which of the readers that leave together frees the key, the node need not say. */
function comparable(questions: readonly Question[], replies: readonly unknown[]): unknown[] {
  const isLeaving = replies.map((_, index) => {
    const question = questions[index];
    return question?.reads === true && question.kind === "release";
  });
  return [
    ...replies.map((reply, index) => (isLeaving[index] === true ? undefined : reply)),
    ...replies
      .filter((_, index) => isLeaving[index])
      .map(String)
      .sort(),
  ];
}

function asFailed(reply: unknown): unknown {
  return typeof reply === "object" && reply !== null && "err" in reply ? FAILED : reply;
}

/** Whether a signal has aborted. Not by `aborted`: to read that is what notices a loss. */
export function isTold(signal: AbortSignal): boolean {
  return signal.reason !== undefined;
}

function name({ lock }: Tracked): string {
  return `the lock ${lock.value} on ${lock.resources.join(", ")}`;
}

/** The allowance for clock drift, as the library has it unless it is set otherwise. */
function driftMsOf({ ttl }: Lock): number {
  return Math.round(ttl * 0.01) + 2;
}
