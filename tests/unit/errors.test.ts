import { afterEach, describe, expect, test } from "@jest/globals";
import { appliedToFew } from "../../src/errors.js";

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
