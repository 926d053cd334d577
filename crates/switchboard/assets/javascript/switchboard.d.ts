/** The client of Switchboard for web pages. How to use it: docs/guide/browser.md. */

export interface Options {
  /**
   * How to come back after the link is lost: after a time between 0 and `min * factor ** attempts` ms, at most `max`, drawn
   * at random. What is left out is 500, 30000 and 2. `false`: not at all.
   */
  reconnect?: false | { min?: number, max?: number, factor?: number }
  /** How long a request, or connecting, may take, in ms: 10000. Then it is given up. */
  timeout?: number
  /** How long the server may be silent, in ms: 45000. Then the link counts as lost. Servers ping every 30 s. */
  silence?: number
  /**
   * What this client tells the server about itself on each connection, for operators: `{ framework: 'shop 1.2' }`. `commands`
   * comes from `onCommand`; with `extended: true` room messages have `number` and `user`.
   */
  clientData?: Record<string, unknown>
  /** How many requests may wait for their answers: 256. More are refused with code `busy`. */
  maxPending?: number
  /** What to connect with, where there is no global `WebSocket`: the class of the npm package `ws`, say. */
  WebSocket?: new (url: string) => object
}

export type State = 'disconnected' | 'connecting' | 'connected' | 'reconnecting'

/**
 * - `refused`: the server said no; `message` is the reason, `answer` what it said, null for a refused connection
 * - `timeout`: no answer in time; the server may have done it nevertheless
 * - `disconnected`: there is no connection, or it was lost before the answer
 * - `busy`: `maxPending` requests wait already; nothing was sent
 * - `protocol`: the server sent something that cannot be read
 */
export type ErrorCode = 'refused' | 'timeout' | 'disconnected' | 'busy' | 'protocol'

export class SwitchboardError extends Error {
  constructor (code: ErrorCode, message: string, answer?: Answer | null)
  readonly name: 'SwitchboardError'
  readonly code: ErrorCode
  readonly answer: Answer | null
}

/** Whatever the server answers. */
export interface Answer {
  context: 'response'
  messageId?: number
  messageCount?: number
  error?: unknown
  status?: unknown
  data?: unknown
  [member: string]: unknown
}

/** A connection as the server sees it. Times are ms since 1970. */
export interface Details {
  id: string
  fingerprint: string | null
  remoteIP: string
  remotePort: number
  params: Record<string, unknown>
  connectedAt: number
  /** In the order of joining. */
  rooms: string[]
  totalActions: number
  pendingActions: number
}

export interface RoomView {
  room: string
  members: Record<string, { id: string, joinedAt: number }>
  membersCount: number
}

export interface FileContent {
  content: string
  mime: string
  length: number
  lastModified: string | null
}

/** What somebody said in a room. */
export interface RoomMessage {
  context: 'user'
  /** Text from clients of this protocol; the server and other protocols may say any JSON. Show it as text, never as HTML. */
  message: unknown
  room: string
  /** The id of who said it; 0 or a name of its own for the server. */
  from: string | number
  sentAt: number
  /** Only with `setCustomClientData {"extended":true}`. */
  number?: number
  user?: string | null
}

/** Something that the server asks this client to do. */
export interface Command {
  context: 'command'
  _id: string
  key: string
  /** The whole command as its sender wrote it. */
  cmd: { key: string, [member: string]: unknown }
  /** The member `data` of the command, if it has one. */
  data?: unknown
  /** When it was handed over, in ms since 1970. */
  ts: number
  /** How long there is time for the reply, in ms. */
  ttl_ms: number
}

/** Messages of this room were lost on the way: the first and the last number, `last` null when that is not known. */
export interface Gap {
  context: 'api'
  room: string
  gap: { first: number, last: number | null }
}

export interface Welcome {
  context: 'api'
  welcome: string
}

export interface Events {
  /** The connection is there, or there again: the rooms of before are joined already. `id` is a new one each time. */
  connected: Details
  /** The connection is lost. `reconnect`: whether this client tries to come back. */
  disconnected: { code: number, reason: string, reconnect: boolean }
  /** The next attempt comes in `delay` ms. */
  reconnecting: { attempt: number, delay: number }
  welcome: Welcome
  say: RoomMessage
  gap: Gap
  /** Whatever else the server sends: messages of the application for this client alone, notices, commands without `onCommand`. */
  message: unknown
  /**
   * The server could not be reached or refused this client, a room could not be joined again, a message could not be
   * read, or the server did not take client data or a reply. Failed requests reject and cause no event.
   */
  error: SwitchboardError
}

export class Switchboard {
  /**
   * @param url of the server: `https://chat.example.org`, `ws://127.0.0.1:8080/primus`, or a path. Left out: where the page is
   * from. Without a path it is `/primus`.
   */
  constructor (url?: string, options?: Options)

  readonly url: string
  readonly state: State
  /** The id of this connection while it is connected, else null. */
  readonly id: string | null
  /** The rooms that `join` has joined, and joins again after the link was lost. */
  readonly rooms: string[]

  /**
   * Connects. Rejects with code `refused` and the reason if the server refuses, with `disconnected` if it cannot be
   * reached or `disconnect` was called; the first attempt is not repeated. While the client reconnects, it settles with
   * the next attempt.
   */
  connect (): Promise<Details>
  /** Leaves and does not come back; rooms are forgotten. */
  disconnect (): void

  /** Runs an action. Rejects with code `refused` when its answer has an `error`. */
  action<T = Record<string, unknown>> (
    name: string, params?: Record<string, unknown>, options?: { timeout?: number }
  ): Promise<T & Answer>

  /** Resolves when this connection is in the room, even if it was before. */
  join (room: string): Promise<void>
  /** Resolves when this connection is not in the room, even if it never was. */
  leave (room: string): Promise<void>
  /** Who is in a room that this connection is in. */
  room (room: string): Promise<RoomView>
  /** Says something in a room that this connection is in. Resolves when the server has taken it. */
  say (room: string, message: string): Promise<{ number: number } | null>
  /** A file of the server's public folder, as text. */
  file (name: string): Promise<FileContent>
  /** Asks the server who this connection is and where. */
  details (): Promise<Details>
  /** The actions of the server. */
  documentation (): Promise<Record<string, unknown>>
  /** Sends any verb with these members and gives the whole answer. */
  request (verb: string, members?: Record<string, unknown>, options?: { timeout?: number }): Promise<Answer>

  /**
   * Does what the server asks for under this key, and tells the server that this client can. An object that `handler` returns
   * is the reply, with `success: true` unless it has its own; any other value becomes its `data`. What it throws becomes
   * `{ success: false, error: { message } }`, and so does a command without a handler once there is one for another key. Nothing is sent
   * when the time for the reply is over. One handler a key; the result ends that.
   */
  onCommand (key: string, handler: (command: Command) => unknown): () => void

  /** Calls `listener` at each event of this name; the result ends that. */
  on<Name extends keyof Events> (name: Name, listener: (value: Events[Name]) => void): () => void
  off<Name extends keyof Events> (name: Name, listener: (value: Events[Name]) => void): void
}
