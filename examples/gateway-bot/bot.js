// A complete bot for the gateway: it registers one shard, handles events, answers interactions and commands, and comes back
// with everything it missed after its own restart, the server's, or both. README.md says how to run it.

'use strict'

const fs = require('node:fs')
const WebSocket = require('ws')

const {
  GATEWAY_URL = 'ws://127.0.0.1:8080/gateway',
  PUBLIC_KEY = '',
  SECRET,
  SHARD = '0',
  SHARD_TOTAL,
  ROOM,
  STATE_FILE = `shard-${SHARD}.json`,
  PACE = '1' // what all times are multiplied by: tests hurry
} = process.env

const seconds = (count) => count * 1000 * Number(PACE)
const random = (from, to) => from + Math.random() * (to - from)

// ---- What this bot does. Replace it by what yours does. ----

/** Handles an event. When it returns, the event is dealt with and will not come again. */
function handle ({ s, event, data }) {
  log('event', s, event, JSON.stringify(data))
  if (event === 'INTERACTION_DISCORD') {
    // The caller waits for this answer, and not for long.
    const [interaction] = data.metadata_http
    send({ type: 4, id: interaction.id, data: { type: 4, data: { content: 'pong' } } })
  }
}

/** Does what the server asks for, and gives the reply. */
function execute ({ key }) {
  if (key === 'heartbeat') return { success: true }
  return { success: false, error: `I do not know ${key}` }
}

// ---- What is kept: which session this is, and how far it has come. ----

let session = load()

function load () {
  try {
    return JSON.parse(fs.readFileSync(STATE_FILE, 'utf8'))
  } catch (error) {
    if (error.code === 'ENOENT') return null
    throw error
  }
}

/** Whoever reads the file finds the old state or the new one, never half of one. It holds a secret: the id is all it takes to resume. */
function save (state) {
  session = state
  fs.writeFileSync(`${STATE_FILE}.new`, JSON.stringify(session), { mode: 0o600 })
  fs.renameSync(`${STATE_FILE}.new`, STATE_FILE)
}

// ---- The connection. ----

let socket
let failures = 0 // connections in a row that came to nothing
let notBefore = 0 // the server asks to be left alone until then
let timers = [] // of this connection; they end with it
let isAttached = false // it has its session
let isAnswered = true // the last ping, which was sent then
let pingedAt = 0

function connect () {
  const connection = socket = new WebSocket(GATEWAY_URL, { handshakeTimeout: seconds(30) })
  connection.on('open', () => identify())
  connection.on('message', (data) => receive(JSON.parse(data)))
  connection.on('error', (error) => log('error', error.message)) // the close follows
  connection.on('close', (code) => closed(code))
}

function send (message) {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message))
}

function later (ms, act) {
  timers.push(setTimeout(act, ms))
}

/** Takes the session up where it was left, or begins a new one. */
function identify () {
  const d = { public_key: PUBLIC_KEY, secret: SECRET, shard_in: Number(SHARD), flags: 0, client: { commands: true } }
  if (session?.session_id) {
    send({ type: 5, d: { ...d, session_id: session.session_id, seq: session.s } })
  } else {
    send({ type: 1, d: { ...d, shard_total: SHARD_TOTAL && Number(SHARD_TOTAL) } })
  }
  later(seconds(30), () => isAttached || socket.terminate())
}

function attached (how) {
  log(how, session.session_id.slice(0, 4) + '…', 'at', session.s)
  isAttached = isAnswered = true
  failures = 0
  later(random(0, seconds(30)), heartbeat)
}

/** Measures the way to the server, acknowledges what was dealt with, and notices when nobody is there any more. */
function heartbeat () {
  if (!isAnswered) return socket.terminate()
  isAnswered = false
  pingedAt = performance.now()
  send({ type: 3, d: { seq: session.s } })
  later(seconds(30), heartbeat)
}

function receive (message) {
  if (message.s !== undefined) return receiveEvent(message)
  const { event, data } = message
  switch (event) {
    case 'GATEWAY_READY':
      save({ session_id: data.session_id, s: 0 })
      attached('ready')
      // The session is a member from now on: after a resume too.
      if (ROOM) send({ type: 10, d: { op: 'join', room: ROOM } })
      break
    case 'GATEWAY_RESUMED':
      attached('resumed')
      break
    case 'GATEWAY_INVALID':
      // The session is gone, and with it what it had not delivered. With wrong credentials the close 4004 follows.
      log('invalid')
      save(null)
      later(random(seconds(1), seconds(5)), identify)
      break
    case 'GATEWAY_PING':
      isAnswered = true
      log('ping', `${(performance.now() - pingedAt).toFixed(1)} ms`)
      break
    case 'GATEWAY_ERROR':
      refused(data)
      break
    case 'GATEWAY_RECONNECT':
      // The server is about to stop; not all bots shall come back at once.
      later(data.reconnect_after_ms, () => socket.close(1000))
      break
    case 'GATEWAY_COMMAND':
      log('command', data.key)
      send({ type: 9, d: { _id: data._id, reply: execute(data) } })
      break
    case 'GATEWAY_ROOM':
      log('room', data.op, data.room, data.ok ? 'ok' : data.reason)
      break
  }
}

function receiveEvent (message) {
  if (message.s !== session.s + 1) {
    log(`event ${message.s} came behind ${session.s}: this must not happen`)
    process.exit(1)
  }
  handle(message)
  save({ ...session, s: message.s })
}

/** Some errors leave the connection open, the others are followed by its close. */
function refused ({ code, reason, retry_after_ms: wait }) {
  log('refused', code, reason)
  if (wait) notBefore = Date.now() + wait
  switch (code) {
    case 4023: // shard 0 has to come first
    case 4024: // too many begin at once
      later((wait ?? 0) + random(0, seconds(1)), identify)
      break
    case 4001: // a type that this server does not know
    case 4002: // not understood
    case 4003: // not registered
    case 4005: // registered already
    case 4007: // acknowledged what has not been sent
      log('this bot said something wrong')
  }
}

/** What becomes of the bot and its session after a close code. */
function closed (code) {
  timers.forEach(clearTimeout)
  timers = []
  isAttached = false
  log('closed', code)
  switch (code) {
    case 4004: // wrong credentials
    case 4010: // no such shard
    case 4012: // this server does not speak so
    case 4020: // another instance has taken over
      process.exitCode = 1
      return
    case 4022: // the fleet has another number of shards now
    case 4027: // ended by an operator
      save(null)
      break
    // Whatever else it is keeps the session: 1000, 1001 and 1012 (planned), 1006 (lost), 1011 and 4000 (failed), 1013 (busy),
    // 4003 (too slow to register), 4008 (too many messages), 4021 (silent), 4025 (too many sessions today), 4026 (read too
    // slowly), and 1002, 1007, 1009, 4002 if this bot sends what it must not.
  }
  const pause = Math.min(seconds(1) * 2 ** failures++, seconds(60)) * random(0.5, 1)
  setTimeout(connect, Math.max(pause, notBefore - Date.now()))
}

function log (...words) {
  console.log(...words)
}

// The session stays for the next start. To give it up, close with 4100.
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    if (socket.readyState === WebSocket.CLOSED) process.exit(0)
    socket.removeAllListeners('close')
    socket.on('close', () => process.exit(0))
    socket.close(1001)
  })
}

connect()
