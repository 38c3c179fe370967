import { describe, expect, it } from "@jest/globals";
import { type Alarm, Alarms } from "../../../src/runtime/alarms.js";
import { Link } from "../../../src/runtime/link.js";
import { played } from "../../virtual-world/stage.js";

describe("alarms that ring at one moment", () => {
  it(
    "ring in their order, except those that were cancelled, also by one that rang before",
    played(async (stage) => {
      const { environment } = stage.machine().internals;
      const alarms = new Alarms(environment, true);
      const rung: string[] = [];
      const set = (name: string, also?: () => void): Alarm =>
        alarms.set(100, 50, () => {
          rung.push(name);
          also?.();
        });
      const first = set("first", () => {
        alarms.cancel(first);
        alarms.cancel(third);
      });
      const second = set("second");
      const third = set("third");
      set("fourth", () => set("later"));
      alarms.cancel(second);
      await stage.sleep(110);
      expect(rung).toEqual(["first", "fourth"]);
      await stage.sleep(200);
      expect(rung).toEqual(["first", "fourth", "later"]);
    }),
  );

  it(
    "need no timer once all are cancelled",
    played((stage) => {
      const { environment } = stage.machine().internals;
      const cleared: object[] = [];
      const alarms = new Alarms(
        {
          ...environment,
          clearTimer: (timer) => {
            cleared.push(timer);
            environment.clearTimer(timer);
          },
        },
        true,
      );
      const both = [0, 1].map(() => alarms.set(100, 50, () => undefined));
      for (const alarm of both) alarms.cancel(alarm);
      expect(cleared).toHaveLength(1);
      return Promise.resolve();
    }),
  );
});

describe("a link that left its ring", () => {
  it("refers to no other link, and can leave again", () => {
    const ring = new Link<string>();
    const [first, second, third] = ["1", "2", "3"].map((item) => {
      const link = new Link(item);
      link.goBehind(ring.before);
      return link;
    });
    second?.leave();
    second?.leave();
    expect(second?.isAlone).toBe(true);
    expect(ring.items()).toEqual(["1", "3"]);
    first?.leave();
    third?.leave();
    expect(ring.isAlone).toBe(true);
  });
});
