// A peer that shares no code with any of the others: Python's `websockets`, from Debian.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { it } from 'node:test'
import { fileURLToPath } from 'node:url'

import { within } from './support/deadline.js'
import { startServer } from './support/server.js'

/** Debian's own, whose packages another python in the path may not see. */
const PYTHON = '/usr/bin/python3'
const SCRIPT = fileURLToPath(new URL('support/websockets_peer.py', import.meta.url))

for (const compression of [false, true]) {
  it(`Python's websockets chats with itself ${compression ? 'and compresses' : 'uncompressed'}`, async (test) => {
    const server = await startServer({ 'servers.websocket.compression': compression })
    test.after(() => server.kill())
    const child = spawn(PYTHON, ['-B', SCRIPT, server.web.socket], { stdio: ['ignore', 'ignore', 'pipe'] })
    test.after(() => child.kill('SIGKILL'))
    let complaint = ''
    child.stderr.setEncoding('utf8').on('data', (text) => { complaint += text })
    const code = await within('the end of python', new Promise((resolve, reject) => {
      child.on('error', reject)
      child.on('close', resolve)
    }))
    assert.deepEqual([code, complaint], [0, ''])
    await server.stop()
  })
}
