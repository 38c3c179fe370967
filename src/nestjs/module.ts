import {
  ConfigurableModuleBuilder,
  type ConfigurableModuleAsyncOptions,
  type DynamicModule,
  Module,
} from "@nestjs/common";
import { ApplicationRedlock, type RedlockModuleOptions } from "./application-redlock.js";
import { getRedlockToken } from "./token.js";

/** What both `forRoot` and `forRootAsync` take besides the Redlock's own options. */
export interface RedlockModuleExtras {
  /** Whether every module can inject the Redlock without importing this one. Default false. */
  readonly isGlobal?: boolean | undefined;
  /**
   * The name of this Redlock, for applications with several: `@InjectRedlock(name)`, and `redlock: name` in the settings
   * of `@Locked`. Default: none, and the class `Redlock` is its token.
   */
  readonly name?: string | undefined;
}

/** A class that makes the options, for `useClass` and `useExisting`. */
export interface RedlockOptionsFactory {
  /** Returns the options, or a promise of them. */
  createRedlockOptions(): Promise<RedlockModuleOptions> | RedlockModuleOptions;
}

/** What `forRootAsync` takes: one of `useFactory` with `inject`, `useClass` and `useExisting`, and `imports`. */
export type RedlockModuleAsyncOptions = ConfigurableModuleAsyncOptions<
  RedlockModuleOptions,
  "createRedlockOptions"
> &
  RedlockModuleExtras;

const OPTIONS = Symbol("options of RedlockModule");

const noExtras: RedlockModuleExtras = { isGlobal: false, name: undefined };

const { ConfigurableModuleClass } = new ConfigurableModuleBuilder<RedlockModuleOptions>({
  optionsInjectionToken: OPTIONS,
})
  .setClassMethodName("forRoot")
  .setFactoryMethodName("createRedlockOptions")
  .setExtras<RedlockModuleExtras>(noExtras, (definition, { isGlobal, name }) => {
    const token = getRedlockToken(name);
    const redlock = {
      provide: token,
      useFactory: (options: RedlockModuleOptions) => new ApplicationRedlock(options),
      inject: [OPTIONS],
    };
    return {
      ...definition,
      module: RedlockModule,
      global: isGlobal ?? false,
      providers: [...(definition.providers ?? []), redlock],
      exports: [token],
    };
  })
  .build();

/**
 * Provides a `Redlock` to a Nest application, and ends it with the application.
 *
 * On shutdown, the Redlock refuses new locks and ends the waiting for them; what runs under `using` and `@Locked` goes on
 * to its end, for at most `drainTimeout`. Then the connections close. Nest tells it of `app.close()`, and of signals such
 * as SIGTERM after `app.enableShutdownHooks()`.
 *
 * @example
 * ```ts
 * @Module({
 *   imports: [RedlockModule.forRoot({ nodes: ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"], isGlobal: true })],
 * })
 * export class AppModule {}
 * ```
 */
// eslint-disable-next-line @typescript-eslint/no-extraneous-class -- a module of Nest is a class
export class RedlockModule {
  /** Makes a Redlock from options that are known when the module is defined. */
  static forRoot(options: RedlockModuleOptions & RedlockModuleExtras): DynamicModule {
    return ConfigurableModuleClass.forRoot(options);
  }

  /**
   * Makes a Redlock from options that other providers give.
   *
   * @example
   * ```ts
   * RedlockModule.forRootAsync({
   *   isGlobal: true,
   *   inject: [ConfigService],
   *   useFactory: (config: ConfigService) => ({ nodes: config.getOrThrow<string[]>("redis.urls") }),
   * });
   * ```
   */
  static forRootAsync(options: RedlockModuleAsyncOptions): DynamicModule {
    return ConfigurableModuleClass.forRootAsync(options);
  }
}

Module({})(RedlockModule);
