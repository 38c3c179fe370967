import { Redlock } from "../../src/index.js";
import { internalsKey } from "../../src/internals.js";
import { acquireFencedScript } from "../../src/scripts/acquire-fenced.js";
import { acquireScript } from "../../src/scripts/acquire.js";
import { batchScript } from "../../src/scripts/batch.js";
import { confirmFenceScript } from "../../src/scripts/confirm-fence.js";
import { extendFencedScript } from "../../src/scripts/extend-fenced.js";
import { extendScript } from "../../src/scripts/extend.js";
import { inspectScript } from "../../src/scripts/inspect.js";
import { releaseScript } from "../../src/scripts/release.js";

/** What the simulator needs of the library: this one, or a copy with a planted bug. */
export interface Library {
  readonly Redlock: typeof Redlock;
  readonly internalsKey: typeof internalsKey;
  readonly acquireScript: typeof acquireScript;
  readonly acquireFencedScript: typeof acquireFencedScript;
  readonly batchScript: typeof batchScript;
  readonly confirmFenceScript: typeof confirmFenceScript;
  readonly extendScript: typeof extendScript;
  readonly extendFencedScript: typeof extendFencedScript;
  readonly inspectScript: typeof inspectScript;
  readonly releaseScript: typeof releaseScript;
}

export const library: Library = {
  Redlock,
  internalsKey,
  acquireScript,
  acquireFencedScript,
  batchScript,
  confirmFenceScript,
  extendScript,
  extendFencedScript,
  inspectScript,
  releaseScript,
};
