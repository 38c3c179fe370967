import { type Library, library } from "../../virtual-world/library.js";
import { turn } from "../../virtual-world/turn.js";
import type { Programs } from "./client.js";
import { type Found, search } from "./search.js";
import type { Bounds } from "./system.js";

/** Out of the microtasks, which a schedule must be able to run to their end. */
export function searched(
  programs: Programs,
  bounds: Bounds,
  { reduced = true, of = library }: { reduced?: boolean; of?: Library } = {},
): Promise<Found> {
  return turn(() => search(programs, of, bounds, { reduced }));
}
