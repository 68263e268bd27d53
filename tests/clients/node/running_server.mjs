// The real binary on a port of its own over a data folder, stopped by the test that started it.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const BINARY = process.env.GRANTLOG_BIN ?? fileURLToPath(new URL('../../../target/debug/grantlog', import.meta.url))

export class RunningServer {
  static async start({ listen = '127.0.0.1:0', issuer } = {}) {
    if (!existsSync(BINARY)) throw new Error(`${BINARY} is not there: build it with \`cargo build\`, or set GRANTLOG_BIN`)
    const server = new RunningServer()
    server.folder = mkdtempSync(join(tmpdir(), 'grantlog-'))
    const dataDir = join(server.folder, 'data')
    const log = join(server.folder, 'stderr')
    // No configuration of whoever runs the tests.
    const environment = Object.entries(process.env).filter(([name]) => !name.startsWith('GRANTLOG_'))
    const flags = ['serve', '--listen', listen, '--data-dir', dataDir, ...(issuer ? ['--issuer', issuer] : [])]
    server.process = spawn(BINARY, flags, {
      env: Object.fromEntries(environment),
      stdio: ['ignore', 'pipe', openSync(log, 'a')],
    })
    server.ended = once(server.process, 'exit')
    // A test that breaks off leaves no server behind.
    process.once('exit', () => server.process.kill('SIGKILL'))
    const lines = createInterface({ input: server.process.stdout })
    for await (const line of lines) {
      const found = /^listening on (\S+)/.exec(line)
      if (found) {
        server.url = found[1]
        break
      }
    }
    if (!server.url) throw new Error(`the server ended before it listened:\n${readFileSync(log, 'utf8')}`)
    server.issuer = issuer ?? server.url
    server.profile = JSON.parse(readFileSync(join(dataDir, 'admin.json'), 'utf8'))
    server.token = await server.#requestToken()
    return server
  }

  async #requestToken() {
    const { client_id, client_secret } = this.profile
    const body = new URLSearchParams({ grant_type: 'client_credentials', client_id, client_secret })
    const answer = await fetch(`${this.url}/connect/token`, { method: 'POST', body })
    return (await answer.json()).access_token
  }

  /** An application with a system user and a scope, unless said otherwise; with its secret. */
  async register(application_uri, attributes = {}) {
    const defaults = { system_user: 'svc.integration', scope: 'read update DomainApi' }
    return this.post('/admin/applications', { application_uri, ...defaults, ...attributes })
  }

  async post(path, body) {
    const answer = await fetch(this.url + path, {
      method: 'POST',
      headers: { authorization: `Bearer ${this.token}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    const text = await answer.text()
    if (!answer.ok) throw new Error(`POST ${path}: ${answer.status} ${text}`)
    return JSON.parse(text)
  }

  /** Asks it to stop and answers its exit code. */
  async stop() {
    this.process.kill('SIGTERM')
    const [code] = await this.ended
    rmSync(this.folder, { recursive: true, force: true })
    return code
  }
}

/** A port that nobody listens on now. */
export async function freePort() {
  const probe = createServer()
  probe.listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address()
  probe.close()
  await once(probe, 'close')
  return port
}
