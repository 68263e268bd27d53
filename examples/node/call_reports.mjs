// Tells Grantlog of calls, in batches, each until it is acknowledged.

import { setTimeout as pause } from 'node:timers/promises'

// Calls that wait for their report; beyond it calls are refused, for they would be on no record.
const MAX_WAITING_CALLS = 10_000
// Calls in one report.
const MAX_BATCH_CALLS = 500
// How long the first of a batch waits for others.
const BATCH_WITHIN_MS = 500
// Pauses between attempts: the first, and the longest.
const FIRST_PAUSE_MS = 500
const LONGEST_PAUSE_MS = 30_000
const PATIENCE_MS = 10_000

/** Each call keeps its id, so that one that was acknowledged already is no second event. */
export class CallReports {
  #issuer
  #credentials
  #token
  #waiting = []
  #places = MAX_WAITING_CALLS
  #delivery

  constructor({ issuer, clientId, clientSecret }) {
    this.#issuer = issuer
    this.#credentials = Buffer.from(`${clientId}:${clientSecret}`).toString('base64')
  }

  /** Whether there is room for one more call. A place is taken before a call is let in. */
  takePlace() {
    if (this.#places === 0) return false
    this.#places -= 1
    return true
  }

  /** Whoever has a place hands its call over. */
  report(call) {
    this.#waiting.push(call)
    this.#delivery ??= this.#deliver(BATCH_WITHIN_MS).finally(() => (this.#delivery = undefined))
  }

  /** Waits until everything is acknowledged. No call may come after this. */
  async end() {
    while (this.#delivery) await this.#delivery
  }

  async #deliver(gathering) {
    await pause(gathering)
    let [wait, most] = [FIRST_PAUSE_MS, MAX_BATCH_CALLS]
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.slice(0, most)
      const problem = await this.#send(batch).catch((error) => ({ text: error.message }))
      if (!problem) {
        this.#isDoneWith(batch.length)
        ;[wait, most] = [FIRST_PAUSE_MS, MAX_BATCH_CALLS]
      } else if (problem.isRefused && batch.length > 1) {
        // None of them is taken: halves, down to the one that is refused, which would keep all others waiting.
        most = Math.floor(batch.length / 2)
      } else if (problem.isRefused) {
        console.error(`a call cannot be reported, ${problem.text}: ${JSON.stringify(batch[0])}`)
        this.#isDoneWith(1)
        most = MAX_BATCH_CALLS
      } else {
        console.error(`calls could not be reported yet: ${problem.text}`)
        await pause(wait)
        wait = Math.min(2 * wait, LONGEST_PAUSE_MS)
      }
    }
  }

  #isDoneWith(count) {
    this.#waiting.splice(0, count)
    this.#places += count
  }

  /** Nothing, or what is wrong. */
  async #send(calls) {
    this.#token ??= await this.#requestToken()
    const answer = await fetch(`${this.#issuer}/audit/api-calls`, {
      method: 'POST',
      headers: { authorization: `Bearer ${this.#token}`, 'content-type': 'application/x-ndjson' },
      body: calls.map((call) => JSON.stringify(call) + '\n').join(''),
      signal: AbortSignal.timeout(PATIENCE_MS),
    })
    const text = await answer.text()
    if (answer.status === 200) {
      for (const rejected of JSON.parse(text).rejected ?? []) console.error('a call was not recorded:', rejected)
      return undefined
    }
    // It has expired, or was revoked.
    if (answer.status === 401) this.#token = undefined
    return { isRefused: answer.status === 400 || answer.status === 413, text: `${answer.status} ${text}` }
  }

  async #requestToken() {
    const answer = await fetch(`${this.#issuer}/connect/token`, {
      method: 'POST',
      headers: { authorization: `Basic ${this.#credentials}` },
      body: new URLSearchParams({ grant_type: 'client_credentials', scope: 'calls:report', audience: this.#issuer }),
      signal: AbortSignal.timeout(PATIENCE_MS),
    })
    if (!answer.ok) throw new Error(`no token to report with: ${answer.status} ${await answer.text()}`)
    return (await answer.json()).access_token
  }
}
