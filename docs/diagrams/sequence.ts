// Draws a sequence diagram as SVG. Columns are as far apart as the texts between them need, so that no text meets
// another, or a lifeline that is not its own.

export interface Diagram {
  readonly name: string;
  readonly title: string;
  /** From left to right. */
  readonly actors: readonly string[];
  /** Actors that do not reply: their lifelines are dashed. */
  readonly hung?: readonly string[];
  /** From top to bottom. */
  readonly steps: readonly Step[];
}

export type Step = Message | Replies | Note | Begin | End;

interface Message {
  readonly kind: "send";
  readonly from: string;
  readonly to: readonly string[];
  readonly lines: readonly string[];
}

interface Replies {
  readonly kind: "replies";
  readonly to: string;
  readonly from: Readonly<Record<string, string>>;
  readonly lines: readonly string[];
}

interface Note {
  readonly kind: "note";
  readonly actor: string;
  readonly lines: readonly string[];
}

interface Begin {
  readonly kind: "begin";
  readonly actor: string;
  readonly state: State;
}

interface End {
  readonly kind: "end";
  readonly actor: string;
}

type State = "holds" | "paused";

/** An arrow to one or more actors, with its text beside the sender. */
export function send(from: string, to: readonly string[], ...lines: string[]): Step {
  return { kind: "send", from, to, lines };
}

/** The replies of one or more actors and, beside the one who gets them, what they come to. */
export function replies(to: string, from: Record<string, string>, ...lines: string[]): Step {
  return { kind: "replies", to, from, lines };
}

/** A box on an actor's lifeline. */
export function note(actor: string, ...lines: string[]): Step {
  return { kind: "note", actor, lines };
}

/** From here on the actor holds the lock, or is paused: a bar on its lifeline. */
export function begin(actor: string, state: State = "holds"): Step {
  return { kind: "begin", actor, state };
}

export function end(actor: string): Step {
  return { kind: "end", actor };
}

/** Where a text stands. */
export interface TextBox {
  readonly words: string;
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
  /** The actor whose lifeline it may cover; undefined for a text between lifelines. */
  readonly actor: string | undefined;
}

export interface Drawing {
  readonly svg: string;
  readonly width: number;
  readonly height: number;
  readonly texts: readonly TextBox[];
  readonly lifelines: readonly Lifeline[];
}

export interface Lifeline {
  readonly actor: string;
  readonly x: number;
  readonly top: number;
  readonly bottom: number;
}

const MARGIN = 20;
const FONT_SIZE = 13;
const LINE_HEIGHT = 17;
const PADDING = 8;
const LEAST_GAP = 92;
const ROW_GAP = 14;
const TITLE_Y = 32;
const TITLE_SIZE = 15;
const HEAD_TOP = 50;
const HEAD_HEIGHT = 30;
const BAR_WIDTH = 8;
const ARROW = { length: 9, halfWidth: 4 };

/** The mean of a wide font, DejaVu Sans, so that texts have room in any. */
const CHARACTER_WIDTH = 7.8;

const LEGEND: Readonly<Record<State, string>> = { holds: "holds the lock", paused: "is paused" };

const STYLE = `
.paper { fill: #ffffff } .ink { fill: #1f2937 } .line { stroke: #64748b } .head { fill: #64748b }
.box { fill: #f1f5f9; stroke: #64748b } .holds { fill: #15803d } .paused { fill: #d97706 }
@media (prefers-color-scheme: dark) {
.paper { fill: #0d1117 } .ink { fill: #e5e7eb } .line { stroke: #94a3b8 } .head { fill: #94a3b8 }
.box { fill: #1e293b; stroke: #94a3b8 } .holds { fill: #22c55e } .paused { fill: #f59e0b }
}`;

function widthOf(lines: readonly string[]): number {
  return Math.ceil(Math.max(0, ...lines.map(({ length }) => length)) * CHARACTER_WIDTH);
}

function boxWidth(lines: readonly string[]): number {
  return widthOf(lines) + 2 * PADDING;
}

function boxHeight(lines: readonly string[]): number {
  return lines.length * LINE_HEIGHT + PADDING;
}

/** Draws a diagram. The same description gives the same text. */
export function draw(diagram: Diagram): Drawing {
  return new Artist(diagram).draw();
}

class Artist {
  readonly #diagram: Diagram;
  readonly #lifelines: ReadonlyMap<string, number>;
  readonly #width: number;
  readonly #texts: TextBox[] = [];
  /** From back to front. */
  readonly #layers = { bars: [] as string[], arrows: [] as string[], boxes: [] as string[] };
  readonly #bars = new Map<string, { readonly state: State; readonly top: number }>();
  /** The end of what is drawn so far. */
  #y = HEAD_TOP + HEAD_HEIGHT;

  constructor(diagram: Diagram) {
    this.#diagram = diagram;
    const { lifelines, width } = columnsOf(diagram);
    this.#lifelines = lifelines;
    this.#width = Math.max(width, 2 * MARGIN + (widthOf([diagram.title]) * TITLE_SIZE) / FONT_SIZE);
  }

  draw(): Drawing {
    const { title, actors, hung = [], steps } = this.#diagram;
    const front = [this.#text(title, MARGIN, TITLE_Y, { size: TITLE_SIZE, weight: "bold" })];
    for (const step of steps) this.#step(step);
    const bottom = this.#y + ROW_GAP;
    const top = HEAD_TOP + HEAD_HEIGHT;
    const lifelines = actors.map((actor) => ({ actor, x: this.#x(actor), top, bottom }));
    const lines = lifelines.map(({ actor, x }) => {
      const dashes = hung.includes(actor) ? ` stroke-dasharray="2 5"` : "";
      return `<path class="line" d="M${x} ${top} V${bottom}" fill="none"${dashes}/>`;
    });
    const heads = actors.map((actor) => {
      const words = hung.includes(actor) ? `${actor} hangs` : actor;
      return this.#box(actor, [words], HEAD_TOP, HEAD_HEIGHT, "bold");
    });
    front.push(...heads, this.#legend(bottom + ROW_GAP));
    const hasLegend = steps.some(({ kind }) => kind === "begin");
    const height = bottom + ROW_GAP + (hasLegend ? LINE_HEIGHT + ROW_GAP : 0);
    const { bars, arrows, boxes } = this.#layers;
    const shapes = [...lines, ...bars, ...arrows, ...boxes, ...front];
    const width = Math.ceil(this.#width);
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" font-family="Helvetica, Arial, sans-serif" font-size="${FONT_SIZE}">
<title>${title}</title>
<desc>Generated by docs/diagrams/draw.ts.</desc>
<style>${STYLE}
</style>
<rect class="paper" width="${width}" height="${height}"/>
${shapes.filter((shape) => shape !== "").join("\n")}
</svg>
`;
    return { svg, width, height, texts: this.#texts, lifelines };
  }

  #x(actor: string): number {
    const x = this.#lifelines.get(actor);
    if (x === undefined) throw new Error(`${this.#diagram.name}.svg has no actor ${actor}`);
    return x;
  }

  #step(step: Step): void {
    switch (step.kind) {
      case "send": {
        const targets = step.to.map((actor) => this.#x(actor));
        this.#y += ROW_GAP;
        this.#label(step.lines, this.#x(step.from), targets);
        this.#arrow(this.#x(step.from), targets);
        break;
      }
      case "replies": {
        const to = this.#x(step.to);
        const sources = Object.entries(step.from);
        const sourceXs = sources.map(([actor]) => this.#x(actor));
        this.#y += ROW_GAP;
        const half = boxHeight([""]) / 2;
        const top = this.#y;
        if (step.lines.length > 0) this.#label(step.lines, to, sourceXs);
        this.#y = Math.max(this.#y, top + half);
        this.#arrow(farthest(to, sourceXs), [to]);
        for (const [actor, words] of sources) {
          this.#layers.boxes.push(this.#box(actor, [words], this.#y - half, 2 * half));
        }
        this.#y += half;
        break;
      }
      case "note":
        this.#y += ROW_GAP;
        this.#layers.boxes.push(
          this.#box(step.actor, step.lines, this.#y, boxHeight(step.lines), "normal", 0),
        );
        this.#y += boxHeight(step.lines);
        break;
      case "begin":
        this.#bars.set(step.actor, { state: step.state, top: this.#y });
        break;
      case "end": {
        const bar = this.#bars.get(step.actor);
        if (bar === undefined) throw new Error(`${step.actor} has no bar that could end`);
        const x = this.#x(step.actor) - BAR_WIDTH / 2;
        const size = `width="${BAR_WIDTH}" height="${this.#y - bar.top}"`;
        this.#layers.bars.push(`<rect class="${bar.state}" x="${x}" y="${bar.top}" ${size}/>`);
        this.#bars.delete(step.actor);
      }
    }
  }

  /** Text beside a lifeline, on the side of the others. It ends where the arrow under it runs. */
  #label(lines: readonly string[], beside: number, others: readonly number[]): void {
    const isRight = (others[0] ?? beside) > beside;
    const x = beside + (isRight ? 1 : -1) * (PADDING + BAR_WIDTH / 2);
    for (const words of lines) {
      this.#y += LINE_HEIGHT;
      const anchor = isRight ? "start" : "end";
      this.#layers.boxes.push(this.#text(words, x, this.#y - 4, { anchor }));
    }
    this.#y += 4;
  }

  /** A line that has a head at each of its targets. */
  #arrow(from: number, targets: readonly number[]): void {
    const y = this.#y;
    const to = farthest(from, targets);
    const sign = Math.sign(to - from);
    this.#layers.arrows.push(
      `<path class="line" d="M${from} ${y} H${to - sign * ARROW.length}" fill="none" stroke-width="1.5"/>`,
    );
    for (const target of targets) {
      const neck = target - sign * ARROW.length;
      const { halfWidth } = ARROW;
      this.#layers.arrows.push(
        `<path class="head" d="M${target} ${y} L${neck} ${y - halfWidth} L${neck} ${y + halfWidth} Z"/>`,
      );
    }
  }

  #box(
    actor: string,
    lines: readonly string[],
    top: number,
    height: number,
    weight = "normal",
    radius = height / 2,
  ): string {
    const width = boxWidth(lines);
    const x = this.#x(actor);
    const left = x - width / 2;
    const firstY = top + (height - lines.length * LINE_HEIGHT) / 2 + FONT_SIZE;
    return [
      `<rect class="box" x="${left}" y="${top}" width="${width}" height="${height}" rx="${Math.min(radius, 10)}"/>`,
      ...lines.map((words, index) =>
        this.#text(words, x, firstY + index * LINE_HEIGHT, { anchor: "middle", weight, actor }),
      ),
    ].join("\n");
  }

  #legend(top: number): string {
    const states = new Set(
      this.#diagram.steps.flatMap((step) => (step.kind === "begin" ? [step.state] : [])),
    );
    let x = MARGIN;
    const parts: string[] = [];
    for (const state of states) {
      parts.push(
        `<rect class="${state}" x="${x}" y="${top}" width="${BAR_WIDTH}" height="${LINE_HEIGHT}"/>`,
      );
      parts.push(this.#text(LEGEND[state], x + BAR_WIDTH + PADDING, top + FONT_SIZE, {}));
      x += BAR_WIDTH + boxWidth([LEGEND[state]]) + MARGIN;
    }
    return parts.join("\n");
  }

  #text(
    words: string,
    x: number,
    y: number,
    style: { anchor?: "start" | "middle" | "end"; weight?: string; size?: number; actor?: string },
  ): string {
    const { anchor = "start", weight = "normal", size = FONT_SIZE, actor } = style;
    const width = (widthOf([words]) * size) / FONT_SIZE;
    const left = x - { start: 0, middle: width / 2, end: width }[anchor];
    this.#texts.push({ words, left, right: left + width, top: y - size + 1, bottom: y + 3, actor });
    const attributes = [
      anchor === "start" ? "" : ` text-anchor="${anchor}"`,
      weight === "normal" ? "" : ` font-weight="${weight}"`,
      size === FONT_SIZE ? "" : ` font-size="${size}"`,
    ].join("");
    return `<text class="ink" x="${x}" y="${y}"${attributes}>${escaped(words)}</text>`;
  }
}

function farthest(from: number, others: readonly number[]): number {
  return others.reduce((far, x) => (Math.abs(x - from) > Math.abs(far - from) ? x : far), from);
}

function escaped(words: string): string {
  return words.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** What one row needs: half the width of the box on each lifeline, and the width of the text in each gap. */
interface Needs {
  readonly halves: ReadonlyMap<string, number>;
  /** By the index of the actor to the left of the gap. */
  readonly labels: ReadonlyMap<number, number>;
}

function needsOf(step: Step, actors: readonly string[]): Needs {
  const halves = new Map<string, number>();
  const labels = new Map<number, number>();
  const label = (beside: string, other: string | undefined, lines: readonly string[]): void => {
    const index = actors.indexOf(beside);
    const isRight = actors.indexOf(other ?? "") > index;
    labels.set(isRight ? index : index - 1, widthOf(lines) + 2 * PADDING + BAR_WIDTH);
  };
  if (step.kind === "note") halves.set(step.actor, boxWidth(step.lines) / 2);
  if (step.kind === "send") label(step.from, step.to[0], step.lines);
  if (step.kind === "replies") {
    for (const [actor, words] of Object.entries(step.from)) {
      halves.set(actor, boxWidth([words]) / 2);
    }
    // The arrow itself needs room also where there is no text.
    const least = step.lines.length === 0 ? ["    "] : step.lines;
    label(step.to, Object.keys(step.from)[0], least);
  }
  return { halves, labels };
}

/** Places the lifelines as far apart as the widest row needs. */
function columnsOf({ actors, hung = [], steps }: Diagram): {
  readonly lifelines: ReadonlyMap<string, number>;
  readonly width: number;
} {
  const heads = new Map(
    actors.map((actor) => [actor, boxWidth([hung.includes(actor) ? `${actor} hangs` : actor]) / 2]),
  );
  const rows = [{ halves: heads, labels: new Map<number, number>() }].concat(
    steps.map(
      (step) =>
        needsOf(step, actors) as { halves: Map<string, number>; labels: Map<number, number> },
    ),
  );
  const half = (row: Needs, actor: string | undefined): number => row.halves.get(actor ?? "") ?? 0;
  const outer = (actor: string | undefined): number =>
    Math.max(...rows.map((row) => half(row, actor)));
  const lifelines = new Map<string, number>();
  let x = Math.ceil(MARGIN + outer(actors[0]));
  actors.forEach((actor, index) => {
    lifelines.set(actor, x);
    const next = actors[index + 1];
    if (next === undefined) return;
    const needed = rows.map(
      (row) => half(row, actor) + half(row, next) + (row.labels.get(index) ?? 0) + PADDING,
    );
    x += Math.ceil(Math.max(LEAST_GAP, ...needed));
  });
  return { lifelines, width: x + outer(actors.at(-1)) + MARGIN };
}
