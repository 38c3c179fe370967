import type { RedisClient } from "./client.js";
import type { Connection } from "./connection.js";
import { onceForAllNodes } from "./once-for-all-nodes.js";

/** What ioredis sends: its `Command`. */
interface IoredisCommand {
  args: readonly string[];
  readonly promise: Promise<unknown>;
  toWritable(): string | Buffer;
}

interface CommandOptions {
  readonly replyEncoding: "utf8";
}

type CommandClass<Args> = new (name: string, args: Args, options: CommandOptions) => IoredisCommand;

/** What a client of ioredis or iovalkey has beyond `RedisClient`. */
interface EncodableClient extends RedisClient {
  /** Another name of `call`. The two differ if somebody has replaced `call`, who then expects to be called. */
  readonly send_command?: RedisClient["call"];
  readonly sendCommand: (command: IoredisCommand) => Promise<unknown>;
  readonly options: {
    readonly keyPrefix?: string;
    readonly enableAutoPipelining?: boolean;
    readonly showFriendlyErrorStack?: boolean;
  };
}

/** A command, and its bytes on the wire. */
interface Encoded {
  readonly args: readonly string[];
  readonly bytes: Buffer;
}

/** The commands of operations, most of which all nodes are sent. */
const SHARED: ReadonlySet<string> = new Set(["set", "evalsha"]);

/**
 * Returns the function that sends commands as bytes which are made once for all nodes. ioredis by itself would build and
 * transcode the text again for each client, which is most of what a write costs.
 *
 * The command is ioredis' own, and goes through the client's `sendCommand`, so that the offline queue, timeouts, resending
 * and tracing work as ever. Undefined if the client has to see the arguments: that of a Cluster finds the slot in them,
 * and the options `keyPrefix` and `enableAutoPipelining` change what is sent.
 */
export function encodedSending(client: RedisClient): Connection["send"] | undefined {
  if (!isEncodable(client)) return undefined;
  const EncodedCommand = encodedCommandOf(client);
  if (EncodedCommand === undefined) return undefined;
  return (command, args) =>
    SHARED.has(command) && isOriginal(client)
      ? client.sendCommand(new EncodedCommand(command, encoded(command, args), AS_TEXT))
      : client.call(command, ...args);
}

/**
 * Returns the function that sends commands to a Cluster by themselves. With `enableAutoPipelining`, ioredis takes the first
 * argument of `call`, which is the command's name, for its key: it pipelines commands for several servers together, and
 * then rejects them all. Undefined for any other client.
 */
export function unpipelinedSending(client: RedisClient): Connection["send"] | undefined {
  const { isCluster, options } = client as Partial<EncodableClient>;
  if (isCluster !== true || options?.enableAutoPipelining !== true) return undefined;
  const direct = {
    options: { ...options, enableAutoPipelining: false },
    sendCommand: (command: IoredisCommand) => (client as EncodableClient).sendCommand(command),
  };
  return (command, args) =>
    isOriginal(client)
      ? client.call.call(direct as EncodableClient, command, ...args)
      : client.call(command, ...args);
}

const AS_TEXT: CommandOptions = { replyEncoding: "utf8" };

/** Whether nobody has replaced the client's `call`. */
function isOriginal(client: Partial<EncodableClient>): boolean {
  return client.send_command === client.call;
}

function isEncodable(client: RedisClient): client is EncodableClient {
  const { isCluster, sendCommand, options } = client as Partial<EncodableClient>;
  return (
    isCluster !== true &&
    isOriginal(client) &&
    typeof sendCommand === "function" &&
    options !== undefined &&
    (options.keyPrefix ?? "") === "" &&
    options.enableAutoPipelining !== true &&
    options.showFriendlyErrorStack !== true
  );
}

const known = new WeakMap<CommandClass<readonly string[]>, CommandClass<Encoded>>();

/**
 * Returns the class of encoded commands that fits a client; undefined if its library is built otherwise than ioredis.
 * A client may be of another copy of ioredis than the library's own, or of iovalkey: its own `call` tells the class.
 */
function encodedCommandOf(client: EncodableClient): CommandClass<Encoded> | undefined {
  let made: unknown;
  const catcher = { options: {}, sendCommand: (command: unknown) => (made = command) };
  try {
    void client.call.call(catcher as EncodableClient, "ping");
  } catch {
    return undefined;
  }
  if (!isCommand(made)) return undefined;
  const Command = made.constructor as CommandClass<readonly string[]>;
  let EncodedCommand = known.get(Command);
  if (EncodedCommand === undefined) known.set(Command, (EncodedCommand = encodedClass(Command)));
  return EncodedCommand;
}

function isCommand(made: unknown): made is IoredisCommand {
  return (
    typeof made === "object" &&
    made !== null &&
    "toWritable" in made &&
    typeof made.toWritable === "function" &&
    "args" in made &&
    "promise" in made
  );
}

function encodedClass(Command: CommandClass<readonly string[]>): CommandClass<Encoded> {
  return class EncodedCommand extends Command {
    readonly #bytes: Buffer;

    constructor(name: string, { args, bytes }: Encoded, options: CommandOptions) {
      // Without arguments, which ioredis would copy and check one by one.
      super(name, [], options);
      this.args = args;
      this.#bytes = bytes;
    }

    override toWritable(): Buffer {
      return this.#bytes;
    }
  };
}

/** Encodes a command as RESP arrays are. Source: the Redis serialization protocol specification, "Arrays". */
const encoded = onceForAllNodes((command, args): Encoded => {
  const texts = args.map(String);
  const parts = [`*${texts.length + 1}`, lengthPart(command), command];
  for (const text of texts) parts.push(lengthPart(text), text);
  parts.push("\r\n");
  return { args: texts, bytes: Buffer.from(parts.join("")) };
});

/** For each length up to that of usual keys and values: the text between one argument and the next. */
const lengthParts = Array.from({ length: 256 }, (_, length) => `\r\n$${length}\r\n`);

function lengthPart(text: string): string {
  const length = Buffer.byteLength(text);
  return lengthParts[length] ?? `\r\n$${length}\r\n`;
}
