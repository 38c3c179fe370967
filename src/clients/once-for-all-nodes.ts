import type { Connection } from "./connection.js";

/** Makes what a client needs of a command. */
type Make<Made> = (...command: Parameters<Connection["send"]>) => Made;

/** Returns `make`, but keeps what it made last: in one turn, mostly every node is sent the same command. */
export function onceForAllNodes<Made>(make: Make<Made>): Make<Made> {
  let last:
    | {
        readonly command: string;
        readonly args: Parameters<Connection["send"]>[1];
        readonly made: Made;
      }
    | undefined;
  return (command, args) => {
    if (last?.args !== args || last.command !== command) {
      last = { command, args, made: make(command, args) };
    }
    return last.made;
  };
}
