// Compiles, and so shows which methods and resource functions `Locked` takes.
import { Injectable } from "@nestjs/common";
import {
  InjectRedlock,
  Locked,
  type RedlockModuleOptions,
  RedlockModule,
  type RedlockOptionsFactory,
} from "redlock-quorum/nestjs";
import type { Redlock } from "redlock-quorum";

interface Order {
  readonly id: string;
}

@Injectable()
export class Allowed {
  @InjectRedlock("billing") readonly billing!: Redlock;

  @Locked("a", 1000)
  async name(): Promise<void> {}

  @Locked(["a", "b"] as const, 1000, { redlock: "billing", acquireTimeout: 100 })
  async names(_id: string): Promise<number> {
    return 1;
  }

  @Locked((id: string) => id, 1000)
  async first(_id: "x" | "y", _order: Order): Promise<void> {}

  @Locked((_id: string, { id }: Order) => [id], 1000)
  async both(_id: string, _order: Order & { readonly paid: boolean }): Promise<void> {}

  @Locked((id?: string) => id ?? "none", 1000)
  async optional(_id?: string): Promise<void> {}

  @Locked((...ids: string[]) => ids, 1000)
  async rest(..._ids: string[]): Promise<void> {}

  @Locked((id: string) => id, 1000)
  async generic<T>(_id: string, value: T): Promise<T> {
    return value;
  }
}

export class Refused {
  // @ts-expect-error a number where the resource function takes a string
  @Locked((id: string) => id, 1000)
  async type(_id: number): Promise<void> {}

  // @ts-expect-error a call may leave out what the resource function needs
  @Locked((id: string) => id, 1000)
  async optional(_id?: string): Promise<void> {}

  // @ts-expect-error more parameters than the method has
  @Locked((_id: string, order: Order) => order.id, 1000)
  async more(_id: string): Promise<void> {}

  // @ts-expect-error a method that returns no promise
  @Locked("a", 1000)
  now(): number {
    return 1;
  }

  // @ts-expect-error no such setting
  @Locked("a", 1000, { retries: 1 })
  async setting(): Promise<void> {}

  // @ts-expect-error a resource is a string
  @Locked((id: number) => id, 1000)
  async resource(_id: number): Promise<void> {}
}

@Injectable()
export class Config implements RedlockOptionsFactory {
  createRedlockOptions(): RedlockModuleOptions {
    return { nodes: ["redis://127.0.0.1"], settings: { keyPrefix: "lock:" }, drainTimeout: 1000 };
  }
}

export const modules = [
  RedlockModule.forRootAsync({ useClass: Config }),
  RedlockModule.forRootAsync({ useExisting: Config, imports: [], name: "billing" }),
  RedlockModule.forRootAsync({
    inject: [Config],
    useFactory: async (config: Config) => config.createRedlockOptions(),
  }),
  RedlockModule.forRoot({ nodes: new Set(["redis://127.0.0.1"]), closeClients: true }),
  // @ts-expect-error the nodes are missing
  RedlockModule.forRoot({ isGlobal: true }),
];
