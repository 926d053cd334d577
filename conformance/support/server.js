// The program under test: started on a free port, stopped with SIGTERM, and asked to end well.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { within } from './deadline.js'

const READY = /^switchboard ready (.*)/m

/** Files that clients may ask for, by name. */
export const FILES = {
  // A file without a line end, and one that the clients' own line reader can take: see README.md.
  'simple.html': '<h1>ActionHero</h1>\nis a multi-transport API Server ✓',
  'line.json': '{"file":"a line of its own"}\r\n'
}

/** An empty folder of its own, and how to remove it. */
export function temporaryFolder () {
  const path = mkdtempSync(join(tmpdir(), 'switchboard-conformance-'))
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) }
}

/** Every listener that clients use is on a free port of the loopback address, and a planned stop closes all WebSockets at once. */
const DEFAULTS = {
  'node.drain_spread': '0s',
  'servers.socket.bind': '127.0.0.1',
  'servers.socket.port': 0,
  'servers.web.bind': '127.0.0.1',
  'servers.web.port': 0,
  'admin.enabled': false
}

/** Runs the program to its end, for starts that must fail. */
export async function run (words) {
  const folder = temporaryFolder()
  try {
    const server = launch(words, folder.path)
    const code = await within('the end of the program', server.ended)
    return { code, stdout: server.stdout, stderr: server.stderr }
  } finally {
    folder.remove()
  }
}

/**
 * Starts a server with these settings and waits for its ready line.
 *
 * Its working directory is a new folder, so no configuration file of the caller reaches it. Without `files` it has no
 * public folder.
 */
export async function startServer (settings = {}, { files = FILES } = {}) {
  const folder = temporaryFolder()
  if (files) mkdirSync(join(folder.path, 'public'))
  for (const [name, content] of Object.entries(files ?? {})) writeFileSync(join(folder.path, 'public', name), content)
  const all = { ...DEFAULTS, ...settings }
  const words = Object.entries(all).flatMap(([key, value]) => ['--set', `${key}=${value}`])
  const server = launch(['serve', ...words], folder.path)
  let socket, web, admin
  try {
    ;({ socket, web, admin } = await within('the ready line', server.ready))
  } catch (error) {
    server.child.kill('SIGKILL')
    folder.remove()
    throw new Error(`${error.message}\n${server.stdout}${server.stderr}`)
  }
  return {
    ...socket,
    /** Where pages and WebSockets are. */
    web: { ...web, origin: `http://${web.host}:${web.port}`, socket: `ws://${web.host}:${web.port}/primus` },
    /** Where the admin API listens, if it does. */
    admin: admin && `${admin.host}:${admin.port}`,
    /** Waits until it has logged this. */
    logged: (pattern) => within(`${pattern} in the log`, new Promise((resolve) => {
      const look = () => pattern.test(server.stderr) && resolve()
      server.child.stderr.on('data', look)
      look()
    })),
    /** Asks it to read its certificates again. */
    hangUp: () => server.child.kill('SIGHUP'),
    /** Asks it to end. */
    terminate: () => server.child.kill('SIGTERM'),
    /** Ends it at once, for tests that fail: what still runs would keep their process from ending. */
    kill: () => server.child.kill('SIGKILL'),
    /** Ends it without a word to anybody, and waits until it is gone. */
    async die () {
      server.child.kill('SIGKILL')
      await within('the end of the server', server.ended)
      folder.remove()
    },
    /** Ends it as planned: the exit code must be 0 and the log free of errors, but for expected ones. */
    async stop ({ errors = /^$/ } = {}) {
      try {
        server.child.kill('SIGTERM')
        const code = await within('the end of the server', server.ended)
        assert.equal(code, 0, `the server ended with ${code}\n${server.stderr}`)
        const problems = server.stderr.split('\n').filter((line) => /\bERROR\b|panicked/.test(line) && !errors.test(line))
        assert.deepEqual(problems, [], 'the server logged errors')
      } finally {
        server.child.kill('SIGKILL')
        folder.remove()
      }
    }
  }
}

/** The addresses of a ready line, by the name of the listener: `socket=127.0.0.1:5000 web=127.0.0.1:8080`. */
function addresses (line) {
  return Object.fromEntries([...line.matchAll(/(\w+)=(\S+):(\d+)/g)].map(([, name, host, port]) => {
    return [name, { host, port: Number(port) }]
  }))
}

function launch (words, cwd) {
  const binary = process.env.SWITCHBOARD_BIN
  assert.ok(binary, 'SWITCHBOARD_BIN must name the switchboard program; `cargo xtask test --only conformance` sets it')
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('SWITCHBOARD_')))
  const child = spawn(binary, words, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
  const server = { child, stdout: '', stderr: '' }
  server.ready = new Promise((resolve, reject) => {
    child.stdout.setEncoding('utf8').on('data', (text) => {
      server.stdout += text
      const ready = READY.exec(server.stdout)
      if (ready && server.stdout.includes('\n')) resolve(addresses(ready[1]))
    })
    child.on('error', reject)
    child.on('exit', (code, signal) => reject(new Error(`the server ended with ${code ?? signal} before it was ready`)))
  })
  // Only `startServer` looks at it.
  server.ready.catch(() => {})
  child.stderr.setEncoding('utf8').on('data', (text) => { server.stderr += text })
  // Unlike `exit`, `close` comes after the last of the output.
  server.ended = new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => resolve(code ?? signal))
  })
  server.ended.catch(() => {})
  return server
}
