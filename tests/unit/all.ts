// For mutation testing, which runs all of them on every change: as one file they are loaded once.
import "./algorithm/acquire.test.js";
import "./algorithm/closing.test.js";
import "./algorithm/extend.test.js";
import "./algorithm/fence.test.js";
import "./algorithm/full-quorum.test.js";
import "./nodes/restart-guard.test.js";
import "./algorithm/keeper.test.js";
import "./algorithm/lease.test.js";
import "./lock.test.js";
import "./nodes/node.test.js";
import "./nodes/pending-releases.test.js";
import "./quorum/round.test.js";
import "./algorithm/release.test.js";
import "./runtime/sleep.test.js";
import "./algorithm/using.test.js";
import "./algorithm/validity.test.js";
import "./waiting/subscriptions.test.js";
