// A shard that shares no code with any of the others: Python's `websockets`, from Debian.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { it } from 'node:test'
import { fileURLToPath } from 'node:url'

import { within } from './support/deadline.js'
import { ID, KEY, SECRET, startGateway } from './support/gateway.js'

/** Debian's own, whose packages another python in the path may not see. */
const PYTHON = '/usr/bin/python3'
const SCRIPT = fileURLToPath(new URL('support/gateway_peer.py', import.meta.url))

it("Python's websockets registers, pings and resumes", async (test) => {
  const server = await startGateway()
  test.after(() => server.kill())
  const { host, port, origin } = server.web
  const words = ['-B', SCRIPT, `ws://${host}:${port}/gateway`, `${origin}/gateway/events`, KEY, ID, SECRET]
  const child = spawn(PYTHON, words, { stdio: ['ignore', 'ignore', 'pipe'] })
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
