// What arrived and was not taken yet.

import { within } from './deadline.js'

export class Inbox {
  #what
  #items = []
  #wake = () => {}

  /** An empty one. A wait in vain is reported as a wait for `what`. */
  constructor (what) {
    this.#what = what
  }

  put (item) {
    this.#items.push(item)
    this.#wake()
  }

  /** The oldest item, at once or when there is one. */
  async next () {
    while (this.#items.length === 0) await within(this.#what, new Promise((resolve) => { this.#wake = resolve }))
    return this.#items.shift()
  }

  /** What nobody took, which is then gone. */
  rest () {
    return this.#items.splice(0)
  }
}
