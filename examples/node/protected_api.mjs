// An API that checks Grantlog's access tokens itself, and reports its calls. With express and jose.
//
//   npm ci
//   GRANTLOG_ISSUER=http://127.0.0.1:8080 API_AUDIENCE=https://orders.example \
//   GRANTLOG_CLIENT_ID=orders-api GRANTLOG_CLIENT_SECRET=gls_… npm start
//
// The credentials are this API's own: an application with the scope `calls:report` and no other. A token is checked
// without asking anybody, so a revocation is felt when the token is over: where that is too late, ask Grantlog about
// each call instead (docs/forward-auth.md, docs/introspection.md).

import express from 'express'
import { keysOf, may, Refused, verify } from './access_tokens.mjs'
import { CallReports } from './call_reports.mjs'

// Characters of a path and of a User-Agent that a report carries.
const MAX_REPORTED_CHARACTERS = 256

const { GRANTLOG_ISSUER, API_AUDIENCE, GRANTLOG_CLIENT_ID, GRANTLOG_CLIENT_SECRET, LISTEN } = process.env
for (const name of ['GRANTLOG_ISSUER', 'API_AUDIENCE', 'GRANTLOG_CLIENT_ID', 'GRANTLOG_CLIENT_SECRET']) {
  if (!process.env[name]) throw new Error(`set ${name}`)
}
const expected = { issuer: GRANTLOG_ISSUER, audience: API_AUDIENCE, keys: keysOf(GRANTLOG_ISSUER) }
const reports = new CallReports({
  issuer: GRANTLOG_ISSUER,
  clientId: GRANTLOG_CLIENT_ID,
  clientSecret: GRANTLOG_CLIENT_SECRET,
})

const app = express()
app.disable('x-powered-by')

app.get('/orders', needs('read'), (request, response) => {
  response.json({ orders: [7, 8], for: request.claims.client_id })
})

app.post('/orders', needs('update'), (request, response) => {
  response.status(201).json({ order: 9 })
})

// Only tokens that are bound to the organisation of the path see its orders.
app.get('/orgs/:org/orders', needs('read', 'org'), (request, response) => {
  response.json({ org: request.params.org, orders: [7] })
})

// Any token for this API will do: what does it say?
app.get('/token', needs(''), (request, response) => {
  response.json(request.claims)
})

/** Lets a call in that carries a token with this scope, bound to the organisation in the path where there is one, and
 *  reports it either way. */
function needs(scope, orgParameter) {
  return async (request, response, next) => {
    // A place first: a call that cannot be reported does not happen.
    if (!reports.takePlace()) return response.status(503).set('Retry-After', '1').end()
    const call = described(request, scope)
    // Also when the caller has gone before the answer.
    response.once('close', () => reports.report({ ...call, status: response.statusCode }))
    try {
      const claims = await verify(bearerToken(request), expected)
      Object.assign(call, { jti: claims.jti, client_id: claims.client_id })
      may(claims, scope, orgParameter && request.params[orgParameter])
      call.outcome = 'authorized'
      request.claims = claims
    } catch (refused) {
      if (!(refused instanceof Refused)) {
        Object.assign(call, { outcome: 'denied', error: 'server_error', reason: 'refused_by_api' })
        throw refused
      }
      const { error, reason } = refused
      Object.assign(call, { outcome: 'denied', error, reason })
      // RFC 6750 §3: the scheme is followed by a parameter at least.
      const challenge = [`Bearer realm="${API_AUDIENCE}"`, refused.challenge].filter(Boolean).join(', ')
      response.set({ 'WWW-Authenticate': challenge, 'Cache-Control': 'no-store' })
      return response.status(refused.status).json({ error })
    }
    next()
  }
}

/** RFC 6750 §2.1. The other two ways put the token where logs see it. */
function bearerToken(request) {
  // `headers` has the first of two.
  const given = request.headersDistinct.authorization ?? []
  if (given.length > 1) throw Refused.severalTokens()
  const [scheme, token] = given[0]?.split(/ (.*)/s) ?? []
  if (scheme?.toLowerCase() !== 'bearer' || token === undefined) throw Refused.noToken()
  return token.trim()
}

function described(request, scope) {
  const call = {
    id: crypto.randomUUID(),
    time: new Date().toISOString(),
    audience: API_AUDIENCE,
    method: request.method,
    // Without the query: secrets belong in no URL and are there all the same. And as it was routed: the target in its
    // absolute form (RFC 9112 §3.2.2) names a host as well, which is no part of a path.
    path: (request.baseUrl + request.path).slice(0, MAX_REPORTED_CHARACTERS),
    required_scope: scope,
  }
  // Of a caller that has gone by now there is no address.
  const ip = request.socket.remoteAddress
  if (ip) call.source = { ip }
  const userAgent = request.get('user-agent')
  if (ip && userAgent) call.source.user_agent = userAgent.slice(0, MAX_REPORTED_CHARACTERS)
  return call
}

const [host, port] = (LISTEN ?? '127.0.0.1:0').split(/:(\d+)$/)
const server = app.listen(Number(port), host, () => console.log(`listening on http://${host}:${server.address().port}`))
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.once(signal, () => {
    server.close(() => reports.end())
    server.closeIdleConnections()
  })
}
