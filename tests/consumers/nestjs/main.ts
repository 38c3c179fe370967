import "reflect-metadata";
import { Controller, Get, Injectable, Module, Param } from "@nestjs/common";
import { NestFactory } from "@nestjs/core";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { type Lock, Redlock } from "redlock-quorum";
import { currentLock, Locked, lockSignal, RedlockModule } from "redlock-quorum/nestjs";

const nodes = process.argv.slice(2);
const settings = { nodeTimeout: 10_000 };

@Injectable()
class Orders {
  lock: Lock | undefined;

  // The type is the token: emitDecoratorMetadata writes it down.
  constructor(private readonly redlock: Redlock) {}

  @Locked((id: string) => ["free", `order:${id}`], 30_000)
  async ship(id: string): Promise<string> {
    lockSignal().throwIfAborted();
    this.lock = currentLock();
    const isOurs = this.lock.redlock === this.redlock && this.redlock instanceof Redlock;
    return `${id} ${isOurs ? "shipped" : "by another Redlock"}`;
  }

  @Locked("taken", 30_000, { retryCount: 0 })
  async refuse(): Promise<void> {}

  async hold(): Promise<Lock> {
    return this.redlock.acquire("free", 30_000);
  }
}

@Controller("orders")
class OrdersController {
  constructor(private readonly orders: Orders) {}

  @Get(":id")
  @Locked((id: string) => `request:${id}`, 30_000)
  async ship(@Param("id") id: string): Promise<string> {
    return this.orders.ship(id);
  }
}

@Module({ controllers: [OrdersController], providers: [Orders] })
class OrdersModule {}

@Module({
  imports: [
    RedlockModule.forRootAsync({ isGlobal: true, useFactory: () => ({ nodes, settings }) }),
    OrdersModule,
  ],
})
class AppModule {}

async function main(): Promise<void> {
  const application = await NestFactory.create(AppModule, { logger: false });
  application.enableShutdownHooks();
  await application.listen(0, "127.0.0.1");
  const { port } = (application.getHttpServer() as Server).address() as AddressInfo;
  const shipped = await (await fetch(`http://127.0.0.1:${port}/orders/7`)).text();

  const orders = application.get(Orders, { strict: false });
  const refused = await orders.refuse().catch((error: { code?: string }) => error.code);
  const held = await orders.hold();
  await application.close();
  console.log(JSON.stringify({ value: held.value, shipped, refused }));
}

void main();
