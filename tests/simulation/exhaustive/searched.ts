import { type Library, library } from "../../virtual-world/library.js";
import type { Programs } from "./client.js";
import { type Found, search } from "./search.js";
import type { Bounds } from "./system.js";

/** Out of the microtasks, which a schedule must be able to run to their end. */
export function searched(
  programs: Programs,
  bounds: Bounds,
  { reduced = true, of = library }: { reduced?: boolean; of?: Library } = {},
): Promise<Found> {
  return new Promise((resolve) => {
    setImmediate(() => {
      resolve(search(programs, of, bounds, { reduced }));
    });
  });
}
