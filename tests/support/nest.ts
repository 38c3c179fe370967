import "reflect-metadata";
import {
  type DynamicModule,
  Inject,
  Injectable,
  type InjectionToken,
  type ModuleMetadata,
  type Type,
} from "@nestjs/common";
import { Redlock } from "../../src/index.js";

/** Decorates a method as TypeScript's experimentalDecorators do: the last decorator first. */
export function decorateMethod<C extends object, K extends string & keyof C>(
  target: Type<C>,
  key: K,
  ...decorators: readonly ((
    prototype: object,
    key: string,
    descriptor: TypedPropertyDescriptor<C[K]>,
  ) => unknown)[]
): void {
  const prototype = target.prototype as object;
  const descriptor = Object.getOwnPropertyDescriptor(prototype, key) as TypedPropertyDescriptor<
    C[K]
  >;
  for (const decorator of [...decorators].reverse()) decorator(prototype, key, descriptor);
  Object.defineProperty(prototype, key, descriptor);
}

/** Makes a class a provider whose constructor takes these tokens; without any, it takes the Redlock. */
export function provider<C>(target: Type<C>, tokens: readonly InjectionToken[] = [Redlock]): void {
  for (const [index, token] of tokens.entries()) Inject(token)(target, undefined, index);
  Injectable()(target);
}

/** Makes a module of a class of its own. */
export function moduleOf(metadata: ModuleMetadata): DynamicModule {
  // eslint-disable-next-line @typescript-eslint/no-extraneous-class -- a module of Nest is a class
  class OwnModule {}
  return { module: OwnModule, ...metadata };
}
