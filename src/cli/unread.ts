import { statusOfSignal } from "./signals.js";

/**
 * Ends the program when nobody reads its output any more, as after `| head`, where Node would print an error. No command
 * prints while it holds a lock.
 */
export function endWhenUnread(): void {
  // What it complains of, the exit status says, too.
  process.stderr.on("error", () => undefined);
  process.stdout.on("error", ({ code }: NodeJS.ErrnoException) => {
    // Any other error is one of the terminal, for redlock top.
    if (code === "EPIPE") process.exit(statusOfSignal("SIGPIPE"));
  });
}
