/** A stretch of time, without its end. */
export interface Span {
  readonly fromUs: number;
  readonly toUs: number;
}

export function lengthMs({ fromUs, toUs }: Span): number {
  return Math.max(0, toUs - fromUs) / 1_000;
}

/** The same time as spans that neither touch nor overlap, in order. */
export function union(spans: readonly Span[]): Span[] {
  const joined: Span[] = [];
  for (const span of spans.filter(isNotEmpty).sort((a, b) => a.fromUs - b.fromUs)) {
    const last = joined.at(-1);
    if (last === undefined || span.fromUs > last.toUs) joined.push(span);
    else joined[joined.length - 1] = { ...last, toUs: Math.max(last.toUs, span.toUs) };
  }
  return joined;
}

/** What is left of `span` without `holes`, which are a union. */
export function without(span: Span, holes: readonly Span[]): Span[] {
  const left: Span[] = [];
  let { fromUs } = span;
  for (const hole of holes) {
    if (hole.toUs <= fromUs) continue;
    if (hole.fromUs >= span.toUs) break;
    left.push({ fromUs, toUs: hole.fromUs });
    fromUs = hole.toUs;
  }
  return [...left, { fromUs, toUs: span.toUs }].filter(isNotEmpty);
}

/** The spans in which at least `count` of the given ones run at once. */
export function whereAtLeast(count: number, spans: readonly Span[]): Span[] {
  const edges = spans
    .filter(isNotEmpty)
    .flatMap(({ fromUs, toUs }) => [
      { atUs: fromUs, change: 1 },
      { atUs: toUs, change: -1 },
    ])
    .sort((a, b) => a.atUs - b.atUs || a.change - b.change);
  const found: Span[] = [];
  let running = 0;
  let sinceUs = 0;
  for (const { atUs, change } of edges) {
    const before = running;
    running += change;
    if (before < count && running >= count) sinceUs = atUs;
    if (before >= count && running < count) found.push({ fromUs: sinceUs, toUs: atUs });
  }
  return union(found);
}

function isNotEmpty({ fromUs, toUs }: Span): boolean {
  return toUs > fromUs;
}
