/** @module redlock-quorum/opentelemetry */

export { observeRedlock, type ObserveOptions } from "./observe.js";
