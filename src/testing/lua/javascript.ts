// JavaScript of which a translated script consists.

/** An expression in JavaScript. */
export interface Expression {
  readonly js: string;
  /** Gives an array of values, not one value. */
  readonly many?: boolean;
  /** Stands as a statement, too. */
  readonly isCall?: boolean;
  /** Gives true or false. */
  readonly isBoolean?: boolean;
  /** Assigns what it is given the JavaScript of. */
  readonly assign?: (value: string) => string;
  /** The table and the key by which it is indexed. */
  readonly place?: readonly [string, string];
}

export function called(js: string): Expression {
  return { js, many: true, isCall: true };
}

export function indexed(table: Expression, key: string): Expression {
  const js = oneOf(table);
  return {
    js: `index(${js}, ${key})`,
    assign: (value) => `asTable(${js}).set(${key}, ${value})`,
    place: [js, key],
  };
}

export function oneOf({ js, many }: Expression): string {
  return many === true ? `${js}[0]` : js;
}

export function test(expression: Expression): string {
  return expression.isBoolean === true ? expression.js : `isTrue(${oneOf(expression)})`;
}

/** Only the last of several gives all its values. */
export function listed(expressions: readonly Expression[]): string {
  return expressions
    .map((expression, index) =>
      expression.many === true && index === expressions.length - 1
        ? `...${expression.js}`
        : oneOf(expression),
    )
    .join(", ");
}

export function valuesOf(expressions: readonly Expression[]): string {
  return `[${listed(expressions)}]`;
}
