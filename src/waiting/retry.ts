import pRetry from "p-retry";

/** A refused attempt, on its way through p-retry; nobody outside sees it. */
const refused = new Error("refused");

/**
 * Attempts again, after one that was refused, until an attempt gives something or the retries are used
 * up. Undefined is a refusal. `pause` does the waiting, and says whether to go on; what it or an attempt
 * throws ends it all.
 */
export async function retry<T>(
  retries: number,
  pause: () => Promise<boolean>,
  attempt: () => Promise<T | undefined>,
): Promise<T | undefined> {
  try {
    return await pRetry(
      async (attemptNumber) => {
        // The first was made, and refused, before p-retry was needed.
        const result = attemptNumber === 1 ? undefined : await attempt();
        if (result === undefined) throw refused;
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
