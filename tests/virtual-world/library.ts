import { Redlock } from "../../src/index.js";
import { internalsKey } from "../../src/internals.js";
import { acquireFencedScript } from "../../src/operations/acquire-fenced.js";
import { acquireScript } from "../../src/operations/acquire.js";
import { batchScript } from "../../src/operations/batch.js";
import { confirmFenceScript } from "../../src/operations/confirm-fence.js";
import { extendFencedScript } from "../../src/operations/extend-fenced.js";
import { extendScript } from "../../src/operations/extend.js";
import { forceReleaseScript } from "../../src/operations/force-release.js";
import { handOverScript } from "../../src/operations/hand-over.js";
import { inspectScript } from "../../src/operations/inspect.js";
import { joinPermitsScript } from "../../src/operations/join-permits.js";
import { joinScript } from "../../src/operations/join.js";
import { leaveScript } from "../../src/operations/leave.js";
import { lookScript } from "../../src/operations/look.js";
import { releaseScript } from "../../src/operations/release.js";
import {
  acquireSharedScript,
  extendSharedScript,
  releaseSharedScript,
} from "../../src/operations/shared.js";
import { takeFencedScript } from "../../src/operations/take-fenced.js";
import { takePermitScript } from "../../src/operations/take-permit.js";
import { takeScript } from "../../src/operations/take.js";

/** This library; a copy with a planted bug has the same. */
export const library = {
  Redlock,
  internalsKey,
  acquireScript,
  acquireFencedScript,
  acquireSharedScript,
  batchScript,
  confirmFenceScript,
  extendScript,
  extendFencedScript,
  extendSharedScript,
  forceReleaseScript,
  handOverScript,
  inspectScript,
  joinPermitsScript,
  joinScript,
  leaveScript,
  lookScript,
  releaseScript,
  releaseSharedScript,
  takeFencedScript,
  takePermitScript,
  takeScript,
};

/** What the simulator needs of the library: this one, or a copy with a planted bug. */
export type Library = typeof library;
