// Debian's Chromium without a window, driven over its DevTools protocol.

import { spawn } from 'node:child_process'

import WebSocket from 'ws'

import { emitted, within } from './deadline.js'
import { temporaryFolder } from './server.js'

const OPTIONS = [
  '--headless=new', '--remote-debugging-port=0', '--no-first-run', '--disable-gpu', '--disable-dev-shm-usage',
  '--disable-background-networking', '--disable-component-update', '--disable-sync', '--mute-audio',
  // There is no sandbox for root, as whom containers and continuous integration run.
  ...(process.getuid() === 0 ? ['--no-sandbox'] : [])
]

export class Browser {
  #child
  #connection

  static async start () {
    const browser = new Browser()
    const folder = temporaryFolder()
    const words = [...OPTIONS, `--user-data-dir=${folder.path}`, 'about:blank']
    const child = browser.#child = spawn('chromium', words, { stdio: ['ignore', 'ignore', 'pipe'] })
    child.on('close', () => folder.remove())
    let log = ''
    const address = new Promise((resolve, reject) => {
      child.on('error', (error) => reject(new Error(`chromium could not be started: ${error.message}`)))
      child.on('close', (code) => reject(new Error(`chromium ended with ${code}\n${log}`)))
      child.stderr.setEncoding('utf8').on('data', (text) => {
        log += text
        const found = /DevTools listening on (ws:\S+)/.exec(log)
        if (found) resolve(found[1])
      })
    })
    try {
      browser.#connection = await Connection.open(await within('the address of chromium', address))
    } catch (error) {
      child.kill('SIGKILL')
      throw error
    }
    return browser
  }

  /** A new page that shows `url`. */
  async open (url) {
    const { targetId } = await this.#connection.ask('Target.createTarget', { url: 'about:blank' })
    const { sessionId } = await this.#connection.ask('Target.attachToTarget', { targetId, flatten: true })
    const page = new Page(this.#connection, sessionId)
    await page.ask('Runtime.enable')
    await page.ask('Log.enable')
    await page.ask('Page.enable')
    const { errorText } = await page.ask('Page.navigate', { url })
    if (errorText) throw new Error(`${url}: ${errorText}`)
    return page
  }

  async stop () {
    const ended = new Promise((resolve) => this.#child.once('close', resolve))
    // It has no answer to this when it is quick.
    this.#connection.ask('Browser.close').catch(() => {})
    await within('the end of chromium', ended)
  }
}

class Page {
  /** What the page complained about: exceptions that nobody caught, and errors in its console or from the browser. */
  complaints = []
  #connection
  #sessionId

  constructor (connection, sessionId) {
    this.#connection = connection
    this.#sessionId = sessionId
    connection.listen(sessionId, (method, { exceptionDetails, type, args, entry }) => {
      if (method === 'Runtime.exceptionThrown') {
        this.complaints.push(exceptionDetails.exception?.description ?? exceptionDetails.text)
      } else if (method === 'Runtime.consoleAPICalled' && type === 'error') {
        this.complaints.push(args.map(({ value, description }) => value ?? description).join(' '))
      } else if (method === 'Log.entryAdded' && entry.level === 'error') {
        this.complaints.push(`${entry.text} ${entry.url ?? ''}`)
      }
    })
  }

  ask (method, params) {
    return this.#connection.ask(method, params, this.#sessionId)
  }

  /** What this function gives when it is called in the page with these words. A promise is waited for. */
  async run (act, ...words) {
    const expression = `(${act})(${words.map((word) => JSON.stringify(word)).join(', ')})`
    const { result, exceptionDetails } = await this.ask('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true })
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text)
    return result.value
  }

  /** Looks in the page with this function, again and again, until it gives something. */
  until (look, ...words) {
    return within(`${look} of the page`, this.run(`async (...words) => {
      let seen
      while (!(seen = (${look})(...words))) await new Promise((resolve) => setTimeout(resolve, 10))
      return seen
    }`, ...words))
  }

  /** Types into the field that has the focus, like a keyboard would. */
  type (text) {
    return this.ask('Input.insertText', { text })
  }

  async press (key) {
    const code = { key, code: key, text: '\r', windowsVirtualKeyCode: 13 }
    await this.ask('Input.dispatchKeyEvent', { type: 'keyDown', ...code })
    await this.ask('Input.dispatchKeyEvent', { type: 'keyUp', ...code })
  }
}

/** The DevTools protocol: requests with numbers, and events of sessions. */
class Connection {
  #socket
  #lastId = 0
  #pending = new Map()
  #listeners = new Map()

  static async open (address) {
    const connection = new Connection()
    const socket = connection.#socket = new WebSocket(address)
    socket.on('message', (text) => connection.#take(JSON.parse(text)))
    socket.on('close', () => {
      for (const { reject } of connection.#pending.values()) reject(new Error('chromium is gone'))
    })
    await emitted(socket, 'open')
    return connection
  }

  ask (method, params = {}, sessionId) {
    const id = ++this.#lastId
    this.#socket.send(JSON.stringify({ id, method, params, sessionId }))
    return new Promise((resolve, reject) => this.#pending.set(id, { resolve, reject }))
  }

  listen (sessionId, listener) {
    this.#listeners.set(sessionId, listener)
  }

  #take ({ id, result, error, method, params, sessionId }) {
    if (method) return this.#listeners.get(sessionId)?.(method, params)
    const { resolve, reject } = this.#pending.get(id)
    this.#pending.delete(id)
    if (error) reject(new Error(error.message))
    else resolve(result)
  }
}
