import type { Command } from "commander";
import type { ForcedRelease, Redlock } from "../index.js";
import { makeCommand } from "./command.js";
import { EXIT, wrongCall } from "./failure.js";
import { type NodeOptions, NODES_HELP, readConfig, withNodeOptions } from "./nodes.js";
import { NO_OWNER, permitCount } from "./permits.js";
import { JSON_OPTION, print, printable, printJson, withNodes } from "./report.js";

interface UnlockOptions extends NodeOptions {
  readonly force?: boolean;
  readonly json?: boolean;
  readonly permits?: number;
}

const HELP = `
The next waiter in the queue gets the lock. If readers hold it, the locks of all
readers end; with --permits, all permits end. Use it for a holder that has died,
or that must give way.

A holder that is alive learns of it only when it next extends its lock. Until
then two may work at once: look with redlock status, and end the holder first.
${NODES_HELP}

Exit status: 0, also if nobody held them, or
  64  wrong arguments
  69  fewer than a quorum of the nodes ended the lock

Example:
  redlock status nightly-report
  redlock unlock nightly-report --force`;

/** Makes `redlock unlock`. */
export function unlockCommand(): Command {
  const command = makeCommand("unlock", "end a lock, whoever holds it")
    .description("Ends a lock, whoever holds it.")
    .usage("--force [options] NAME...")
    .argument("<name...>")
    .option("--force", "required: the holder may still be working")
    .option("--permits <n>", "the NAME has n permits: end all of them", permitCount)
    .option(...JSON_OPTION);
  return withNodeOptions(command)
    .addHelpText("after", HELP)
    .action(async (names: string[], options: UnlockOptions) => {
      if (options.force !== true) {
        throw wrongCall(
          "This ends a lock whose holder may be working. Look with redlock status, then add --force.",
        );
      }
      const end = (redlock: Redlock): Promise<ForcedRelease[]> =>
        redlock.forceRelease(names, { permits: options.permits });
      const ended = await withNodes(options, readConfig(options), end, names);
      if (options.json === true) printJson(ended.map(asJson));
      else print([...new Set(names)].map((name) => inText(name, ended, options)).join("\n"));
      process.exitCode = EXIT.ok;
    });
}

function asJson({ owner, ...ended }: ForcedRelease): unknown {
  return { ...ended, owner: owner ?? null };
}

function inText(name: string, ended: readonly ForcedRelease[], { permits }: UnlockOptions): string {
  const locks = ended.filter(({ resource }) => resource === name);
  if (locks.length === 0) {
    const hint = permits === undefined ? " (if it has permits, add --permits)" : "";
    return `${printable(name)}: nobody held it${hint}`;
  }
  return locks
    .map(({ permit, owner, nodes }) => {
      const count = nodes.length === 1 ? "1 node" : `${nodes.length} nodes`;
      const lock = owner === undefined ? NO_OWNER : `the lock of ${owner}`;
      const what = permit === undefined ? lock : `permit ${permit} of ${owner ?? NO_OWNER}`;
      return `${printable(name)}: ended ${what} on ${count}`;
    })
    .join("\n");
}
