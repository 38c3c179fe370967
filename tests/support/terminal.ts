// What the commands of this repository share: reading their arguments, and colours on a terminal.

import { styleText } from "node:util";
import { Command, Help, InvalidArgumentError } from "commander";
import { inOneLine } from "../../src/cli/command.js";

/** The exit code of a call with wrong arguments. */
export const WRONG_CALL = 2;

/**
 * Returns a command with `--help`. A wrong call ends the process: one line on stderr says what is
 * wrong and where the options are listed.
 */
export function npmScript(script: string, description: string): Command {
  const name = `npm run ${script}`;
  return new Command(name)
    .description(description)
    .usage("[-- options]")
    .helpOption("-h, --help", "show this help")
    .configureHelp({
      helpWidth: 80,
      optionDescription: (option) =>
        option.defaultValue === false
          ? option.description
          : Help.prototype.optionDescription(option),
    })
    .configureOutput({
      outputError: (text, write) => {
        write(`${name}: ${inOneLine(text)} Run ${name} -- --help for the options.\n`);
      },
    })
    .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : WRONG_CALL));
}

/** Returns a parser of whole numbers, for an option of a command. */
export function wholeNumber(least = -Infinity): (text: string) => number {
  return (text) => {
    const number = text.trim() === "" ? NaN : Number(text);
    if (Number.isSafeInteger(number) && number >= least) return number;
    const range = least === -Infinity ? "" : ` of at least ${least}`;
    throw new InvalidArgumentError(`Give a whole number${range}.`);
  };
}

/** Parses a number above zero, for an option of a command. */
export function positiveNumber(text: string): number {
  const number = Number(text);
  if (number > 0) return number;
  throw new InvalidArgumentError("Give a number above 0.");
}

/** Colours the text if stdout is a terminal with colours, and `NO_COLOR` is not set. */
export function coloured(colour: "green" | "red" | "yellow" | "dim", text: string): string {
  const { stdout } = process;
  return stdout.isTTY && stdout.hasColors() ? styleText(colour, text) : text;
}
