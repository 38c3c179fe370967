// For mutation testing, which runs all of them on every change: as one file they are loaded once.
import "./acquire.test.js";
import "./closing.test.js";
import "./extend.test.js";
import "./fence.test.js";
import "./full-quorum.test.js";
import "./guard.test.js";
import "./keeper.test.js";
import "./lease.test.js";
import "./lock.test.js";
import "./node.test.js";
import "./owed.test.js";
import "./quorum.test.js";
import "./release.test.js";
import "./sleep.test.js";
import "./using.test.js";
import "./validity.test.js";
import "./wake-ups.test.js";
