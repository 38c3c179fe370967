import pRetry from "p-retry";

/** Stands for a refused attempt inside p-retry. It never leaves this file. */
const refused = new Error("refused");

/**
 * Retries after a refused attempt, until an attempt returns something other than undefined or false, or the retries are
 * used up.
 * `pause` waits before each retry and returns whether to go on. Whatever it or an attempt throws ends the retries.
 */
export async function retry<T>(
  retries: number,
  pause: () => Promise<boolean>,
  attempt: () => Promise<T | undefined | false>,
): Promise<T | undefined> {
  try {
    return await pRetry(
      async (attemptNumber) => {
        // The first was made, and refused, before p-retry was needed.
        const result = attemptNumber === 1 ? undefined : await attempt();
        if (result === undefined || result === false) throw refused;
        return result;
      },
      {
        retries,
        minTimeout: 0,
        onFailedAttempt: async ({ error, retriesLeft }) => {
          if (error !== refused || (retriesLeft > 0 && !(await pause()))) throw error;
        },
      },
    );
  } catch (error) {
    if (error === refused) return undefined;
    throw error;
  }
}
