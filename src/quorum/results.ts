import type { Client } from "../clients/client.js";

/**
 * How the nodes voted in one attempt. `votesFor` and `votesAgainst` hold the clients that were passed in; for a node given
 * as a URL, its address without credentials.
 */
export interface ExecutionStats {
  /** How many nodes there are. */
  readonly membershipSize: number;
  /** How many votes decide: half the nodes, rounded down, plus one. */
  readonly quorumSize: number;
  /** The nodes that voted for the operation. */
  readonly votesFor: Set<Client>;
  /** The nodes that voted against it, each with its error. */
  readonly votesAgainst: Map<Client, Error>;
}

/** What `release` resolves with. */
export interface ExecutionResult {
  /** One promise of statistics for each attempt. Each resolves once the last node has voted. */
  readonly attempts: readonly Promise<ExecutionStats>[];
  /** When the operation began, in epoch ms. */
  readonly start: number;
}

/** One node's vote. */
export type ClientExecutionResult =
  | {
      /** Represents the node, as in `Redlock.clients`. */
      readonly client: Client;
      /** The node applied the operation. */
      readonly vote: "for";
      /** How many resources the node applied the operation to. */
      readonly value: number;
    }
  | {
      /** Represents the node, as in `Redlock.clients`. */
      readonly client: Client;
      /** The node did not apply the operation, or its reply did not count. */
      readonly vote: "against";
      /** Why the node voted against. */
      readonly error: Error;
    };
