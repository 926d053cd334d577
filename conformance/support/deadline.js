// Waiting for something to happen, never for time to pass.

/** Longest wait for anything. A wait that is met ends at once, so this only has to be long enough for a busy machine. */
export const DEADLINE_MS = 20_000

/** What `promise` gives; fails with `what` when it gives nothing. */
export async function within (what, promise) {
  let timer
  const late = new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${DEADLINE_MS} ms`)), DEADLINE_MS)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** The next `event` of `emitter`, as the list of its arguments. An `error` event in between is somebody else's business. */
export function emitted (emitter, event) {
  return within(`event "${event}"`, new Promise((resolve) => emitter.once(event, (...values) => resolve(values))))
}
