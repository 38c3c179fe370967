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
  readonly votesFor: Set<Client>;
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
  | { readonly client: Client; readonly vote: "for"; readonly value: number }
  | { readonly client: Client; readonly vote: "against"; readonly error: Error };
