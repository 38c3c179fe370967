import type { Command } from "commander";
import { benchCommand } from "./bench.js";
import { HelpShown, makeCommand } from "./command.js";
import { completionCommand } from "./completion.js";
import { asFailure, complain, EXIT, messageOf } from "./failure.js";
import { doctorCommand } from "./doctor.js";
import { runCommand } from "./run.js";
import { statusCommand } from "./status.js";
import { topCommand } from "./top.js";
import { unlockCommand } from "./unlock.js";

/** Replaced by the build. */
declare const REDLOCK_QUORUM_VERSION: string;

const HELP = `
Exit status: 0 if all is well, 64 for wrong arguments, 69 if no quorum of the
nodes answers. Some commands have more: see their --help.`;

/** Runs the command line. Sets the exit status. @param args without the program's own name */
export async function main(args: readonly string[]): Promise<void> {
  // For all others, names follow that may begin with a dash.
  const end = args[0] === "run" ? args.indexOf("--") : -1;
  const own = end < 0 ? args : args.slice(0, end);
  const command = end < 0 ? [] : args.slice(end + 1);
  try {
    await program(command).parseAsync(own.length === 0 ? ["--help"] : own, { from: "user" });
  } catch (error) {
    process.exitCode = statusOf(error);
  }
}

function program(command: readonly string[]): Command {
  const redlock = makeCommand("redlock", "")
    .description("Locks on the majority of independent Redis servers.")
    .usage("COMMAND [options]")
    .version(REDLOCK_QUORUM_VERSION, "-V, --version", "show the version")
    .addHelpText("after", HELP);
  const commands = [
    runCommand(command),
    statusCommand(),
    topCommand(),
    unlockCommand(),
    doctorCommand(),
    benchCommand(),
    completionCommand(),
  ];
  for (const each of commands) redlock.addCommand(each);
  return redlock;
}

function statusOf(error: unknown): number {
  if (error instanceof HelpShown) return error.status;
  try {
    const { status, message } = asFailure(error);
    complain(message);
    return status;
  } catch {
    complain(`An error that should not occur: ${messageOf(error)}. Please report it.`);
    return EXIT.defect;
  }
}
