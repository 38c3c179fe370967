import { Redlock } from "../../src/index.js";
import { internalsKey } from "../../src/internals.js";
import { acquireFencedScript } from "../../src/scripts/acquire-fenced.js";
import { acquireScript } from "../../src/scripts/acquire.js";
import { batchScript } from "../../src/scripts/batch.js";
import { confirmFenceScript } from "../../src/scripts/confirm-fence.js";
import { extendFencedScript } from "../../src/scripts/extend-fenced.js";
import { extendScript } from "../../src/scripts/extend.js";
import { handOverScript } from "../../src/scripts/hand-over.js";
import { inspectScript } from "../../src/scripts/inspect.js";
import { joinScript } from "../../src/scripts/join.js";
import { leaveScript } from "../../src/scripts/leave.js";
import { lookScript } from "../../src/scripts/look.js";
import { releaseScript } from "../../src/scripts/release.js";
import { takeFencedScript } from "../../src/scripts/take-fenced.js";
import { takeScript } from "../../src/scripts/take.js";

/** This library; a copy with a planted bug has the same. */
export const library = {
  Redlock,
  internalsKey,
  acquireScript,
  acquireFencedScript,
  batchScript,
  confirmFenceScript,
  extendScript,
  extendFencedScript,
  handOverScript,
  inspectScript,
  joinScript,
  leaveScript,
  lookScript,
  releaseScript,
  takeFencedScript,
  takeScript,
};

/** What the simulator needs of the library: this one, or a copy with a planted bug. */
export type Library = typeof library;
