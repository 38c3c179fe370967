// The sequence diagrams of docs/how-it-works.md, from top to bottom as a reader meets them.
//
//   npx tsx docs/diagrams/draw.ts      writes the SVG files anew

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { begin, type Diagram, draw, end, note, replies, send } from "./sequence.js";

export const REGENERATE = "npx tsx docs/diagrams/draw.ts";

const NODES = ["node 1", "node 2", "node 3", "node 4", "node 5"];
const ANSWERING = NODES.slice(0, 4);

/** The name is that of the file. */
export const DIAGRAMS: readonly Diagram[] = [
  {
    name: "acquire",
    title: "An acquisition: three of five nodes vote for the lock, and the client has it",
    actors: ["client", ...NODES],
    hung: ["node 5"],
    steps: [
      note("client", "Reads both clocks,", "draws a random value"),
      send("client", NODES, "SET key value NX PX ttl"),
      replies("client", { "node 1": "OK", "node 2": "OK", "node 3": "OK" }, "3 of 5: a majority"),
      note("client", "ttl − elapsed − drift > 0:", "acquire() returns the lock"),
      begin("client"),
      replies("client", { "node 4": "OK" }, "for the statistics"),
      note("node 5", "No reply within its", "timeout: votes against"),
      send("client", ["node 5"], "the key, when node 5", "replies again"),
      end("client"),
    ],
  },
  {
    name: "failed-attempt",
    title: "A failed attempt: the client releases every node that it asked",
    actors: ["client", ...NODES],
    hung: ["node 5"],
    steps: [
      send("client", NODES, "SET key value NX PX ttl"),
      replies(
        "client",
        { "node 1": "OK", "node 2": "OK", "node 3": "held", "node 4": "held" },
        "2 for, 2 against",
      ),
      note("node 5", "No reply within its", "timeout: votes against"),
      note("client", "2 for, 3 against:", "the attempt has failed"),
      send("client", NODES, "release: delete the key", "if it holds this value"),
      note("client", "Only now the caller", "waits or gets the error"),
      replies("client", Object.fromEntries(ANSWERING.map((node) => [node, "done"])), "confirmed"),
      send("client", ["node 5"], "pending release: until", "confirmed, or the ttl is over"),
    ],
  },
  {
    name: "queue",
    title: "The queue: A hands the lock over to B, and C comes too late",
    actors: ["A", "every node", "B", "C"],
    steps: [
      begin("A"),
      send("B", ["every node"], "SET key value NX PX ttl"),
      replies("B", { "every node": "held by A" }),
      send("B", ["every node"], "subscribe, then join:", "ticket and channel"),
      note("every node", "queue: B"),
      send("A", ["every node"], "release"),
      end("A"),
      note("every node", "One script: PUBLISH to B,", "reserve the key for B"),
      send("every node", ["B"], "notify"),
      send("C", ["every node"], "SET key value NX PX ttl"),
      replies("C", { "every node": "held: reserved" }),
      send("C", ["every node"], "subscribe, then join"),
      note("B", "A quorum of nodes", "has notified B"),
      send("B", ["every node"], "take: turn the reservation", "into a lock"),
      replies("B", { "every node": "OK" }),
      begin("B"),
      send("B", ["every node"], "release"),
      end("B"),
      note("every node", "The same script,", "now for C"),
    ],
  },
  {
    name: "fencing",
    title: "A stale writer: the resource rejects the smaller token",
    actors: ["client A", "nodes", "client B", "resource"],
    steps: [
      send("client A", ["nodes"], "acquire"),
      replies("client A", { nodes: "token 41" }),
      begin("client A"),
      note("client A", "Checks lock.valid,", "then is paused"),
      end("client A"),
      begin("client A", "paused"),
      note("nodes", "The ttl passes:", "A's key expires"),
      send("client B", ["nodes"], "acquire"),
      replies("client B", { nodes: "token 42" }),
      begin("client B"),
      send("client B", ["resource"], "write, token 42"),
      replies("client B", { resource: "stored 42" }),
      end("client A"),
      note("client A", "Resumes, unaware that", "the ttl has passed"),
      send("client A", ["resource"], "write, token 41"),
      replies("client A", { resource: "rejected: 41 < 42" }),
      end("client B"),
    ],
  },
];

if (process.argv[1] === import.meta.filename) {
  for (const diagram of DIAGRAMS) {
    await writeFile(join(import.meta.dirname, `${diagram.name}.svg`), draw(diagram).svg);
  }
}
