import * as ioredis6 from "ioredis";
import * as ioredis5 from "ioredis-5";
import { type NodeEntry, Redlock } from "redlock-quorum";

/** One client of each version of ioredis. */
export function clients(url5: string, url6: string): NodeEntry[] {
  return [new ioredis5.Redis(url5), new ioredis6.Redis(url6)];
}

/** Compiles: each of these is a node as it is, without a cast. */
export function ofOneKind(port: number): Redlock[] {
  const options = { host: "127.0.0.1", port, lazyConnect: true };
  return [
    new Redlock([new ioredis5.Redis(options), new ioredis5.Redis(options)]),
    new Redlock([new ioredis6.Redis(options), new ioredis6.Redis(options)]),
    new Redlock([new ioredis6.Redis({ ...options, protocol: 3, replyMapping: "resp3" })]),
    new Redlock([new ioredis5.Cluster([options])]),
    new Redlock([new ioredis6.Cluster([options])]),
    new Redlock(new Set([new ioredis6.Redis(options), new ioredis6.Cluster([options])])),
  ];
}
