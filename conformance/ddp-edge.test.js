// Conversations that no library holds, played with a WebSocket library that knows nothing of DDP.

import { createHash } from 'node:crypto'
import { after, before, describe, it } from 'node:test'

import { PASSWORD, startDdpServer, userId } from './support/ddp-server.js'
import { play } from './support/transcript.js'

describe('a server that is spoken to frame by frame', () => {
  const known = {
    BOT_USER_ID: userId('bot'),
    ALICE_USER_ID: userId('alice'),
    PASSWORD,
    SHA256_HEX_OF_PASSWORD: createHash('sha256').update(PASSWORD).digest('hex')
  }
  let server

  before(async () => {
    // These clients say nothing of themselves and listen as soon as they have subscribed.
    server = await startDdpServer(['bot', 'alice'], {
      'servers.ddp.heartbeat_interval': '10m',
      'commands.ready_wait': '0s'
    })
  })

  after(() => server?.stop())

  for (const [name, what] of [
    ['versions', 'speaks the versions it knows, and no other'],
    ['errors', 'says what is wrong with a frame, and goes on'],
    ['logins', 'knows every form of login, and says why it refuses one'],
    ['sleeping', 'keeps what was subscribed before a login silent until then'],
    ['commands', 'takes the first reply of the user that was asked, in time, and no other'],
    ['requests', 'sends commands under their later name as well']
  ]) {
    it(what, () => play(name, server, known))
  }
})
