/**
 * A turn of its own, outside the microtasks, which a schedule must be able to run to their end. Its errors have no
 * stacks unless somebody will read them: a schedule is full of errors, and stacks take half its time.
 */
export function turn<T>(body: () => T, stackFrames = 0): Promise<T> {
  return new Promise((resolve, reject) => {
    setImmediate(() => {
      const { stackTraceLimit } = Error;
      Error.stackTraceLimit = stackFrames;
      try {
        resolve(body());
      } catch (error) {
        reject(error instanceof Error ? error : new Error(String(error)));
      } finally {
        Error.stackTraceLimit = stackTraceLimit;
      }
    });
  });
}
