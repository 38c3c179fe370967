/**
 * Redis servers in memory, for unit tests of code that uses this library.
 *
 * @module redlock-quorum/testing
 */

export type { MemoryClient } from "./memory-client.js";
export type { MemoryNode } from "./memory-node.js";
export { type MemoryNodes, memoryNodes } from "./memory-nodes.js";
