import { afterEach, describe, expect, test } from "@jest/globals";
import { replyError } from "../../src/clients/connection.js";
import { appliedToFew, asError, NodeError } from "../../src/errors.js";

const usual = Error.stackTraceLimit;

afterEach(() => {
  Object.defineProperty(Error, "stackTraceLimit", { value: usual, writable: true });
});

describe("a vote against", () => {
  test("takes no stack, which would cost more than the vote", () => {
    const { stack, message } = appliedToFew(1, 2);
    expect(message).toBe("The operation was applied to: 1 of the 2 requested resources.");
    expect(stack).toContain(message);
    expect(stack).not.toContain("\n");
  });

  test.each([
    ["of a node that is down", new NodeError("why", "ERR_REDLOCK_NODE_DOWN", "n")],
    ["by an error of the server", replyError("why")],
  ])("takes none either: %s", (_, { stack }) => {
    expect(stack).toContain("why");
    expect(stack).not.toContain("\n");
  });

  test("leaves the next errors their stack", () => {
    appliedToFew(0, 1);
    expect(Error.stackTraceLimit).toBe(usual);
    expect(new Error("next").stack).toContain("errors.test");
  });

  test("is made also where a program has frozen Error", () => {
    Object.defineProperty(Error, "stackTraceLimit", { value: usual, writable: false });
    expect(appliedToFew(0, 1).code).toBe("ERR_REDLOCK_HELD");
  });
});

describe("what was thrown", () => {
  test.each([new Error("why"), new DOMException("why", "AbortError")])(
    "stays as it is: %s",
    (error) => {
      expect(asError(error)).toBe(error);
    },
  );

  test.each([
    ["why", "why"],
    [undefined, "undefined"],
    [Symbol("why"), "Symbol(why)"],
    [Object.create(null), "[object Object]"],
  ])("is made an error otherwise: %p", (thrown: unknown, message) => {
    expect(asError(thrown).message).toBe(message);
  });
});
