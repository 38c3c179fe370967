import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { DIAGRAMS, REGENERATE } from "../../docs/diagrams/draw.js";
import { draw, type Drawing, note, send, type TextBox } from "../../docs/diagrams/sequence.js";

const docs = join(import.meta.dirname, "..", "..", "docs");
const page = readFileSync(join(docs, "how-it-works.md"), "utf8");

/** What makes a picture hard to read, in words. */
function flawsOf({ texts, lifelines, width, height }: Drawing): string[] {
  const meet = (one: TextBox, other: TextBox): boolean =>
    one.left < other.right &&
    other.left < one.right &&
    one.top < other.bottom &&
    other.top < one.bottom;
  const flaws = texts.flatMap((text, index) =>
    texts
      .slice(index + 1)
      .filter((other) => meet(text, other))
      .map((other) => `“${text.words}” meets “${other.words}”`),
  );
  for (const { words, actor, left, right, top, bottom } of texts) {
    if (left < 0 || right > width || top < 0 || bottom > height)
      flaws.push(`“${words}” sticks out`);
    for (const line of lifelines) {
      const isCrossed = left < line.x && line.x < right && top < line.bottom && line.top < bottom;
      if (isCrossed && line.actor !== actor) {
        flaws.push(`“${words}” crosses the lifeline of ${line.actor}`);
      }
    }
  }
  return flaws;
}

describe.each(DIAGRAMS.map((diagram) => [diagram.name, diagram] as const))(
  "docs/diagrams/%s.svg",
  (name, diagram) => {
    const file = join(docs, "diagrams", `${name}.svg`);

    test("is what its description draws", () => {
      const committed = existsSync(file) ? readFileSync(file, "utf8") : "";
      const isCurrent = committed === draw(diagram).svg;
      expect(isCurrent ? "current" : `${name}.svg is out of date. Run: ${REGENERATE}`).toBe(
        "current",
      );
    });

    test("has no text that meets another or a lifeline", () => {
      expect(flawsOf(draw(diagram))).toEqual([]);
    });

    test("is shown in docs/how-it-works.md", () => {
      expect(page).toContain(`](diagrams/${name}.svg)`);
    });
  },
);

test("docs/diagrams has no picture without a description", () => {
  const pictures = readdirSync(join(docs, "diagrams")).filter((file) => file.endsWith(".svg"));
  expect(pictures.sort()).toEqual(DIAGRAMS.map(({ name }) => `${name}.svg`).sort());
});

test("a text that meets another, or a lifeline, would be found", () => {
  const drawing = draw({
    name: "example",
    title: "T",
    actors: ["a", "b"],
    steps: [send("a", ["b"], "from a to b"), note("b", "a note")],
  });
  expect(flawsOf(drawing)).toEqual([]);
  const first = drawing.texts.find(({ words }) => words === "from a to b");
  if (first === undefined) throw new Error("the drawing has no such text");
  const twice = { ...drawing, texts: [...drawing.texts, first] };
  expect(flawsOf(twice)).toEqual([`“${first.words}” meets “${first.words}”`]);
  const x = (first.left + first.right) / 2;
  const line = { actor: "c", x, top: 0, bottom: drawing.height };
  expect(flawsOf({ ...drawing, lifelines: [line] })).toContainEqual(
    `“${first.words}” crosses the lifeline of c`,
  );
});
