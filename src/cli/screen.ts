import { statusOfSignal } from "./signals.js";

/** How much a terminal shows. */
export interface Size {
  readonly columns: number;
  readonly rows: number;
}

/** To the alternate screen, without a cursor, and without wrapping long lines. */
const ENTER = "\u001b[?1049h\u001b[?25l\u001b[?7l";
const LEAVE = "\u001b[?7h\u001b[?25h\u001b[?1049l";
const HOME = "\u001b[H";
const END_LINE = "\u001b[K";
const CLEAR_BELOW = "\u001b[J";
const ENDING = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;
const CTRL_C = "\u0003";
const CTRL_Z = "\u001a";

/** The whole terminal, as an editor uses it. However the program ends, the terminal is then as it was before. */
export class Screen {
  /** Resolves with an exit status when the user or a signal ends the program. */
  readonly ended: Promise<number>;
  #end: (status: number) => void = () => undefined;
  #isOn = false;
  #view: (size: Size) => readonly string[] = () => [];
  /** Called when the user asks for new data. */
  onRefresh: () => void = () => undefined;

  constructor() {
    const { stdin, stdout } = process;
    this.ended = new Promise((resolve) => (this.#end = resolve));
    this.#enter();
    process.once("exit", this.leave);
    for (const signal of ENDING) {
      process.on(signal, () => {
        this.#end(statusOfSignal(signal));
      });
    }
    // After Ctrl-Z, the shell has written on the terminal.
    process.on("SIGCONT", () => {
      this.#enter();
    });
    stdout.on("resize", () => {
      this.#draw();
    });
    // The terminal is gone.
    stdout.on("error", () => {
      this.#end(statusOfSignal("SIGHUP"));
    });
    if (stdin.isTTY) stdin.setEncoding("utf8").on("data", this.#onKeys).resume();
  }

  /** Shows the lines that `view` returns for the size of the terminal, again after each change of the size. */
  show(view: (size: Size) => readonly string[]): void {
    this.#view = view;
    this.#draw();
  }

  /** Gives the terminal back. */
  readonly leave = (): void => {
    if (!this.#isOn) return;
    this.#isOn = false;
    process.stdout.write(LEAVE);
    if (process.stdin.isTTY) process.stdin.setRawMode(false).pause();
  };

  #enter(): void {
    if (this.#isOn) return;
    this.#isOn = true;
    process.stdout.write(ENTER);
    if (process.stdin.isTTY) process.stdin.setRawMode(true).resume();
    this.#draw();
  }

  readonly #onKeys = (keys: string | Buffer): void => {
    for (const key of keys.toString()) {
      if (key === "q" || key === "Q") this.#end(0);
      else if (key === CTRL_C) this.#end(statusOfSignal("SIGINT"));
      else if (key === " ") this.onRefresh();
      else if (key === CTRL_Z) {
        this.leave();
        process.kill(process.pid, "SIGSTOP");
      }
    }
  };

  #draw(): void {
    if (!this.#isOn) return;
    const [columns, rows] = process.stdout.getWindowSize();
    // A terminal that does not tell its size has 0 of both.
    const size = { columns: columns === 0 ? 80 : columns, rows: rows === 0 ? 24 : rows };
    const lines = this.#view(size).slice(0, size.rows);
    // Line by line over what is there: to clear the screen first would make it flicker.
    process.stdout.write(
      `${HOME}${lines.map((line) => line + END_LINE).join("\r\n")}${CLEAR_BELOW}`,
    );
  }
}
