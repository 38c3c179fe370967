/**
 * ioredis says this of each server that refuses INFO, as some do on purpose here. It stays out of the
 * report, in which everything printed should be worth reading.
 */
const KNOWN = "Skipping the ready check because INFO command fails";

const { warn } = console;
console.warn = (...said: unknown[]): void => {
  if (!String(said[0]).startsWith(KNOWN)) warn(...said);
};
