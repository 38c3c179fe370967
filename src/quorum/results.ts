import type { Client } from "../clients/client.js";

/** How the nodes voted in one attempt. `votesFor` and `votesAgainst` hold the clients passed in, or for a URL an object without its credentials. */
export interface ExecutionStats {
  /** How many nodes there are. */
  readonly membershipSize: number;
  /** How many votes decide: half the nodes, rounded down, and one. */
  readonly quorumSize: number;
  readonly votesFor: Set<Client>;
  readonly votesAgainst: Map<Client, Error>;
}

/** What `release` resolves with. */
export interface ExecutionResult {
  /** One promise of statistics an attempt, each resolved once its last vote is in. */
  readonly attempts: readonly Promise<ExecutionStats>[];
  /** When the operation began, in epoch ms. */
  readonly start: number;
}

/** One node's vote. */
export type ClientExecutionResult =
  | { readonly client: Client; readonly vote: "for"; readonly value: number }
  | { readonly client: Client; readonly vote: "against"; readonly error: Error };
