// A proxy in a process of its own, so that what it does is not on the measured client's event loop.

import { startProxy } from "../../tests/support/proxy.js";
import { serve } from "../workers.js";

export interface Task {
  readonly port: number;
  readonly replyDelayMs: number;
}

await serve(async (task) => {
  const { port, replyDelayMs } = task as Task;
  const proxy = await startProxy(port);
  proxy.replyDelayMs = replyDelayMs;
  return () => Promise.resolve(proxy.url);
});
