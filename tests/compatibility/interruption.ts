const controller = new AbortController();

/** Is aborted when this process is to end, so that child processes end first and temporary folders are removed. */
export const interruption = controller.signal;

/** The exit status of a run that Ctrl-C ended. */
export const INTERRUPTED = 130;

// Not `once`: npm and tsx may each pass the same Ctrl-C on.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => {
    controller.abort();
  });
}
