import { describe, expect, it } from "@jest/globals";
import type { Inquiry } from "../../../src/nodes/coalescer.js";
import type { Node } from "../../../src/nodes/node.js";
import { acquireOperation } from "../../../src/operations/acquire-fenced.js";
import { releaseOperation } from "../../../src/operations/release.js";
import type { Question } from "../../../src/quorum/ballot.js";
import { quorumOf, Round } from "../../../src/quorum/round.js";
import { type Machine, nodesOf, played } from "../../virtual-world/stage.js";

const operation = acquireOperation(["r"], "mine", 10_000);
const held = new Error("held");

/** Asks each node to set a key, with 50 ms to answer in. */
function ask(
  nodes: readonly Node[],
  { internals }: Machine,
  question: Partial<Question> = {},
): Round {
  return new Round(
    {
      nodes,
      operation: () => operation,
      judge: (reply) => (reply === "OK" || reply === 1 ? undefined : held),
      nodeTimeoutMs: () => 50,
      ...question,
    },
    internals.environment,
  );
}

/** Gives each connection a round trip of its own. */
function setRoundTrips({ links }: Machine, roundTripsMs: readonly number[]): void {
  for (const [index, link] of links.entries()) {
    link.extraDelayMs = ((roundTripsMs[index] ?? 2) - 2) / 2;
  }
}

describe("a quorum", () => {
  it("is half the nodes, rounded down, and one", () => {
    expect([1, 2, 3, 4, 5, 6, 7].map(quorumOf)).toEqual([1, 2, 2, 3, 3, 4, 4]);
  });
});

describe("a round", () => {
  it(
    "is granted as soon as a majority voted for it, and waits for nobody else",
    played(async (stage) => {
      const { nodes, machine } = await stage.nodes();
      setRoundTrips(machine, [2, 30, 10, 20, 40]);
      const round = ask(nodes, machine);
      expect(await stage.timed(round.decided())).toEqual({ ms: 20, gives: true });
      expect(round.elapsedMs).toBe(20);
      expect(round.wasCut).toBe(false);
    }),
  );

  it(
    "is refused as soon as so many are against that no majority can be for it",
    played(async (stage) => {
      const { nodes, machine } = await stage.nodes();
      setRoundTrips(machine, [2, 10, 20, 30, 40]);
      stage.occupy([1, 2, 3], "r");
      const round = ask(nodes, machine);
      expect(await stage.timed(round.decided())).toEqual({ ms: 30, gives: false });
      expect(round.wasCut).toBe(false);
      await round.complete();
      expect(round.wasCut).toBe(false);
    }),
  );

  it(
    "of four nodes is refused by two of them",
    played(async (stage) => {
      const { nodes, machine } = await stage.nodes();
      setRoundTrips(machine, [2, 10, 20, 30]);
      stage.occupy([0, 1], "r");
      expect(await stage.timed(ask(nodes, machine).decided())).toEqual({ ms: 10, gives: false });
    }, 4),
  );

  it(
    "goes on counting after it is decided, for the statistics, and changes its mind no more",
    played(async (stage) => {
      const { nodes, machine } = await stage.nodes();
      setRoundTrips(machine, [2, 4, 6, 8, 10]);
      stage.occupy([3], "r");
      const round = ask(nodes, machine);
      await round.decided();
      const { ms, gives } = await stage.timed(round.stats());
      expect(ms).toBe(4);
      const [first, second, third, fourth, fifth] = nodes.map(({ client }) => client);
      expect(gives).toEqual({
        membershipSize: 5,
        quorumSize: 3,
        votesFor: new Set([first, second, third, fifth]),
        votesAgainst: new Map([[fourth, held]]),
      });
      expect(await round.decided()).toBe(true);
    }),
  );

  it(
    "gives each node its own time to answer in, and counts no vote that comes later",
    played(async (stage) => {
      const { nodes, machine } = await stage.nodes();
      stage.freeze([2, 3, 4], 100);
      const round = ask(nodes, machine, {
        nodeTimeoutMs: (node) => (node === nodes[2] ? 80 : 50),
      });
      const startMs = stage.nowMs;
      await stage.sleep(49);
      expect(round.ballots.map(({ vote }) => vote)).toEqual([
        "for",
        "for",
        undefined,
        undefined,
        undefined,
      ]);
      await stage.sleep(2);
      expect(round.ballots.map(({ vote }) => vote instanceof Error)).toEqual([
        false,
        false,
        false,
        true,
        true,
      ]);
      expect(await round.decided()).toBe(false);
      expect(stage.nowMs - startMs).toBe(80);
      await stage.sleep(100);
      expect(stage.holders("r", "mine")).toEqual([0, 1, 2, 3, 4]);
      const { votesFor, votesAgainst } = await round.stats();
      expect(votesFor.size).toBe(2);
      expect([...votesAgainst.values()].map(String)).toEqual([
        "NodeError: no answer in 80 ms",
        "NodeError: no answer in 50 ms",
        "NodeError: no answer in 50 ms",
      ]);
      expect(await round.decided()).toBe(false);
    }),
  );

  it(
    "needs one timer for all its nodes, and none once it is complete",
    played(async (stage) => {
      const { nodes, machine } = await stage.nodes();
      setRoundTrips(machine, [2, 2, 2, 2, 20]);
      const round = ask(nodes, machine);
      await stage.sleep(0);
      expect(machine.host.timers.size).toBe(1);
      await round.decided();
      expect(machine.host.timers.size).toBe(1);
      await round.complete();
      expect(machine.host.timers.size).toBe(0);
    }),
  );

  it(
    "is refused after its own limit, however long its nodes may still take",
    played(async (stage) => {
      const { nodes, machine } = await stage.nodes();
      stage.freeze([1, 2, 3, 4], 40);
      const round = ask(nodes, machine, { limitMs: 20 });
      expect(await stage.timed(round.decided())).toEqual({ ms: 20, gives: false });
      expect(round.wasCut).toBe(true);
      await round.complete();
      expect(round.elapsedMs).toBe(41);
      expect(await round.decided()).toBe(false);
      expect(machine.host.timers.size).toBe(0);
    }),
  );

  it.each([0, -1.6])("asks nobody where it has no time: %d ms", (limitMs) =>
    played(async (stage) => {
      const { nodes, machine } = await stage.nodes();
      const round = ask(nodes, machine, { limitMs });
      expect(await stage.timed(round.decided())).toEqual({ ms: 0, gives: false });
      expect(round.wasCut).toBe(false);
      const { votesAgainst } = await round.stats();
      expect([...votesAgainst.values()].map(({ message }) => message)).toEqual(
        nodes.map(() => "no time was left to ask it"),
      );
      await stage.sleep(10);
      expect(stage.asked).toEqual([]);
      expect(machine.host.timers.size).toBe(0);
      const why = ask(nodes, machine, { limitMs, refusal: () => held });
      expect(why.ballots.map(({ vote }) => vote)).toEqual(nodes.map(() => held));
    })(),
  );

  it(
    "is not ended by its limit once it is decided",
    played(async (stage) => {
      const { nodes, machine } = await stage.nodes();
      stage.freeze([3, 4]);
      const round = ask(nodes, machine, { limitMs: 20 });
      expect(await round.decided()).toBe(true);
      await round.complete();
      expect(round.elapsedMs).toBe(50);
      expect(round.wasCut).toBe(false);
      expect(await round.decided()).toBe(true);
    }),
  );

  it(
    "wakes up for nothing but a deadline",
    played(async (stage) => {
      const { nodes, machine } = await stage.nodes();
      stage.freeze([3, 4]);
      const { environment } = machine.internals;
      const delays: number[] = [];
      const round = ask(
        nodes,
        {
          ...machine,
          internals: {
            ...machine.internals,
            environment: {
              ...environment,
              setTimer: (callback, delayMs) => {
                delays.push(delayMs);
                return environment.setTimer(callback, delayMs);
              },
            },
          },
        },
        { limitMs: 20, nodeTimeoutMs: (node) => (node === nodes[4] ? 80 : 50) },
      );
      await round.complete();
      expect(delays).toEqual([20, 30, 30]);
    }),
  );

  it(
    "can be ended by its caller while it is undecided, and only then",
    played(async (stage) => {
      const { nodes, machine } = await stage.nodes();
      const round = ask(nodes, machine);
      const decided = round.decided();
      round.cut();
      expect(await decided).toBe(false);
      expect(round.wasCut).toBe(true);
      await round.complete();
      expect(await round.decided()).toBe(false);

      const granted = ask(nodes, machine, {
        operation: () => acquireOperation(["s"], "mine", 10_000),
      });
      await granted.decided();
      granted.cut();
      expect(await granted.decided()).toBe(true);
      expect(granted.wasCut).toBe(false);
    }),
  );

  it(
    "reads the answers that came while the process was busy before it says that none came",
    played(async (stage) => {
      const { nodes, machine } = await stage.nodes();
      const round = ask(nodes, machine);
      machine.host.pause(500);
      const { votesFor } = await round.stats();
      expect(votesFor.size).toBe(5);
      expect(await round.decided()).toBe(true);
    }),
  );

  it(
    "takes a judge that throws for a vote against",
    played(async (stage) => {
      const { nodes, machine } = await stage.nodes();
      const refusals: [Error, Node][] = [];
      const round = ask(nodes, machine, {
        judge: () => {
          throw held;
        },
        onRefusal: (error, node) => refusals.push([error, node]),
      });
      expect(await round.decided()).toBe(false);
      await round.complete();
      expect(refusals).toEqual(nodes.map((node) => [held, node]));
    }),
  );

  it(
    "tells of each vote against once, as soon as it is counted",
    played(async (stage) => {
      const { nodes, machine } = await stage.nodes();
      stage.occupy([0], "r");
      stage.freeze([1], 70);
      const told: string[] = [];
      const round = ask(nodes, machine, {
        onRefusal: ({ message }, node) => {
          expect(round.ballots.find((ballot) => ballot.node === node)?.vote).toBeInstanceOf(Error);
          told.push(`${round.elapsedMs} ms ${node.name} ${message}`);
        },
      });
      await stage.sleep(100);
      expect(told).toEqual(["2 ms node-1:6379 held", "50 ms node-2:6379 no answer in 50 ms"]);
    }),
  );
});

describe("a round's nodes", () => {
  it(
    "vote against at once where they are down, and are not asked",
    played(async (stage) => {
      const { nodes, machine } = await stage.nodes();
      stage.crash([0, 1, 2]);
      await stage.sleep(2);
      const round = ask(nodes, machine);
      expect(await stage.timed(round.decided())).toEqual({ ms: 0, gives: false });
      expect(round.ballots.map(({ asked }) => asked)).toEqual([false, false, false, true, true]);
      expect(nodes.map((node) => round.isInFlight(node))).toEqual([
        false,
        false,
        false,
        true,
        true,
      ]);
      await round.complete();
      expect(nodes.map((node) => round.isInFlight(node))).not.toContain(true);
    }),
  );

  it(
    "refuse at once where all are down",
    played(async (stage) => {
      const { nodes, machine } = await stage.nodes();
      stage.crash([0, 1, 2, 3, 4]);
      await stage.sleep(2);
      const round = ask(nodes, machine);
      expect(await stage.timed(round.decided())).toEqual({ ms: 0, gives: false });
      expect((await round.stats()).votesAgainst.size).toBe(5);
    }),
  );

  it(
    "have nothing more in flight once their connection was lost",
    played(async (stage) => {
      const { nodes, machine } = await stage.nodes();
      stage.freeze([0]);
      const round = ask(nodes, machine);
      const [first] = nodes;
      if (first === undefined) throw new Error("no node");
      await stage.sleep(10);
      expect(round.isInFlight(first)).toBe(true);
      machine.links[0]?.reset();
      await stage.sleep(2);
      expect(round.isInFlight(first)).toBe(false);
      expect(String(round.ballots[0]?.vote)).toBe("Error: Connection is closed.");
    }),
  );

  it(
    "that let a round time out vote against the next at once, until they answer",
    played(async (stage) => {
      const { nodes, machine } = await stage.nodes();
      stage.freeze([0, 1, 2], 90);
      const first = ask(nodes, machine);
      expect(await first.decided()).toBe(false);
      expect(nodes.map((node) => first.isInFlight(node))).toEqual([true, true, true, false, false]);
      const second = ask(nodes, machine, {
        operation: () => acquireOperation(["s"], "mine", 10_000),
      });
      expect(await stage.timed(second.decided())).toEqual({ ms: 0, gives: false });
      expect(nodes.map((node) => second.isInFlight(node))).toEqual([
        false,
        false,
        false,
        true,
        true,
      ]);
      await stage.sleep(50);
      expect(nodes.map((node) => first.isInFlight(node))).not.toContain(true);
      const third = ask(nodes, machine, {
        operation: () => acquireOperation(["t"], "mine", 10_000),
      });
      expect(await third.decided()).toBe(true);
    }),
  );

  it(
    "that are connecting for the first time are awaited within their time",
    played(async (stage) => {
      const machine = stage.machine();
      setRoundTrips(machine, [10, 10, 10]);
      const nodes = nodesOf(machine);
      const round = ask(nodes, machine);
      expect(nodes.map((node) => round.isInFlight(node))).toEqual([false, false, false]);
      expect(await stage.timed(round.decided())).toEqual({ ms: 20, gives: true });
    }, 3),
  );

  it(
    "that connect when the others have decided are not asked any more, unless it is a release",
    played(async (stage) => {
      const machine = stage.machine();
      setRoundTrips(machine, [2, 2, 40]);
      const nodes = nodesOf(machine);
      const acquisition = ask(nodes, machine);
      const release = ask(nodes, machine, {
        operation: () => releaseOperation(["other"], "mine"),
        judge: () => undefined,
        nodeTimeoutMs: () => 100,
      });
      await release.complete();
      expect(stage.questions("acquire").map(({ node }) => node)).toEqual([0, 1]);
      expect(stage.questions("release").map(({ node }) => node)).toEqual([0, 1, 2]);
      const { votesAgainst } = await acquisition.stats();
      expect([...votesAgainst.values()].map(String)).toEqual([
        "NodeError: not asked in time: the others had decided",
      ]);
    }, 3),
  );
});

describe("what a round says of its votes", () => {
  const isHeld = (error: Error): boolean => error === held;

  it(
    "tells that votes for and held answers together are a quorum as soon as that is certain",
    played(async (stage) => {
      const { nodes, machine } = await stage.nodes();
      setRoundTrips(machine, [2, 10, 20, 30, 40]);
      stage.occupy([1, 2], "r");
      const round = ask(nodes, machine);
      expect(await stage.timed(round.quorumWith(isHeld))).toEqual({ ms: 20, gives: true });
    }),
  );

  it(
    "tells that they cannot be one as soon as that is certain",
    played(async (stage) => {
      const { nodes, machine } = await stage.nodes();
      setRoundTrips(machine, [2, 10, 20, 2, 2]);
      stage.occupy([0], "r");
      stage.freeze([2, 3, 4]);
      const round = ask(nodes, machine, {
        nodeTimeoutMs: (node) => 30 + 10 * nodes.indexOf(node),
      });
      expect(await stage.timed(round.quorumWith(isHeld))).toEqual({ ms: 70, gives: false });
    }),
  );

  it(
    "is hopeless once so many are against for one reason that no quorum is left",
    played(async (stage) => {
      const { nodes, machine } = await stage.nodes();
      setRoundTrips(machine, [2, 10, 20, 30, 40]);
      stage.occupy([0, 1, 2], "r");
      const round = ask(nodes, machine);
      await stage.sleep(10);
      expect(round.isHopeless(isHeld)).toBe(false);
      await stage.sleep(11);
      expect(round.isHopeless(isHeld)).toBe(true);
      expect(round.isHopeless((error) => error !== held)).toBe(false);
      await round.complete();

      const granted = ask(nodes, machine, {
        operation: () => acquireOperation(["s"], "mine", 10_000),
        judge: () => undefined,
      });
      expect(granted.isHopeless(() => true)).toBe(false);
      await granted.complete();
      expect(granted.isHopeless(() => true)).toBe(false);
    }),
  );
});

describe("a doubtful vote", () => {
  /** A node that answers when the test says so, and that may have started recently. */
  class YoungNode {
    readonly client = {};
    readonly mayBeFresh = true;
    doubt: Error | undefined = new Error("started recently");
    isSilent = false;
    #inquiry: Inquiry | undefined;

    constructor(readonly name: string) {}

    refusal = (): undefined => undefined;
    heldBack = (): undefined => undefined;
    connecting = (): undefined => undefined;
    distrust = (): Error | undefined => this.doubt;

    ask(inquiry: Inquiry): void {
      this.#inquiry = inquiry;
    }

    fellSilent(): void {
      this.isSilent = true;
    }

    votesFor(): void {
      this.#inquiry?.onReply("OK");
    }

    votesAgainst(): void {
      this.#inquiry?.onReply(null);
    }
  }

  type Five = [YoungNode, YoungNode, YoungNode, YoungNode, YoungNode];

  /** A round of five nodes, of which those with these indexes are young. */
  function roundOf(machine: Machine, young: readonly number[]): { round: Round; nodes: Five } {
    const nodes = [0, 1, 2, 3, 4].map((index) => new YoungNode(`node-${index}`)) as Five;
    for (const [index, node] of nodes.entries()) if (!young.includes(index)) node.doubt = undefined;
    return { round: ask(nodes as unknown as Node[], machine), nodes };
  }

  /** A vote against as its message. */
  function votesOf({ ballots }: Round): (string | undefined)[] {
    return ballots.map(({ vote }) => (vote instanceof Error ? vote.message : vote));
  }

  it(
    "counts neither for nor against while another node has not voted",
    played(async (stage) => {
      const { round, nodes } = roundOf((await stage.nodes()).machine, [0, 1]);
      nodes[0].votesFor();
      nodes[1].votesFor();
      nodes[2].votesFor();
      nodes[3].votesAgainst();
      expect(votesOf(round)).toEqual([undefined, undefined, "for", "held", undefined]);
      nodes[4].votesFor();
      expect(votesOf(round)).toEqual([
        "started recently",
        "started recently",
        "for",
        "held",
        "for",
      ]);
      expect(await round.decided()).toBe(false);
    }),
  );

  it(
    "is one for as soon as the node is no longer young, and leaves the other doubts as they are",
    played(async (stage) => {
      const { round, nodes } = roundOf((await stage.nodes()).machine, [0, 1]);
      nodes[0].votesFor();
      nodes[0].doubt = undefined;
      nodes[1].votesFor();
      expect(votesOf(round)).toEqual(["for", undefined, undefined, undefined, undefined]);
      nodes[2].votesFor();
      nodes[3].votesFor();
      expect(votesOf(round)).toEqual(["for", undefined, "for", "for", undefined]);
      expect(await round.decided()).toBe(true);
      nodes[1].doubt = undefined;
      nodes[4].votesFor();
      expect(votesOf(round)).toEqual(["for", "for", "for", "for", "for"]);
    }),
  );

  it(
    "is against once all the others have voted, some of them against",
    played(async (stage) => {
      const { round, nodes } = roundOf((await stage.nodes()).machine, [1]);
      nodes[0].votesAgainst();
      nodes[2].votesFor();
      nodes[3].votesFor();
      nodes[4].votesAgainst();
      expect(round.ballots[1]?.vote).toBeUndefined();
      nodes[1].votesFor();
      expect(votesOf(round)).toEqual(["held", "started recently", "for", "for", "held"]);
      expect(await round.decided()).toBe(false);
    }),
  );

  it(
    "is decided at the node's timeout, and the node is not silent",
    played(async (stage) => {
      const { round, nodes } = roundOf((await stage.nodes()).machine, [0, 1]);
      nodes[0].votesFor();
      nodes[1].votesFor();
      nodes[2].votesFor();
      nodes[3].votesFor();
      nodes[1].doubt = undefined;
      expect(await stage.timed(round.decided())).toEqual({ ms: 50, gives: true });
      expect(votesOf(round)).toEqual([
        "started recently",
        "for",
        "for",
        "for",
        "no answer in 50 ms",
      ]);
      expect(nodes.map(({ isSilent }) => isSilent)).toEqual([false, false, false, false, true]);
    }),
  );
});
