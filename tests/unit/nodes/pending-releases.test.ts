import { describe, expect, it } from "@jest/globals";
import { acquireOperation } from "../../../src/operations/acquire-fenced.js";
import { played, type Stage } from "../../virtual-world/stage.js";

const SETTING = { isUndecided: () => true, onReply: () => undefined, onError: () => undefined };

/** The values that the first server was told to release, in their order. */
function released(stage: Stage): string[] {
  return stage.questions("release").flatMap(({ node, args }) => (node === 0 ? args.slice(-1) : []));
}

describe("releases that a server is owed", () => {
  it(
    "are the last thousand; of the older ones the ttl alone frees the keys",
    played(async (stage) => {
      const { nodes } = await stage.nodes();
      stage.freeze([0], 2000);
      nodes[0]?.fellSilent();
      const values = Array.from({ length: 1003 }, (_, index) => `v${index}`);
      for (const value of values)
        nodes[0]?.addRelease({ keys: ["r"], value, shared: false, ttlMs: 20_000 }, false);
      await stage.sleep(3000);
      expect(released(stage)).toEqual(values.slice(3));
    }),
  );

  it(
    "are kept for their ttl from when a command settled that may have set their keys",
    played(async (stage) => {
      const { nodes, machine } = await stage.nodes();
      const link = machine.links[0];
      stage.freeze([0], 3500);
      nodes[0]?.ask({ ...SETTING, operation: acquireOperation(["r"], "late", 3000) });
      await stage.sleep(1);
      nodes[0]?.fellSilent();
      nodes[0]?.addRelease({ keys: ["r"], value: "late", shared: false, ttlMs: 3000 }, true);
      await stage.sleep(3200);
      // What was in flight is lost with the connection, though the server may have read it.
      link?.cut("both");
      link?.reset();
      await stage.sleep(600);
      link?.heal("both");
      await stage.sleep(2000);
      expect(released(stage)).toEqual(["late"]);
    }),
  );

  it(
    "are forgotten, once their ttl has passed, as soon as no command is in flight that may set keys",
    played(async (stage) => {
      const { nodes, machine } = await stage.nodes();
      const link = machine.links[0];
      stage.freeze([0], 1500);
      nodes[0]?.ask({ ...SETTING, operation: acquireOperation(["s"], "another", 60_000) });
      await stage.sleep(1);
      nodes[0]?.fellSilent();
      nodes[0]?.addRelease({ keys: ["r"], value: "old", shared: false, ttlMs: 1000 }, false);
      nodes[0]?.addRelease({ keys: ["s"], value: "another", shared: false, ttlMs: 60_000 }, false);
      await stage.sleep(1200);
      link?.cut("both");
      link?.reset();
      await stage.sleep(1000);
      link?.heal("both");
      await stage.sleep(2000);
      expect(released(stage)).toEqual(["another"]);
      nodes[0]?.forgetPending();
    }),
  );
});
