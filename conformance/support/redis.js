// A real redis-server on a free port, in a folder of its own.

import { spawn } from 'node:child_process'
import net from 'node:net'

import { within } from './deadline.js'
import { temporaryFolder } from './server.js'

/** A port that nobody listens on at this moment. */
async function freePort () {
  const listener = net.createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => listener.once('listening', resolve))
  const { port } = listener.address()
  await new Promise((resolve) => listener.close(resolve))
  return port
}

/** Starts it, and gives its `url` and how to `stop` it. */
export async function startRedis () {
  const folder = temporaryFolder()
  const port = await freePort()
  const words = ['--port', port, '--bind', '127.0.0.1', '--save', '', '--dir', folder.path]
  const child = spawn('redis-server', words, { stdio: ['ignore', 'pipe', 'inherit'] })
  const started = new Promise((resolve, reject) => {
    let output = ''
    child.once('error', (error) => {
      reject(new Error(`redis-server is not installed: run \`cargo xtask test\`, or apt-get install redis-server (${error.message})`))
    })
    child.stdout.setEncoding('utf8').on('data', (text) => {
      output += text
      if (output.includes('Ready to accept connections')) resolve()
    })
    child.once('close', () => reject(new Error(`redis-server ended:\n${output}`)))
  })
  await within('the start of redis-server', started)
  return {
    url: `redis://127.0.0.1:${port}`,
    async stop () {
      const ended = new Promise((resolve) => child.once('close', resolve))
      child.kill('SIGKILL')
      await within('the end of redis-server', ended)
      folder.remove()
    }
  }
}

/** What a node of a cluster is started with. */
export function node (redis, name) {
  return { 'node.name': name, 'backend.kind': 'redis', 'backend.redis.url': redis.url }
}
