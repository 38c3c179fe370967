import { Command, CommanderError, Help } from "commander";
import { complain, EXIT } from "./failure.js";

/** Of a terminal, in columns. */
export const WIDTH = 80;

/** Makes a command whose help fits a terminal, and that answers a wrong call with one line and status 64. */
export function makeCommand(name: string, summary: string): Command {
  return new Command(name)
    .summary(summary)
    .helpOption("-h, --help", "show this help")
    .helpCommand(false)
    .configureHelp({
      helpWidth: WIDTH,
      // The subcommands take operands that their usage shows better.
      subcommandTerm: (command) => command.name(),
      optionDescription: (option) =>
        option.defaultValue === undefined || option.defaultValueDescription !== undefined
          ? Help.prototype.optionDescription(option)
          : option.description,
    })
    .configureOutput({
      outputError: (text) => {
        const called = name === "redlock" ? name : `redlock ${name}`;
        const line = inOneLine(text);
        const sentence = line.charAt(0).toUpperCase() + line.slice(1);
        complain(`${sentence} Run ${called} --help for the options.`);
      },
    })
    .exitOverride(({ exitCode }) => {
      throw new HelpShown(exitCode === 0 ? EXIT.ok : EXIT.usage);
    });
}

/** Ends the program after commander has printed a help or an error. */
export class HelpShown extends CommanderError {
  constructor(readonly status: number) {
    super(status, "redlock.shown", "");
  }
}

/** An error of commander, as one sentence, with its suggestion as a second one. */
export function inOneLine(text: string): string {
  const line = text
    .replace(/^error: /, "")
    .trim()
    .replace(/\s*\n\s*\((.*)\)$/, ". $1")
    .replace(/\s*\n\s*/g, " ");
  return /[.?]$/.test(line) ? line : `${line}.`;
}
