import { readFileSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";
import { type Library, library as original } from "../virtual-world/library.js";
import { shrink } from "./hunt.js";
import { makePlan, type Plan } from "./plan.js";
import { run } from "./run.js";
import { turn } from "../virtual-world/turn.js";

/** One line of the library, changed so that it breaks a promise. */
export interface Mutant {
  readonly name: string;
  /** Under src. */
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

const m = (name: string, file: string, from: string, to: string): Mutant => ({
  name,
  file,
  from,
  to,
});

export const MUTANTS: readonly Mutant[] = [
  m(
    "quorum N/2",
    "quorum/round.ts",
    "Math.floor(nodeCount / 2) + 1",
    "Math.max(1, Math.floor(nodeCount / 2))",
  ),
  m(
    "no drift",
    "algorithm/validity.ts",
    "Math.round(ttlMs * driftFactor) + 2",
    "0 * ttlMs * driftFactor",
  ),
  m(
    "start taken after the fan-out",
    "algorithm/acquire.ts",
    "const term = call.term(since);",
    "const term = call.term(environment.now());",
  ),
  m(
    "wall clock only",
    "algorithm/validity.ts",
    "Math.max(now.monotonicMs - since.monotonicMs, now.wallMs - since.wallMs)",
    "now.wallMs - since.wallMs",
  ),
  m(
    "monotonic clock only",
    "algorithm/validity.ts",
    "Math.max(now.monotonicMs - since.monotonicMs, now.wallMs - since.wallMs)",
    "now.monotonicMs - since.monotonicMs",
  ),
  m(
    "validity not checked",
    "algorithm/acquire.ts",
    "if (granted && isOpen && validityMs(term, environment.now()) > 0) {",
    "if (granted) {",
  ),
  m(
    "no release after a failed attempt",
    "algorithm/acquire.ts",
    "releaseFailedAttempt(call, keys, round, value);",
    "",
  ),
  m(
    "release only where the vote was yes",
    "algorithm/release.ts",
    "ballot.asked ? [ballot.node] : []",
    'ballot.vote === "for" ? [ballot.node] : []',
  ),
  m(
    "one value for all attempts",
    "algorithm/acquire.ts",
    "const value = call.newValue();",
    "const value = ((call as { v?: string }).v ??= call.newValue());",
  ),
  m(
    "a node that forgot votes at once",
    "nodes/restart-guard.ts",
    "const untilMs = this.#doubt.sinceMs + this.#guard.timeMs;",
    "const untilMs = this.#doubt.sinceMs;",
  ),
  m(
    "a node is asked once who it is",
    "nodes/restart-guard.ts",
    "if (this.#askedEpoch === epoch) return false;",
    "if (this.#askedEpoch !== -1) return false;",
  ),
  m(
    "the guard time counted half",
    "nodes/restart-guard.ts",
    "return this.#givenMs ?? this.#longestTtlMs;",
    "return (this.#givenMs ?? this.#longestTtlMs) / 2;",
  ),
  m(
    "another run id does not matter",
    "nodes/restart-guard.ts",
    "runId === undefined || runId !== this.#runId",
    "runId === undefined",
  ),
  m(
    "a late yes counted",
    "quorum/ballot.ts",
    "this.timeoutMs = nodeTimeoutMs(node);",
    "this.timeoutMs = 1.5 * nodeTimeoutMs(node);",
  ),
  m(
    "a resent command's yes counted",
    "nodes/node.ts",
    "if (epoch === this.#connection.epoch) return undefined;",
    "if (epoch <= this.#connection.epoch) return undefined;",
  ),
  m(
    "healed nodes vote in an extension",
    "operations/extend.ts",
    "if valueOf(keys[i]) ~= value then return 0 end",
    "redis.call('SET', keys[i], value, 'NX', 'PX', ttlMs) if valueOf(keys[i]) ~= value then return 0 end",
  ),
  m(
    "healing before a quorum kept",
    "algorithm/extend.ts",
    "if (await round.decided()) {",
    "keepOnRest(round, parts);\n  if (await round.decided()) {",
  ),
  m(
    "a shorter extension shortens the key",
    "operations/extend.ts",
    "left >= 0 and left < tonumber(ttlMs)",
    "left >= 0",
  ),
  m(
    "extension without the compare",
    "operations/extend.ts",
    "if valueOf(keys[i]) ~= value then return 0 end",
    "",
  ),
  m(
    "an extension decided after the old validity's end",
    "algorithm/lease.ts",
    "if (!this.open || newMs <= 0) return false;",
    "if (newMs <= 0) return false;",
  ),
  m(
    "DEL without the compare",
    "operations/release.ts",
    "if valueOf(keys[i]) == value then deleted = deleted + redis.call('DEL', keys[i]) end",
    "deleted = deleted + redis.call('DEL', keys[i])",
  ),
  m(
    "an adopted lock trusts its expiration",
    "algorithm/adopt.ts",
    "const lease = Lease.adopted(environment);",
    "const lease = Lease.held(environment, { since: { monotonicMs: environment.monotonicMs(), wallMs: expiration - ttl }, ttlMs: ttl, driftMs: 0 });",
  ),
  m(
    "nothing is pending",
    "nodes/pending-releases.ts",
    "if (!this.#isClosed) this.#releases.add(release);",
    "",
  ),
  m("a release does not end the lease", "algorithm/lease.ts", 'this.#state = "released";', ""),
  m(
    "a lost lock made valid again",
    "algorithm/lease.ts",
    'if (this.#state !== "held" || this.#term === undefined) return 0;',
    "if (this.#term === undefined) return 0;",
  ),
  m("using gives no release", "algorithm/using.ts", "await releaseInTime(call, lock);", ""),
  m("no retry budget", "algorithm/call.ts", "if (delayMs >= timeLeftMs()) return undefined;", ""),
  m(
    "a node has for ever to answer",
    "quorum/round.ts",
    "      ballot.node.fellSilent();\n      this.count(",
    "      ballot.node.fellSilent();\n      if (ballot.asked) continue;\n      this.count(",
  ),
  m(
    "a vote counted twice",
    "quorum/round.ts",
    "if (ballot.vote !== undefined) {",
    "if (ballot.vote !== undefined && ballot.vote === vote) {",
  ),
  m(
    "a majority's answers are not enough",
    "quorum/round.ts",
    "if (this.#for >= this.#quorum) this.#decide(true);",
    "if (this.#for >= this.#quorum && this.#complete) this.#decide(true);",
  ),
  m(
    "an impossible majority is waited for",
    "quorum/round.ts",
    "else if (!this.#canStillBe(this.#against)) this.#decide(false);",
    "else if (this.#complete) this.#decide(false);",
  ),
  m(
    "the loss is not said early enough for a late timer",
    "algorithm/keeper.ts",
    "return Math.min(Math.max(2, ttlMs / 100), 10);",
    "return 0 * ttlMs;",
  ),
  m(
    "a batch takes the first operation's keys for all",
    "operations/batch.ts",
    "operation(KEYS, ownFirst, first - 1, ",
    "operation(KEYS, 1, keyCount, ",
  ),
  m(
    "the replies of a batch in another order",
    "nodes/coalescer.ts",
    "const reply = replies[index++];",
    "const reply = replies.at(-1 - index++);",
  ),
  m(
    "a batch sent again after its operations were decided",
    "nodes/coalescer.ts",
    "const open = this.#kept(inquiries, mayBeSentAgain);",
    "const open = inquiries;",
  ),
  m(
    "a lock stays on the nodes that voted for it",
    "algorithm/acquire.ts",
    "giveToRest(round, holding, queued !== undefined);",
    "",
  ),
  m(
    "an extension stays on the nodes that voted for it",
    "algorithm/extend.ts",
    "keepOnRest(round, parts);",
    "",
  ),
  m(
    "a node that was down at the grant is not given the key on its return",
    "nodes/pending-releases.ts",
    'if (this.#mayBeAsked() && this.#connection.state === "ready") {\n      key.give();\n    } else {',
    'if (this.#mayBeAsked() && this.#connection.state === "ready") {\n      key.give();\n    } else if (key.ttlMs < 0) {',
  ),
  m(
    "a key is given after its release",
    "nodes/node.ts",
    "this.perform(operation, isWanted)",
    "this.perform(operation, () => true)",
  ),
  m(
    "a lock that ended within the turn is healed at its end",
    "nodes/coalescer.ts",
    "const open = this.#kept(inquiries, isWanted);",
    "const open = inquiries;",
  ),
  // Handles: lock.signal, autoExtend, maxHold, forceRelease, and quit with a drain.
  m(
    "the signal of a plain lock is not watched",
    "algorithm/handle.ts",
    "this.signal);\n      this.watch();",
    "this.signal);",
  ),
  m(
    "a lock that is extended is watched for its first term only",
    "algorithm/keeper.ts",
    "if (alarmInMs > this.#lease",
    "this.stop();\n    if (alarmInMs > this.#lease",
  ),
  m(
    "a loss is told after the end",
    "algorithm/keeper.ts",
    "      leftMs - slackMs,\n",
    "      leftMs + slackMs,\n",
  ),
  m(
    "a loss does not abort the signal",
    "algorithm/handle.ts",
    "this.#loss = loss;\n    this.#abort(loss);",
    "this.#loss = loss;",
  ),
  m(
    "the release of a lock aborts its signal",
    "algorithm/handle.ts",
    'this.#end();\n    this.#instance.announce("released"',
    'this.#end();\n    this.#controller?.abort();\n    this.#instance.announce("released"',
  ),
  m(
    "a released lock's signal tells of a loss later",
    "algorithm/lease.ts",
    'if (this.#state === "lost" || this.#state === "released") return;',
    'if (this.#state === "lost") return;',
  ),
  m(
    "autoExtend extends nothing",
    "algorithm/acquire.ts",
    "if (settings.autoExtend) keep(call, handle);",
    "if (settings.autoExtend) handle.watch();",
  ),
  m(
    "an extension after maxHold",
    "algorithm/keeper.ts",
    "if (this.#extending === undefined || this.#isHeldLongEnough) return undefined;",
    "if (this.#extending === undefined) return undefined;",
  ),
  m(
    "maxHold counted from the last extension",
    "algorithm/keeper.ts",
    "this.#lastFailure = await extend(limitMs);",
    "this.#lastFailure = await extend(limitMs);\n    this.#sinceMs = this.#environment.monotonicMs();",
  ),
  m(
    "a holder is not told that its extension was refused by too many",
    "algorithm/extend.ts",
    "if (round.isHopeless(isHeld)) lease.lose(whyNotExtended(call));",
    "",
  ),
  m(
    "forceRelease ends a reservation",
    "operations/force-release.ts",
    "if type(value) ~= 'string' or reservedFor(value) then return {} end",
    "if type(value) ~= 'string' then return {} end",
  ),
  m(
    "forceRelease hands over to nobody",
    "operations/force-release.ts",
    "if #KEYS == 1 then",
    "if #KEYS > 0 then",
  ),
  m(
    "forceRelease tells of a lock that it leaves",
    "operations/force-release.ts",
    "if #KEYS == 1 then redis.call('DEL', KEYS[1]) else passOn(KEYS[1], KEYS[2], KEYS[3], '') end",
    "if #KEYS == 1 then redis.call('DEL', KEYS[1]) end",
  ),
  m(
    "a drain gives new locks",
    "algorithm/close.ts",
    "draining.abort(error);\n",
    "if (drainMs === 0) draining.abort(error);\n",
  ),
  m(
    "a drain leaves kept locks",
    "algorithm/close.ts",
    "if (drainMs > 0 || handle.isKept) end(instance, handle);",
    "if (drainMs > 0 && !handle.isKept) end(instance, handle);",
  ),
  m(
    "closing without a drain leaves kept locks",
    "algorithm/close.ts",
    "if (drainMs > 0 || handle.isKept) end(instance, handle);",
    "if (drainMs > 0) end(instance, handle);",
  ),
  m(
    "a drain leaves plain locks",
    "algorithm/close.ts",
    "if (drainMs > 0 || handle.isKept) end(instance, handle);",
    "if (handle.isKept) end(instance, handle);",
  ),
  m(
    "a drain does not wait",
    "algorithm/close.ts",
    "if (drainMs > 0) await drain(instance, drainMs);",
    "",
  ),
  m(
    "a drain waits for locks that were lost",
    "algorithm/close.ts",
    "for (const handle of held.all()) handle.watch();",
    "",
  ),
  m(
    "a drain does not notice that all is released",
    "algorithm/held-locks.ts",
    "for (const resolve of resolves) resolve();",
    "",
  ),
  m(
    "a drain releases nothing",
    "algorithm/close.ts",
    "  askRelease(new Release(instance, lock, releaseSettings(instance, parts)));\n",
    "",
  ),
  m(
    "a drain refuses extensions and releases",
    "algorithm/call.ts",
    "return this.instance.closing;",
    "return this.instance.draining;",
  ),
  m(
    "a drain releases a lock that was passed on",
    "algorithm/handle.ts",
    "this.#isPassedOn = true;\n    this.#unlist();",
    "this.#isPassedOn = true;",
  ),
  m(
    "the ring of held locks forgets the oldest when a lock comes",
    "algorithm/held-locks.ts",
    "        oldest.goBehind(this.#end.before);\n      }",
    "      }",
  ),
  // Turns that never end.
  m(
    "no pause after a failed extension",
    "algorithm/keeper.ts",
    "this.#nextTryMs = this.#environment.monotonicMs() + pause;",
    "this.#nextTryMs = this.#environment.monotonicMs() + 0 * pause;",
  ),
  m(
    "a waiter's retry timer stays due",
    "waiting/waiter.ts",
    "ticks += 1;\n          tickMs = undefined;",
    "",
  ),
  // A wait that never ends.
  m(
    "nobody follows the first waiter of a process in line",
    "waiting/local-queue.ts",
    "if (queue.size > 0) this.#shared.environment.afterPoll(queue.joinFirst);",
    "",
  ),
  m(
    "a resignation does not tell the routine",
    "algorithm/lead.ts",
    "this.#end(signal?.reason);",
    "",
  ),
  m(
    "a resigned leader keeps the lock until its routine has ended",
    "algorithm/lead.ts",
    "void this.release();",
    "",
  ),
  m("a leader is not told of its loss", "algorithm/lead.ts", "[lost, onLost],", ""),
  m("a leader is not told that it drains", "algorithm/lead.ts", "[draining, onDrain],", ""),
  m(
    "a leader campaigns while its routine still runs",
    "algorithm/lead.ts",
    "await routine(signal, lock);",
    `await Promise.race([
      routine(signal, lock),
      new Promise<never>((_, reject) => {
        signal.addEventListener("abort", () => { reject(signal.reason); });
      }),
    ]);`,
  ),
  m(
    "the value of a lost term counts",
    "algorithm/lead.ts",
    "if (term.loss === undefined) return value;",
    "return value;",
  ),
  m("a resignation is an error", "algorithm/lead.ts", "if (hasResigned()) return undefined;", ""),
  m(
    "maxHold does not end a term",
    "algorithm/lead.ts",
    "this.#lose(this.#afterMaxHold(maxHoldMs));",
    "{}",
  ),
  m("a term is not released", "algorithm/lead.ts", "await term.release();", ""),
  m(
    "a routine that throws its signal's reason failed",
    "algorithm/lead.ts",
    "if (cause === reason || cause === told) return true;",
    "",
  ),
  m(
    "a permit is whatever slot each node has free",
    "algorithm/requests.ts",
    "if (!shared) return acquireOperation(keys, value, ttlMs, fence);",
    `if (permits !== undefined) {
      return () => {
        const slot = Math.floor(instance.environment.random() * permits.keys.length);
        return acquireOperation(permits.keys.slice(slot, slot + 1), value, ttlMs);
      };
    }
    if (!shared) return acquireOperation(keys, value, ttlMs, fence);`,
  ),
  m(
    "a permit is taken from its holder",
    "operations/take-permit.ts",
    "if mayTake(keys, own, tonumber(time), id) then",
    "if true then",
  ),
  m(
    "a failed attempt at one slot releases another",
    "algorithm/acquire.ts",
    "releaseFailedAttempt(call, keys, round, value);",
    "releaseFailedAttempt(call, call.keys.slice(0, 1), round, value);",
  ),
  m(
    "a permit's release hands over another slot",
    "waiting/queue-keys.ts",
    "all = [key, order, alive];",
    'all = [key.replace(/permit:[0-9]+$/, "permit:0"), order, alive];',
  ),
  m(
    "a permit's lock is given every slot",
    "algorithm/acquire.ts",
    "giveToRest(round, holding,",
    "giveToRest(round, { ...holding, keys: call.keys },",
  ),
  m(
    "one permit more than there are",
    "operations/companion-key.ts",
    "slot < count; slot++",
    "slot <= count; slot++",
  ),
  m(
    "two slots by one holder",
    "algorithm/permits.ts",
    "lock === undefined && tries < MOST_TRIES",
    "tries < 3",
  ),
  m(
    "a permit's lock has the keys of every slot",
    "algorithm/acquire.ts",
    "const { keys, value, lease, shared, permit, fence } = holding;",
    "const { value, lease, shared, permit, fence } = holding;\n  const { keys } = call;",
  ),
  m(
    "a forced release names another permit",
    "reports/force-release.ts",
    "...(permit === undefined ? {} : { permit }),",
    "...(permit === undefined ? {} : { permit: 0 }),",
  ),
];

/**
 * Bugs that the simulator found, put back, and for each rule of the fencing tokens and of readers one that breaks it. Each
 * has the plan that shows it, under regressions.
 */
export const FOUND: readonly Mutant[] = [
  m(
    "a lock with a shorter ttl keeps the alarm of the old one",
    "algorithm/keeper.ts",
    "if (alarmInMs > this.#lease",
    "if (this.#alarm === undefined && alarmInMs > this.#lease",
  ),
  m(
    "a key is given late for less than its lock was extended by",
    "algorithm/give.ts",
    "if (lease.isExtended) node.tell(",
    "if (lease.keyTtlMs < 0) node.tell(",
  ),
  m(
    "using releases under another nodeTimeout",
    "algorithm/using.ts",
    "...(nodeTimeout === undefined ? {} : { nodeTimeout })",
    "",
  ),
  m(
    "no debt is paid beside another",
    "nodes/pending-releases.ts",
    'if (this.#connection.state !== "ready") return;\n    for',
    'if (this.#connection.state !== "ready" || this.#onTheirWay.size > 0) return;\n    for',
  ),
  m(
    "a failed extension lengthens no debt",
    "algorithm/extend.ts",
    "lease.longestTtlMs = Math.max(lease.longestTtlMs, ttlMs);",
    "",
  ),
  m(
    "a debt is forgotten while a command is in flight",
    "nodes/pending-releases.ts",
    "() => this.#setting === 0",
    "() => true",
  ),
  m(
    "a closed Redlock keeps debts",
    "nodes/pending-releases.ts",
    "if (!this.#isClosed) this.#releases.add",
    "this.#releases.add",
  ),
  m(
    "an abort does not end the look at the keys",
    "algorithm/explain.ts",
    "await call.unlessEnded(keysInTheWay(call))",
    "await keysInTheWay(call)",
  ),
  m(
    "another's equal token taken for an acceptance",
    "operations/accept-fence.ts",
    "return largest < tonumber(token) and 'accepted'",
    "return largest <= tonumber(token) and 'accepted'",
  ),
  m(
    "any vote taken for an acceptance of the token",
    "algorithm/fence.ts",
    'vote === "for" && reply === "accepted"',
    'vote === "for"',
  ),
  m(
    "a second token below the answers",
    "algorithm/fence.ts",
    'if (typeof answer === "number") largest = Math.max(largest, answer);',
    'if (answer === "accepted") largest = 0;',
  ),
  m(
    "any answer to the second round counts",
    "algorithm/fence.ts",
    'if (answer === "accepted") return undefined;',
    "if (answer !== undefined) return undefined;",
  ),
  m(
    "the second round without the compare",
    "operations/confirm-fence.ts",
    "if valueOf(keys[i]) ~= value then return 0 end",
    "",
  ),
  m(
    "a fence that sinks",
    "operations/accept-fence.ts",
    "if largest < tonumber(token) then",
    "if true then",
  ),
  m(
    "a fence of the first resource only",
    "operations/accept-fence.ts",
    "for i = first, last do\n    local stored",
    "for i = first, first do\n    local stored",
  ),
  m(
    "a fence that expires with the lock",
    "operations/accept-fence.ts",
    "math.max(86400000, 10 * ttlMs)",
    "1 * ttlMs",
  ),
  m(
    "a fence raised by who does not hold the lock",
    "operations/acquire-fenced.ts",
    "if redis.call('EXISTS', keys[i]) == 1 then return 0 end",
    "",
  ),
  m(
    "a repeat told by the token alone",
    "operations/accept-fence.ts",
    "if stored and stored ~= token .. ' ' .. value then",
    "if stored and string.sub(stored, 1, #token) ~= token then",
  ),
  m("the second round has time of its own", "algorithm/fence.ts", " - first.elapsedMs", ""),
  m(
    "a round that begins without time",
    "quorum/round.ts",
    "const hasTime = this.#startMs < this.#endMs;",
    "const hasTime = true;",
  ),
  m(
    "a debt is forgotten while a fenced acquisition is in flight",
    "operations/acquire-fenced.ts",
    "fenced(acquireFencedScript, keys, value, ttlMs, fence, sets)",
    "fenced(acquireFencedScript, keys, value, ttlMs, fence)",
  ),
  m(
    "a loss before anybody listens is told to nobody",
    "algorithm/lease.ts",
    'if (this.#state === "lost") listener.onLost();',
    "",
  ),
  // Readers.
  m(
    "the marker ends with the reader that came last",
    "operations/readers.ts",
    "local latest = redis.call('ZRANGE', set, -1, -1, 'WITHSCORES')[2]",
    "local latest = redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')[2]",
  ),
  m(
    "the last reader leaves the marker",
    "operations/readers.ts",
    "if gone == count then return areGone end",
    "if gone == count then return false end",
  ),
  m(
    "any reader deletes the marker",
    "operations/readers.ts",
    "if gone == count then return areGone end",
    "if areGone or gone == count then return areGone end",
  ),
  m(
    "a reader passes a writer that waits",
    "operations/queue.ts",
    "if ok and waits then return false end",
    "",
  ),
  m(
    "expired readers are counted",
    "operations/readers.ts",
    "if latestMs < nodeMs() then",
    "if latestMs < 0 then",
  ),
  m(
    "a reader is extended that the node has no more",
    "operations/shared.ts",
    "if not sets.untilMs[i] or untilOf(sets[i], value) < nodeMs() then return 0 end",
    "if not sets.untilMs[i] then return 0 end",
  ),
  m(
    "a reader joins whoever holds the key",
    "operations/queue.ts",
    "    if value == SHARED then\n",
    "    if value and true then\n      if true then return true end\n",
  ),
  m(
    "an extension brings a reader's end nearer",
    "operations/queue.ts",
    "math.max(untilMs, untilOf(set, value))",
    "untilMs",
  ),
  m(
    "the last reader hands over to nobody",
    "operations/hand-over.ts",
    "if isFree or sets and exit(keys[i], sets[i], value, ...) then",
    "if sets and exit(keys[i], sets[i], value, ...) then redis.call('DEL', keys[i]) end if isFree then",
  ),
  m(
    "readers are told one by one",
    "operations/queue.ts",
    "if hears and not reads then break end",
    "if hears then break end",
  ),
  m(
    "readers are told past the next writer",
    "operations/queue.ts",
    "if group[1] and isAlive and not reads then break end",
    "",
  ),
  m(
    "a reader that was refused stays on the nodes",
    "algorithm/release.ts",
    "releaseRequest(pending), pending);",
    "releaseRequest({ ...pending, shared: false }), pending);",
  ),
  m(
    "a reader's pending release is a writer's",
    "nodes/pending-releases.ts",
    "(shared ? releaseSharedOperation : releaseOperation)(keys, value)",
    "(shared && keys.length > 9 ? releaseSharedOperation : releaseOperation)(keys, value)",
  ),
  m(
    "forceRelease leaves the readers' set, and names the marker",
    "operations/force-release.ts",
    "if KEYS[4] and sharedUntil(KEYS[1], KEYS[4]) then",
    "if false then",
  ),
  m(
    "a reader comes in together with others for longer than the marker",
    "operations/together.ts",
    "if tonumber(ARGV[own + 1]) > tonumber(ARGV[longest + 1]) then longest = own end",
    "",
  ),
  m(
    "readers that leave together leave the marker as it is",
    "operations/readers.ts",
    "if areGone and redis.call('PTTL', key) >",
    "if areGone and select('#', ...) == 1 and redis.call('PTTL', key) >",
  ),
  m(
    "readers of different locks come in together",
    "operations/together.ts",
    "    if KEYS[first + (i - 1) * step] ~= KEYS[first] then return false end\n",
    "",
  ),
  m(
    "forceRelease goes on without the queue where a reply is lost",
    "reports/force-release.ts",
    "keys.length === 1 || !isReply(error)",
    "keys.length === 1",
  ),
  m(
    "a lock that is adopted during a drain is not watched",
    "algorithm/handle.ts",
    "if (this.#instance.draining.aborted) this.watch();",
    "",
  ),
  m(
    "tryAcquire of a permit gives each slot's nodes the time of a whole attempt",
    "algorithm/permits.ts",
    "if (permits === undefined) return round.quorumWith(isHeld);",
    "return round.quorumWith(isHeld);",
  ),
];

/** Bugs that show only where a node loses a part of what it holds, which the exhaustive search tries. */
export const OF_LOSSES: readonly Mutant[] = [
  m(
    "a reader is extended without the marker",
    "operations/shared.ts",
    "if not sets.untilMs[i] or untilOf(sets[i], value) < nodeMs() then return 0 end",
    "if untilOf(sets[i], value) < nodeMs() then return 0 end",
  ),
  m(
    "a new marker keeps the readers of an older one",
    "operations/queue.ts",
    "redis.call('DEL', set)\n",
    "",
  ),
];

const SOURCE = fileURLToPath(new URL("../../src/", import.meta.url));

/** Reads the file that the bug is planted in. Throws where the line is not there, once. */
export async function fileOf({
  name,
  file,
  from,
}: Mutant): Promise<{ path: string; text: string }> {
  const path = resolve(SOURCE, file);
  const text = await readFile(path, "utf8");
  if (text.split(from).length !== 2) {
    throw new Error(
      `The line of the mutant "${name}" is not once in src/${file}. Bring tests/simulation/mutants.ts up to date.`,
    );
  }
  return { path, text };
}

/** As tests/support/transform.js has it: the copy runs in Jest, too. */
const GLOBALS = JSON.parse(
  readFileSync(new URL("../support/own-globals.json", import.meta.url), "utf8"),
) as string[];

/** Bundles a copy of the library with the change in it. */
export async function mutate(mutant: Mutant): Promise<Library> {
  const { from, to } = mutant;
  const { path, text } = await fileOf(mutant);
  const directory = await mkdtemp(join(tmpdir(), "redlock-mutant-"));
  try {
    const outfile = join(directory, "library.mjs");
    const { outputFiles } = await build({
      entryPoints: [fileURLToPath(new URL("../virtual-world/library.ts", import.meta.url))],
      bundle: true,
      write: false,
      platform: "node",
      format: "esm",
      target: "node20",
      define: Object.fromEntries(GLOBALS.map((name) => [name, `global${name}`])),
      banner: { js: GLOBALS.map((name) => `const global${name} = ${name};`).join(" ") },
      plugins: [
        {
          name: "mutant",
          setup: (bundler) => {
            bundler.onResolve({ filter: /^ioredis$/ }, () => ({
              path: "ioredis",
              namespace: "none",
            }));
            bundler.onLoad({ filter: /.*/, namespace: "none" }, () => ({
              contents: "export class Redis {}",
            }));
            bundler.onLoad({ filter: /\.ts$/ }, ({ path: loaded }) =>
              loaded === path
                ? { contents: text.replace(from, () => to), loader: "ts" }
                : undefined,
            );
          },
        },
      ],
    });
    await writeFile(outfile, outputFiles[0]?.contents ?? "");
    const { library } = (await import(pathToFileURL(outfile).href)) as { library: Library };
    return library;
  } finally {
    await rm(directory, { recursive: true });
  }
}

export interface Catch {
  readonly name: string;
  /** Undefined where it survived. */
  readonly seeds: number | undefined;
  /** Shrunk. */
  readonly plan: Plan | undefined;
  readonly rule: string;
  readonly traceLines: number;
}

/** The first seed, of so many, whose schedule the library fails and the original does not. */
export function seedThatCatches(library: Library, mostSeeds: number): number | undefined {
  for (let seed = 1; seed <= mostSeeds; seed++) {
    if (run(makePlan(seed), library).violation === undefined) continue;
    // Not the mutant's doing where the library itself fails.
    if (run(makePlan(seed), original).violation === undefined) return seed;
  }
  return undefined;
}

export async function catchMutant(mutant: Mutant, mostSeeds: number): Promise<Catch> {
  const library = await mutate(mutant);
  return turn(() => {
    const seed = seedThatCatches(library, mostSeeds);
    if (seed !== undefined) {
      const { plan, outcome } = shrink(makePlan(seed), library);
      return {
        name: mutant.name,
        seeds: seed,
        plan,
        rule: outcome.violation?.rule ?? "",
        traceLines: outcome.trace.length,
      };
    }
    return { name: mutant.name, seeds: undefined, plan: undefined, rule: "", traceLines: 0 };
  });
}
