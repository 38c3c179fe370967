import { complain, EXIT } from "./failure.js";
import { statusOfSignal } from "./signals.js";

/**
 * Ends the program when nobody reads its output any more, as after `| head`, where Node would print an error, or it cannot
 * be written. No command prints while it holds a lock.
 */
export function endWhenUnread(): void {
  // What it complains of, the exit status says, too.
  process.stderr.on("error", () => undefined);
  process.stdout.on("error", ({ code }: NodeJS.ErrnoException) => {
    if (code === "EPIPE") process.exit(statusOfSignal("SIGPIPE"));
    // That of a terminal is for redlock top.
    if (process.stdout.isTTY) return;
    complain(`The output cannot be written: ${code}. Look at what it is redirected to.`);
    process.exit(EXIT.unwritten);
  });
}
