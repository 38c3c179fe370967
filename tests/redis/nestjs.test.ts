// Real Nest applications on real servers. `tests/consumers/nestjs` has one whose decorators TypeScript compiles.

import { afterEach, describe, expect, jest, test } from "@jest/globals";
import "reflect-metadata";
import {
  type CanActivate,
  Controller,
  type DynamicModule,
  Get,
  type INestApplicationContext,
  Injectable,
  Logger,
  type OnApplicationShutdown,
  Param,
  Scope,
  SetMetadata,
  type Type,
  UseGuards,
} from "@nestjs/common";
import { NestApplicationContextOptions } from "@nestjs/common/interfaces/nest-application-context-options.interface.js";
import { NestFactory } from "@nestjs/core";
import { Test } from "@nestjs/testing";
import { Redis } from "ioredis";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import type { Server } from "node:http";
import { Readable } from "node:stream";
import { of } from "rxjs";
import { type Lock, LockLostError, Redlock } from "../../src/index.js";
import {
  currentLock,
  getRedlockToken,
  InjectRedlock,
  Locked,
  type LockedSettings,
  lockSignal,
  RedlockModule,
  type RedlockModuleExtras,
  type RedlockModuleOptions,
} from "../../src/nestjs/index.js";
import { untilWaiting } from "../support/line.js";
import { decorateMethod, moduleOf, provider } from "../support/nest.js";
import {
  defined,
  disconnectAll,
  fresh,
  occupy,
  rejection,
  untilFree,
  valuesOn,
} from "../support/nodes.js";
import { until } from "../support/servers.js";
import { useServers } from "../support/use-servers.js";

const TTL_MS = 10_000;
/** On a busy machine a reply may take long. */
const PATIENT = { nodeTimeout: 10_000 };

const QUIETLY = Object.assign(new NestApplicationContextOptions(), {
  logger: false as const,
  abortOnError: false,
});

const servers = useServers(3);
const applications: INestApplicationContext[] = [];

afterEach(async () => {
  await Promise.all(applications.splice(0).map((application) => application.close()));
});

function redlockModule(
  options: Partial<RedlockModuleOptions & RedlockModuleExtras> = {},
): DynamicModule {
  const nodes = servers.map(({ url }) => url);
  return RedlockModule.forRoot({ nodes, settings: PATIENT, ...options });
}

/** Starts an application without HTTP. It is closed after the test, if the test has not done so. */
async function start(
  imports: DynamicModule[],
  providers: Type[] = [],
): Promise<INestApplicationContext> {
  const root = moduleOf({ imports, providers });
  const application = await NestFactory.createApplicationContext(root, QUIETLY);
  applications.push(application);
  return application;
}

/** A method without its object. */
function methodOf(target: Type, name: string): () => Promise<unknown> {
  return Object.getOwnPropertyDescriptor(target.prototype, name)?.value as () => Promise<unknown>;
}

/** Ends when the test says so. */
class Gate {
  readonly opened: Promise<void>;
  open = (): void => undefined;
  readonly entered: Promise<void>;
  enter = (): void => undefined;

  constructor() {
    this.opened = new Promise((resolve) => (this.open = resolve));
    this.entered = new Promise((resolve) => (this.enter = resolve));
  }

  async pass(): Promise<void> {
    this.enter();
    await this.opened;
  }
}

/** A provider with one locked method, which does what the test passes in. */
function lockedClass(
  resource: string | ((...args: never[]) => string | string[]),
  ttl: number,
  settings?: LockedSettings,
): Type<{
  run<T>(work: () => Promise<T> | T, ...resources: string[]): Promise<T>;
}> {
  class Service {
    async run<T>(work: () => Promise<T> | T): Promise<T> {
      return work();
    }
  }
  Injectable()(Service);
  decorateMethod(Service, "run", Locked(resource, ttl, settings) as MethodDecorator);
  return Service;
}

describe("RedlockModule", () => {
  class Service {
    constructor(readonly redlock: Redlock) {}
  }
  provider(Service);

  async function expectToLock(redlock: Redlock, keyPrefix = ""): Promise<void> {
    expect(redlock).toBeInstanceOf(Redlock);
    const resource = fresh();
    await redlock.using(resource, TTL_MS, async (_signal, { value }) => {
      const held = await valuesOn(servers, keyPrefix + resource);
      expect(held.filter((found) => found === value).length).toBeGreaterThanOrEqual(2);
    });
    await untilFree(servers, keyPrefix + resource);
  }

  test("forRoot gives a Redlock to a constructor that names the class", async () => {
    const application = await start([redlockModule()], [Service]);
    await expectToLock(application.get(Service).redlock);
  });

  test("is seen by other modules if it is global, and only then", async () => {
    const feature = moduleOf({ providers: [Service] });
    // Nest closes nothing of an application that does not start.
    const client = new Redis(defined(servers[0]).port, "127.0.0.1");
    await expect(start([redlockModule({ nodes: [client] }), feature])).rejects.toThrow("Redlock");
    client.disconnect();
    const application = await start([redlockModule({ isGlobal: true }), feature]);
    await expectToLock(application.get(Service, { strict: false }).redlock);
  });

  const options = (keyPrefix: string): RedlockModuleOptions => ({
    nodes: servers.map(({ url }) => url),
    settings: { ...PATIENT, keyPrefix },
  });
  class Config {
    readonly prefix = "config:";
  }
  Injectable()(Config);
  const configModule = moduleOf({ providers: [Config], exports: [Config] });

  test("forRootAsync takes a factory with its imports and dependencies", async () => {
    const redlock = RedlockModule.forRootAsync({
      imports: [configModule],
      inject: [Config],
      useFactory: async ({ prefix }: Config) => Promise.resolve(options(prefix)),
    });
    const application = await start([redlock], [Service]);
    await expectToLock(application.get(Service).redlock, "config:");
  });

  class Factory {
    createRedlockOptions(): RedlockModuleOptions {
      return options("factory:");
    }
  }
  Injectable()(Factory);
  const factoryModule = moduleOf({ providers: [Factory], exports: [Factory] });

  test("forRootAsync takes a class that it makes, for every module", async () => {
    const application = await start([
      RedlockModule.forRootAsync({ useClass: Factory, isGlobal: true }),
      moduleOf({ providers: [Service] }),
    ]);
    await expectToLock(application.get(Service, { strict: false }).redlock, "factory:");
  });

  test("forRootAsync takes a provider that exists", async () => {
    const redlock = RedlockModule.forRootAsync({ useExisting: Factory, imports: [factoryModule] });
    const application = await start([redlock], [Service]);
    await expectToLock(application.get(Service).redlock, "factory:");
  });

  test("gives several Redlocks by their names, to constructors and to @Locked", async () => {
    class Billing {
      constructor(
        readonly plain: Redlock,
        readonly named: Redlock,
      ) {}
      async pay(): Promise<Lock> {
        return Promise.resolve(currentLock());
      }
    }
    provider(Billing);
    InjectRedlock("billing")(Billing, undefined, 1);
    decorateMethod(Billing, "pay", Locked("invoice", TTL_MS, { redlock: "billing" }));
    const named = redlockModule({
      name: "billing",
      settings: { ...PATIENT, keyPrefix: "billing:" },
    });
    const application = await start([redlockModule(), named], [Billing]);
    const billing = application.get(Billing);
    expect(billing.plain.settings.keyPrefix).toBe("");
    await expectToLock(billing.named, "billing:");
    expect((await billing.pay()).redlock).toBe(billing.named);
    expect(application.get(getRedlockToken("billing"))).toBe(billing.named);
  });

  test("says which option is wrong", async () => {
    const wrong = { drainTimeout: -1 };
    await expect(start([redlockModule(wrong)])).rejects.toThrow(
      "drainTimeout of RedlockModule must be a number (ms; 0 to wait for nothing) of at most 2147483647, but is -1",
    );
    await expect(start([redlockModule({ nodes: [] })])).rejects.toThrow("at least one redis");
  });
});

describe("@Locked", () => {
  test("lets two applications run the method one after the other", async () => {
    const resource = fresh();
    const Service = lockedClass(resource, TTL_MS, { retryCount: -1 });
    const both = await Promise.all([
      start([redlockModule()], [Service]),
      start([redlockModule()], [Service]),
    ]);
    let inside = 0;
    let most = 0;
    const work = async (): Promise<void> => {
      most = Math.max(most, ++inside);
      expect((await valuesOn(servers, resource)).filter(Boolean).length).toBeGreaterThanOrEqual(2);
      inside -= 1;
    };
    const calls = [0, 1, 2, 3, 4].flatMap(() => both.map((one) => one.get(Service).run(work)));
    await Promise.all(calls);
    expect(calls).toHaveLength(10);
    expect(most).toBe(1);
    await untilFree(servers, resource);
  });

  test("takes the resources from the arguments, and passes the arguments on", async () => {
    const [first, second, third] = [fresh(), fresh(), fresh()];
    const Service = lockedClass((_work: unknown, ...names: string[]) => names, TTL_MS);
    const service = (await start([redlockModule()], [Service])).get(Service);
    const gate = new Gate();
    const running = service.run(
      async () => {
        await gate.pass();
        return currentLock().resources;
      },
      first,
      second,
    );
    await gate.entered;
    expect(await service.run(() => "beside it", third)).toBe("beside it");
    expect((await valuesOn(servers, second)).filter(Boolean).length).toBeGreaterThanOrEqual(2);
    gate.open();
    expect(await running).toEqual([first, second]);
  });

  test("keeps this, the name, the length and the metadata of the method", async () => {
    class Service {
      readonly #secret = "its own";
      async work(suffix: string): Promise<string> {
        return Promise.resolve(`${this.#secret} ${suffix}`);
      }
    }
    Injectable()(Service);
    decorateMethod(
      Service,
      "work",
      SetMetadata("above", 1),
      Locked(fresh(), TTL_MS),
      SetMetadata("below", 2),
    );
    const work = methodOf(Service, "work");
    expect([work.name, work.length]).toEqual(["work", 1]);
    expect(Reflect.getMetadata("above", work)).toBe(1);
    expect(Reflect.getMetadata("below", work)).toBe(2);
    const service = (await start([redlockModule()], [Service])).get(Service);
    expect(await service.work("value")).toBe("its own value");
  });

  test("is inherited, and runs under super", async () => {
    const [below, above] = [fresh(), fresh()];
    class Base {
      async work(): Promise<string[]> {
        return Promise.resolve(currentLock().resources);
      }
    }
    decorateMethod(Base, "work", Locked(below, TTL_MS));
    class Heir extends Base {}
    Injectable()(Heir);
    class Override extends Base {
      override async work(): Promise<string[]> {
        return [...(await super.work()), ...currentLock().resources];
      }
    }
    Injectable()(Override);
    decorateMethod(Override, "work", Locked(above, TTL_MS));
    const application = await start([redlockModule()], [Heir, Override]);
    expect(await application.get(Heir).work()).toEqual([below]);
    expect(await application.get(Override).work()).toEqual([below, above]);
  });

  test("works in providers of one request", async () => {
    class Service {
      async work(): Promise<Lock> {
        return Promise.resolve(currentLock());
      }
    }
    Injectable({ scope: Scope.REQUEST })(Service);
    decorateMethod(Service, "work", Locked(fresh(), TTL_MS));
    const application = await start([redlockModule()], [Service]);
    const lock = await (await application.resolve(Service)).work();
    expect(lock.redlock).toBe(application.get(Redlock));
  });

  test("takes the Redlock of its own application where two share a class", async () => {
    const Service = lockedClass(fresh(), TTL_MS);
    const [first, second] = await Promise.all(
      ["first:", "second:"].map((keyPrefix) =>
        start([redlockModule({ settings: { ...PATIENT, keyPrefix } })], [Service]),
      ),
    );
    const ofApplication = (one?: INestApplicationContext): Promise<unknown> =>
      defined(one)
        .get(Service)
        .run(() => currentLock().redlock);
    expect(await ofApplication(first)).toBe(first?.get(Redlock));
    expect(await ofApplication(second)).toBe(second?.get(Redlock));
    expect(first?.get(Redlock)).not.toBe(second?.get(Redlock));
  });

  test("passes on the errors of the lock, and the settings to it", async () => {
    const resource = fresh();
    const Service = lockedClass(resource, TTL_MS, { acquireTimeout: 300 });
    const service = (await start([redlockModule()], [Service])).get(Service);
    await occupy(servers, resource);
    let ran = false;
    const error = await rejection(service.run(() => (ran = true)));
    expect(error.code).toBe("ERR_REDLOCK_TIMEOUT");
    expect(ran).toBe(false);
  });

  test("lets readers of two applications in together, and a writer alone", async () => {
    const resource = fresh();
    const Reader = lockedClass(resource, TTL_MS, { shared: true });
    const Writer = lockedClass(resource, TTL_MS, { acquireTimeout: 20_000 });
    const [one, two] = await Promise.all([
      start([redlockModule()], [Reader, Writer]),
      start([redlockModule()], [Reader]),
    ]);
    const order: string[] = [];
    const [gate, other] = [new Gate(), new Gate()];
    const read = (application: INestApplicationContext, own: Gate): Promise<void> =>
      application.get(Reader).run(async () => {
        expect([currentLock().shared, currentLock().valid]).toEqual([true, true]);
        await own.pass();
        order.push("a reader ends");
      });
    const readers = [read(one, gate), read(two, other)];
    await Promise.all([gate.entered, other.entered]);
    const writing = one.get(Writer).run(() => {
      expect(currentLock().shared).toBe(false);
      order.push("the writer runs");
    });
    await untilWaiting(one.get(Redlock), resource, 1);
    gate.open();
    await readers[0];
    expect(order).toEqual(["a reader ends"]);
    other.open();
    await Promise.all([...readers, writing]);
    expect(order).toEqual(["a reader ends", "a reader ends", "the writer runs"]);
    await untilFree(servers, resource);
  });

  test("refuses shared together with fencing when the class is defined", () => {
    expect(() => lockedClass(fresh(), TTL_MS, { shared: true, fencing: true })).toThrow(
      /shared and fencing/,
    );
  });

  test("passes on the error of the method and of the resource function, unchanged", async () => {
    const own = new Error("the work failed");
    const resource = fresh();
    const Service = lockedClass(resource, TTL_MS);
    const Unnamed = lockedClass(() => {
      throw own;
    }, TTL_MS);
    const application = await start([redlockModule()], [Service, Unnamed]);
    const failing = application.get(Service).run(() => Promise.reject(own));
    expect(await rejection(failing)).toBe(own);
    await untilFree(servers, resource);
    expect(await rejection(application.get(Unnamed).run(() => 1))).toBe(own);
  });

  test("tells the method by lockSignal that the lock is lost, and then rejects with the loss", async () => {
    const resource = fresh();
    const Service = lockedClass(resource, 1000, { nodeTimeout: 100 });
    const service = (await start([redlockModule()], [Service])).get(Service);
    const lost = service.run(async () => {
      await Promise.resolve();
      const signal = lockSignal();
      expect(currentLock().valid).toBe(true);
      await occupy(servers, resource, "another lock");
      if (!signal.aborted) await once(signal, "abort");
      expect(signal.reason).toBeInstanceOf(LockLostError);
    });
    expect(await rejection(lost)).toMatchObject({ code: "ERR_REDLOCK_LOST" });
  });

  test("keeps apart the locks of calls that run at once, and gives each its fencing token", async () => {
    const Service = lockedClass((_work: unknown, name: string) => name, TTL_MS, { fencing: true });
    const service = (await start([redlockModule()], [Service])).get(Service);
    const names = [fresh(), fresh(), fresh()];
    const gate = new Gate();
    let inside = 0;
    const found = await Promise.all(
      names.map((name) =>
        service.run(async () => {
          if (++inside === names.length) gate.open();
          await gate.opened;
          return currentLock();
        }, name),
      ),
    );
    expect(found.map(({ resources: [name] }) => name)).toEqual(names);
    expect(new Set(found.map(({ fence }) => fence)).size).toBe(names.length);
    expect(found.map(({ fence }) => typeof fence)).toEqual(names.map(() => "number"));
  });

  test("lets as many calls run at once as there are permits, each with one of its own", async () => {
    const Service = lockedClass(fresh(), TTL_MS, { permits: 2, acquireTimeout: 30_000 });
    const service = (await start([redlockModule()], [Service])).get(Service);
    const inside = new Set<number | undefined>();
    let most = 0;
    const run = () =>
      service.run(async () => {
        const { permit } = currentLock();
        expect([0, 1]).toContain(permit);
        expect(inside).not.toContain(permit);
        inside.add(permit);
        most = Math.max(most, inside.size);
        await until(
          () => most === 2,
          30_000,
          () => "a second call never ran beside the first",
        );
        await new Promise((resolve) => setTimeout(resolve, 20));
        inside.delete(permit);
      });
    await Promise.all([run(), run(), run(), run(), run()]);
    expect(most).toBe(2);
  });

  test("gives no lock outside a method, nor to what goes on after it", async () => {
    expect(lockSignal).toThrow("lockSignal() was called outside a @Locked method");
    const Service = lockedClass(fresh(), TTL_MS);
    const service = (await start([redlockModule()], [Service])).get(Service);
    const gate = new Gate();
    const late = await service.run(() => ({ signal: gate.opened.then(() => lockSignal()) }));
    gate.open();
    await expect(late.signal).rejects.toThrow("after its @Locked method had ended");
  });

  test.each([
    ["an Observable", () => of(1)],
    ["a promise of an Observable", () => Promise.resolve(of(1))],
    ["an async iterator", () => Readable.from(["a"])],
  ])("needs a method that returns a promise of its work: not %s", async (_, work) => {
    class Service {
      work(): unknown {
        return work();
      }
    }
    Injectable()(Service);
    decorateMethod(Service, "work", Locked(fresh(), TTL_MS) as MethodDecorator);
    const service = (await start([redlockModule()], [Service])).get(Service);
    const said = "@Locked on Service.work needs a method that returns a promise";
    await expect(service.work()).rejects.toThrow(said);
  });

  test("fails the start of an application whose module has no Redlock", async () => {
    const Service = lockedClass(fresh(), TTL_MS);
    const said =
      "the Service. Please make sure that the " +
      '"Symbol(Redlock of @Locked on Service.run: import RedlockModule, or set its isGlobal)" property';
    await expect(start([], [Service])).rejects.toThrow(said);
  });

  test("says what to do with an object that Nest did not make", async () => {
    const Service = lockedClass(fresh(), TTL_MS);
    const said = "@Locked on Service.run has no Redlock: it was called on an object that Nest did";
    await expect(new Service().run(() => 1)).rejects.toThrow(said);
    await expect(methodOf(Service, "run")()).rejects.toThrow(said);
  });

  test("refuses a bad ttl, a bad setting and what is no method when the class is defined", () => {
    expect(() => Locked("a", 0)).toThrow("@Locked()");
    expect(() => Locked(5 as never, TTL_MS)).toThrow("The resources of @Locked() must be");
    for (const settings of [null, []]) {
      expect(() => Locked("a", TTL_MS, settings as never)).toThrow("must be an object");
    }
    expect(() => Locked("a", TTL_MS, { keyPrefix: "x" } as object)).toThrow(
      "keyPrefix is a setting of the constructor, not of @Locked()",
    );
    expect(() => Locked("a", 1000, { automaticExtensionThreshold: 990 })).toThrow(RangeError);
    expect(() => Locked(["a", "b"], TTL_MS, { permits: 2 })).toThrow(
      "@Locked() takes permits of one resource",
    );
    expect(() => Locked("a", TTL_MS, { retrycount: 1 } as object)).toThrow(
      "Did you mean retryCount",
    );
    class Service {
      readonly name = "an instance";
      static async work(): Promise<void> {
        await Promise.resolve();
      }
    }
    const decorate = Locked("a", TTL_MS) as (...args: unknown[]) => void;
    const descriptor = Object.getOwnPropertyDescriptor(Service, "work");
    expect(() => {
      decorate(Service, "work", descriptor);
    }).toThrow("Service.work, which is static, is no such method");
    const context = { kind: "method", name: "work" };
    expect(() => {
      decorate(descriptor?.value, context);
    }).toThrow("work is no such method. Use it on a method that is neither static nor an accessor");
  });

  test("takes a stub that a test provides as Redlock", async () => {
    const Service = lockedClass((_work: unknown, name: string) => name, TTL_MS);
    const asked: string[] = [];
    const stub = {
      using: (
        name: string,
        _ttl: number,
        _settings: object,
        routine: (signal: AbortSignal) => unknown,
      ) => {
        asked.push(name);
        return routine(new AbortController().signal);
      },
    };
    const module = await Test.createTestingModule({
      providers: [Service, { provide: Redlock, useValue: stub }],
    }).compile();
    expect(await module.get(Service).run(() => lockSignal().aborted, "seat:12A")).toBe(false);
    expect(asked).toEqual(["seat:12A"]);
  });
});

describe("a controller", () => {
  test("answers requests to a locked route one after the other, with its guard and parameters", async () => {
    let inside = 0;
    let most = 0;
    class Guard implements CanActivate {
      canActivate(): boolean {
        return most >= 0;
      }
    }
    class Stock {
      async take(id: string): Promise<string> {
        most = Math.max(most, ++inside);
        const held = await valuesOn(servers, `stock:${id}`);
        inside -= 1;
        return `${id} ${held.filter(Boolean).length >= 2 ? "under the lock" : "without a lock"}`;
      }
    }
    Controller("stock")(Stock);
    Param("id")(Stock.prototype, "take", 0);
    decorateMethod(
      Stock,
      "take",
      Locked((id: string) => `stock:${id}`, TTL_MS, { retryCount: -1 }),
      UseGuards(Guard),
      Get(":id"),
    );
    const root = moduleOf({ imports: [redlockModule()], controllers: [Stock] });
    const application = await NestFactory.create(root, QUIETLY);
    applications.push(application);
    await application.listen(0, "127.0.0.1");
    const { port } = (application.getHttpServer() as Server).address() as AddressInfo;
    const get = async (): Promise<string> =>
      (await fetch(`http://127.0.0.1:${port}/stock/7`)).text();
    const answers = await Promise.all([get(), get(), get()]);
    expect(answers).toEqual(Array(3).fill("7 under the lock"));
    expect(most).toBe(1);
    most = -1;
    expect((await fetch(`http://127.0.0.1:${port}/stock/7`)).status).toBe(403);
  });
});

describe("a shutdown", () => {
  /** Stands for a database: whether it was closed. */
  class Database implements OnApplicationShutdown {
    isOpen = true;
    onApplicationShutdown(): void {
      this.isOpen = false;
    }
  }
  Injectable()(Database);

  test("lets what runs under locks end and release before other modules close their connections", async () => {
    const [resource, inner, byHand] = [fresh(), fresh(), fresh()];
    const Outer = lockedClass(resource, TTL_MS);
    const Inner = lockedClass(inner, TTL_MS);
    const application = await start([redlockModule()], [Database, Outer, Inner]);
    const database = application.get(Database);
    const redlock = application.get(Redlock);
    const [gate, gateByHand] = [new Gate(), new Gate()];
    const running = application.get(Outer).run(async () => {
      await gate.pass();
      // It may take more locks: without them it could not end.
      const nested = await application.get(Inner).run(() => "nested");
      return [nested, database.isOpen, lockSignal().aborted];
    });
    const runningByHand = redlock.using(byHand, TTL_MS, async (signal) => {
      await gateByHand.pass();
      return [database.isOpen, signal.aborted];
    });
    await Promise.all([gate.entered, gateByHand.entered]);
    const waiting = rejection(application.get(Outer).run(() => "never"));
    const own = new AbortController();
    const waitingWithSignal = rejection(
      redlock.acquire(resource, TTL_MS, { retryCount: -1, signal: own.signal }),
    );

    let isClosed = false;
    const closing = application.close().then(() => (isClosed = true));
    expect(await waiting).toMatchObject({ code: "ERR_REDLOCK_CLOSED" });
    expect((await waitingWithSignal).message).toContain("its Nest application is shutting down");
    const refused = await rejection(redlock.tryAcquire(fresh(), TTL_MS));
    expect(refused).toMatchObject({ code: "ERR_REDLOCK_CLOSED" });

    gateByHand.open();
    expect(await runningByHand).toEqual([true, false]);
    expect([isClosed, database.isOpen]).toEqual([false, true]);
    gate.open();
    expect(await running).toEqual(["nested", true, false]);
    await closing;
    expect(database.isOpen).toBe(false);
    for (const name of [resource, inner, byHand]) await untilFree(servers, name);
  });

  test("ends the locks of what takes longer than drainTimeout", async () => {
    const resource = fresh();
    const Service = lockedClass(resource, TTL_MS);
    const application = await start([redlockModule({ drainTimeout: 50 })], [Service]);
    const warn = jest.spyOn(Logger.prototype, "warn").mockImplementation(() => undefined);
    const gate = new Gate();
    const running = rejection(
      application.get(Service).run(async () => {
        const signal = lockSignal();
        gate.enter();
        if (!signal.aborted) await once(signal, "abort");
      }),
    );
    await gate.entered;
    await application.close();
    expect(await running).toMatchObject({ code: "ERR_REDLOCK_LOST" });
    expect(String(warn.mock.calls[0]?.[0])).toContain(
      `What runs under the locks on ${resource} had not ended 50 ms after the shutdown began.`,
    );
    warn.mockRestore();
    await untilFree(servers, resource);
  });

  test("lets a leader resign, and waits for its function", async () => {
    const resource = fresh();
    let isDone = false;
    const application = await start([redlockModule()]);
    const redlock = application.get(Redlock);
    const gate = new Gate();
    const leading = redlock.lead(resource, TTL_MS, async (signal, lock) => {
      gate.enter();
      await once(signal, "abort");
      expect(lock.valid).toBe(false);
      // It may take another lock to come to its end.
      await redlock.using(fresh(), TTL_MS, () => undefined);
      isDone = true;
    });
    await gate.entered;
    const campaigning = redlock.lead(resource, TTL_MS, () => "never");
    await application.close();
    expect(isDone).toBe(true);
    expect(await Promise.all([leading, campaigning])).toEqual([undefined, undefined]);
    await untilFree(servers, resource);
  });

  test("lets a leader resign that was begun under a lock", async () => {
    const [resource, led] = [fresh(), fresh()];
    const Service = lockedClass(resource, TTL_MS);
    const application = await start([redlockModule()], [Service]);
    const redlock = application.get(Redlock);
    const [gate, gateOfLeader] = [new Gate(), new Gate()];
    let leading: Promise<unknown> | undefined;
    const running = application.get(Service).run(async () => {
      leading = redlock.lead(led, TTL_MS, async (signal) => {
        gateOfLeader.enter();
        await once(signal, "abort");
      });
      await gate.pass();
    });
    await Promise.all([gate.entered, gateOfLeader.entered]);
    const closing = application.close();
    // It resigns although what began it still runs.
    expect(await leading).toBeUndefined();
    gate.open();
    await Promise.all([running, closing]);
    for (const name of [resource, led]) await untilFree(servers, name);
  });

  test("lets what runs under the lock of one Redlock acquire one of another", async () => {
    const Service = lockedClass(fresh(), TTL_MS);
    const other = redlockModule({ name: "other" });
    const application = await start([redlockModule(), other], [Service]);
    const gate = new Gate();
    const running = application.get(Service).run(async () => {
      await gate.pass();
      const redlock: Redlock = application.get(getRedlockToken("other"));
      return redlock.using(fresh(), TTL_MS, () => "done");
    });
    await gate.entered;
    const closing = application.close();
    const refused = async (): Promise<boolean> => {
      const lock = await application
        .get(Redlock)
        .tryAcquire(fresh(), TTL_MS)
        .catch(() => null);
      await lock?.release();
      return lock === null;
    };
    await until(refused, 5000, () => "the shutdown does not begin");
    gate.open();
    expect(await running).toBe("done");
    await closing;
  });

  test("of a Redlock with permits lets leaders have the settings that a leader can have", async () => {
    const settings = { ...PATIENT, permits: 3 };
    const redlock = (await start([redlockModule({ settings })])).get(Redlock);
    expect(await redlock.lead(fresh(), TTL_MS, { fencing: true }, () => "led")).toBe("led");
    const shared = redlock.lead(fresh(), TTL_MS, { shared: true }, () => "led");
    expect((await rejection(shared)).message).toContain("lead() takes no shared");
  });

  test("still aborts the caller's own signal before it, and the waiting by it", async () => {
    const resource = fresh();
    const redlock = (await start([redlockModule()])).get(Redlock);
    await occupy(servers, resource);
    const own = new AbortController();
    const waiting = rejection(
      redlock.using(resource, TTL_MS, { retryCount: -1, signal: own.signal }, () => "never"),
    );
    const reason = new Error("the user closed the page");
    own.abort(reason);
    expect(await waiting).toBe(reason);
    const late = redlock.acquire(resource, TTL_MS, { signal: own.signal });
    expect(await rejection(late)).toBe(reason);
  });

  test("lets a request in flight release the lock that it acquired", async () => {
    class Database {
      constructor(readonly redlock: Redlock) {}
      lock: Lock | undefined;
      async beforeApplicationShutdown(): Promise<void> {
        await this.lock?.release();
      }
    }
    provider(Database);
    const resource = fresh();
    const application = await start([redlockModule()], [Database]);
    const database = application.get(Database);
    database.lock = await database.redlock.acquire(resource, TTL_MS);
    await application.close();
    await untilFree(servers, resource);
  });

  test.each([
    [false, "open"],
    [true, "closed"],
  ])("with closeClients: %s leaves clients that were passed in %s", async (closeClients, state) => {
    const clients = servers.map(({ port }) => new Redis(port, "127.0.0.1"));
    try {
      const application = await start([redlockModule({ nodes: clients, closeClients })]);
      await application.get(Redlock).using(fresh(), TTL_MS, () => 1);
      await application.close();
      if (state === "open") {
        expect(await Promise.all(clients.map((client) => client.ping()))).toHaveLength(3);
      } else {
        await until(
          () => clients.every(({ status }) => status === "end"),
          5000,
          () => clients.map(({ status }) => status).join(),
        );
      }
    } finally {
      // ioredis sets a timer for a client that has ended already, which keeps the process alive.
      disconnectAll(clients.filter(({ status }) => status !== "end"));
    }
  });

  test("works after the application's own quit()", async () => {
    const application = await start([redlockModule()]);
    const redlock = application.get(Redlock);
    await redlock.using(fresh(), TTL_MS, () => 1);
    await redlock.quit();
    await application.close();
    expect(await rejection(redlock.acquire(fresh(), TTL_MS))).toMatchObject({
      code: "ERR_REDLOCK_CLOSED",
    });
  });
});
