import { Redlock } from "redlock-quorum";
import { memoryNodes } from "redlock-quorum/testing";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Booking } from "./booking.js";

let nodes, redlock;

beforeEach(() => {
  vi.useFakeTimers();
  nodes = memoryNodes(5);
  redlock = new Redlock(nodes);
});

afterEach(async () => {
  await redlock.quit();
  vi.useRealTimers();
});

test("a lock expires after its ttl", async () => {
  const lock = await redlock.acquire("seat:12A", 5000);
  expect(await redlock.tryAcquire("seat:12A", 5000)).toBeNull();
  vi.advanceTimersByTime(5001);
  expect(lock.valid).toBe(false);
  expect((await redlock.tryAcquire("seat:12A", 5000)).valid).toBe(true);
});

test("a seat is not booked if the lock is lost while the customer pays", async () => {
  const booking = new Booking(redlock);
  const booked = booking.book("12A", async (signal) => {
    for (const node of nodes.slice(2)) node.freeze();
    await vi.advanceTimersByTimeAsync(5000);
    expect(signal.aborted).toBe(true);
    for (const node of nodes) await node.thaw();
  });
  await expect(booked).rejects.toMatchObject({ code: "ERR_REDLOCK_LOST" });
  expect(booking.booked).toEqual([]);
});

test("the lock of a long payment is extended", async () => {
  const booking = new Booking(redlock);
  const pay = () => vi.advanceTimersByTimeAsync(60_000);
  expect(await booking.book("12A", pay)).toBe(true);
});

test("a caller waits in the queue, and gets the lock when the holder has died", async () => {
  await redlock.acquire("seat:12A", 5000);
  const next = redlock.acquire("seat:12A", 5000, { acquireTimeout: 10_000 });
  await vi.advanceTimersByTimeAsync(6000);
  expect((await next).valid).toBe(true);
});
