// A bot that takes client commands as the SDK's never published branch for them does: what it sends and when, which commands it passes over,
// and what ends its process. The code is ours.
//
// As there, nobody catches what goes wrong while a command is handled: a member that is missing, or a refusal after a reconnect, is an
// unhandled rejection, which ends a bot and fails a test.

import { SdkBot } from './sdk-bot.js'
import { within } from './deadline.js'

const CLIENT_DATA = {
  stack: [{ name: 'Rocket.Chat js.SDK', version: '0.2.5' }, { name: 'Example adapter', version: '1.2.3' }],
  canPauseResumeMsgStream: true,
  canListenToHeartbeat: true,
  canGetStatistics: true,
  canGetLogs: true,
  framework: 'ExampleBot'
}

export class CommandBot extends SdkBot {
  /** What it does about commands of its own, by their keys. */
  handlers = new Map()
  /** The time of the last command it obeyed, at first its own when it logged in. */
  #latest
  #read = { Bot_Stats_Read_Messages: 0, Bot_Stats_Reconnect_Count: 0 }

  static connect (address) {
    return SdkBot.connect(address, CommandBot)
  }

  /** Logs in. Commands reach it when `listening` is fulfilled as well. */
  async login (username, password) {
    this.#latest = Date.now()
    await super.login(username, password)
    this.driver.events.on('reconnected', () => {
      this.#read.Bot_Stats_Reconnect_Count++
      this.#announce()
    })
    this.listening = within('the answer to its client data', this.#begin())
  }

  /** Joins a room and hears what others say in it. */
  async enter (room) {
    await within('the room', this.driver.joinRooms([room]))
    this.on('message', ({ ts }) => {
      this.#read.Bot_Stats_Read_Messages++
      this.#read.Bot_Stats_Latest_Read = new Date(ts.$date).toUTCString()
    })
    await this.respond()
  }

  async #begin () {
    await this.driver.subscribe('stream-client-commands', this.id)
    await this.#announce()
    this.onCommand((document) => this.#take(document))
  }

  async #announce () {
    await this.driver.asteroid.resumeLoginPromise.catch(() => {})
    await this.driver.asyncCall('setCustomClientData', CLIENT_DATA)
  }

  async #take ({ _id, cmd, ts }) {
    if (ts.$date <= this.#latest) return
    this.#latest = ts.$date
    const reply = await this.#obey(cmd).catch((error) => ({ success: false, error }))
    await this.driver.asyncCall('replyClientCommand', [_id, reply])
  }

  async #obey (cmd) {
    const handler = this.handlers.get(cmd.key)
    switch (cmd.key) {
      case 'heartbeat':
        return { success: true }
      case 'getLogs':
        return { success: true, logs: this.logged.slice(-100) }
      case 'getStatistics':
        return { success: true, statistics: { sdk: this.#read, ...handler && { adapter: await handler(cmd) } } }
      case 'pauseMessageStream':
        this.driver.unsubscribe(this.driver.subscriptions.find(({ _name }) => _name === 'stream-room-messages'))
        return { success: true }
      case 'resumeMessageStream':
        await this.driver.subscribeToMessages()
        return { success: true }
      default:
        return await handler(cmd)
    }
  }
}
