// A client of our own: lines in, lines out, nothing assumed about them but the number of an answer.

import net from 'node:net'

import { within } from './deadline.js'

export class RawClient {
  #socket
  #partial = ''
  #asked = 0
  #answers = new Map()
  #others = []
  #wake = () => {}
  #end = null

  /** Speaks over `socket`, which may be a TCP or a TLS one. */
  constructor (socket) {
    this.#socket = socket
    this.ended = new Promise((resolve) => socket.once('close', resolve))
    socket.setEncoding('utf8')
    socket.on('data', (text) => {
      const lines = (this.#partial + text).split('\r\n')
      this.#partial = lines.pop()
      for (const line of lines) this.#take(JSON.parse(line))
    })
    socket.on('error', (error) => { this.#end = error })
    socket.on('close', () => {
      this.#end ??= new Error('the connection ended')
      for (const { reject } of this.#answers.values()) reject(this.#end)
      this.#answers.clear()
      this.#wake()
    })
  }

  /** Connects to `server` and takes the welcome line. */
  static async connect (server) {
    const client = new RawClient(net.connect(server.port, server.host))
    client.welcome = await client.hear()
    return client
  }

  /** Sends one line and gives the answer to it. Without waiting for that, more lines may be sent. */
  ask (line) {
    return this.askAll([line])[0]
  }

  /** Sends these lines in one write and gives the answer to each. */
  askAll (lines) {
    const answers = lines.map((line) => {
      this.#asked++
      const answer = within(`the answer to ${line.slice(0, 40)}`, new Promise((resolve, reject) => {
        this.#answers.set(this.#asked, { resolve, reject })
      }))
      // Whoever does not look at it does not want to know.
      answer.catch(() => {})
      return answer
    })
    this.#socket.write(lines.map((line) => `${line}\r\n`).join(''))
    return answers
  }

  /** The next line that is no answer: welcome, goodbye, room messages. */
  async hear () {
    while (this.#others.length === 0) {
      if (this.#end) throw this.#end
      await within('a line', new Promise((resolve) => { this.#wake = resolve }))
    }
    return this.#others.shift()
  }

  /** The connection's own id. */
  async id () {
    return (await this.ask('detailsView')).data.id
  }

  /** Says goodbye, and gives what the server says to that. */
  async quit () {
    this.#socket.write('quit\r\n')
    const goodbye = await this.hear()
    this.#socket.end()
    await within('the end of the connection', this.ended)
    return goodbye
  }

  #take (line) {
    const answer = line.context === 'response' && this.#answers.get(line.messageCount)
    if (answer) {
      this.#answers.delete(line.messageCount)
      answer.resolve(line)
    } else {
      this.#others.push(line)
      this.#wake()
    }
  }
}
