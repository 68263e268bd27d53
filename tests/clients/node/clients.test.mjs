// openid-client asks for tokens, jose verifies them. Over plain http on the loopback interface, which
// openid-client must be told to allow.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { createRemoteJWKSet, errors, jwtVerify } from 'jose'
import * as client from 'openid-client'
import { RunningServer, freePort } from './running_server.mjs'

const METHODS = { client_secret_basic: client.ClientSecretBasic, client_secret_post: client.ClientSecretPost }
const DISCOVERY = { oidc: '/.well-known/openid-configuration', oauth2: '/.well-known/oauth-authorization-server' }
const FAILURES_BEFORE_SLOW_DOWN = 20

function discover(server, { client_id, client_secret }, method = 'client_secret_basic', algorithm = 'oauth2') {
  return client.discovery(new URL(server.issuer), client_id, undefined, METHODS[method](client_secret), {
    algorithm,
    execute: [client.allowInsecureRequests],
  })
}

for (const path of ['', '/id']) {
  describe(`with an issuer ${path ? `with the path ${path}` : 'without a path'}`, () => {
    let server
    before(async () => {
      const listen = `127.0.0.1:${await freePort()}`
      server = await RunningServer.start({ listen, issuer: `http://${listen}${path}` })
    })
    after(async () => assert.equal(await server.stop(), 0))

    for (const algorithm of Object.keys(DISCOVERY)) {
      for (const method of Object.keys(METHODS)) {
        test(`${algorithm} discovery, a token by ${method}, verified through the JWKS`, async () => {
          const made = await server.register(`clients.test/${algorithm}-${method}`)
          const config = await discover(server, made, method, algorithm)
          const metadata = config.serverMetadata()
          assert.equal(metadata.issuer, server.issuer)
          assert.deepEqual(metadata.token_endpoint_auth_methods_supported, Object.keys(METHODS))

          const granted = await client.clientCredentialsGrant(config, { scope: 'read update' })
          assert.equal(granted.token_type, 'bearer')
          assert.equal(granted.scope, 'read update')
          assert.equal(granted.expires_in, 3600)
          // What is left of it by the client's own clock: 3599 as soon as a millisecond has passed.
          assert.ok(granted.expiresIn() > 3600 - 60 && granted.expiresIn() <= 3600)

          const { payload, protectedHeader } = await jwtVerify(
            granted.access_token,
            createRemoteJWKSet(new URL(metadata.jwks_uri)),
            {
              issuer: server.issuer,
              audience: server.issuer,
              subject: made.client_id,
              typ: 'at+jwt',
              algorithms: ['ES256'],
              requiredClaims: ['exp', 'iat', 'nbf', 'jti', 'client_id'],
            },
          )
          assert.equal(payload.client_system_user, 'svc.integration')
          assert.deepEqual(payload.scp, ['read', 'update'])
          assert.equal(typeof protectedHeader.kid, 'string')
        })
      }
    }
  })
}

describe('with one server for all', () => {
  let server
  before(async () => {
    server = await RunningServer.start()
  })
  after(async () => assert.equal(await server.stop(), 0))

  for (const algorithm of ['ES256', 'RS256', 'PS256', 'EdDSA']) {
    test(`jose verifies ${algorithm}, and only for the audience`, async () => {
      const audience = `https://${algorithm.toLowerCase()}.example`
      await server.post('/admin/apis', { audience, signing_alg: algorithm })
      const made = await server.register(`clients.test/${algorithm}`, { audiences: [audience] })
      const config = await discover(server, made)
      const { access_token } = await client.clientCredentialsGrant(config, { audience })
      const keys = createRemoteJWKSet(new URL(config.serverMetadata().jwks_uri))
      const expected = { issuer: server.issuer, audience, typ: 'at+jwt', algorithms: [algorithm] }

      const { payload } = await jwtVerify(access_token, keys, expected)
      assert.deepEqual(payload.aud, [audience])

      const elsewhere = { ...expected, audience: 'https://other.example' }
      await assert.rejects(jwtVerify(access_token, keys, elsewhere), errors.JWTClaimValidationFailed)
      const [head, claims, signature] = access_token.split('.')
      const other = (signature[0] === 'A' ? 'B' : 'A') + signature.slice(1)
      const forged = `${head}.${claims}.${other}`
      await assert.rejects(jwtVerify(forged, keys, expected), errors.JWSSignatureVerificationFailed)
    })
  }

  const NOT_FOR_IT = 'The client is not authorized for the audience: https://other.example'
  const REFUSALS = [
    { error: 'invalid_scope', description: 'Invalid scope: admin', parameters: { scope: 'read admin' } },
    { error: 'unauthorized_client', description: NOT_FOR_IT, parameters: { audience: 'https://other.example' } },
    { error: 'invalid_target', description: NOT_FOR_IT, parameters: { resource: 'https://other.example' } },
    {
      error: 'unauthorized_client',
      description: 'The client is not authorized to use this grant type',
      attributes: { system_user: null },
    },
    {
      error: 'unsupported_grant_type',
      description: 'Unsupported grant type: urn:example:other',
      grantType: 'urn:example:other',
    },
  ]
  for (const method of Object.keys(METHODS)) {
    for (const [number, refusal] of REFUSALS.entries()) {
      test(`${refusal.error} (${refusal.description}) is understood by ${method}`, async () => {
        const made = await server.register(`clients.test/refused-${method}-${number}`, refusal.attributes)
        const config = await discover(server, made, method)
        const request = refusal.grantType
          ? client.genericGrantRequest(config, refusal.grantType, {})
          : client.clientCredentialsGrant(config, refusal.parameters)
        await assert.rejects(request, (refused) => {
          assert.ok(refused instanceof client.ResponseBodyError, refused)
          assert.deepEqual(
            [refused.status, refused.error, refused.error_description],
            [400, refusal.error, refusal.description],
          )
          return true
        })
      })
    }

    test(`invalid_client is understood by ${method}`, async () => {
      const made = await server.register(`clients.test/wrong-${method}`)
      const config = await discover(server, { ...made, client_secret: 'wrong' }, method)
      // The library stops at the challenge; the body is left for whoever wants it.
      const refused = await client.clientCredentialsGrant(config).catch((error) => error)
      assert.ok(refused instanceof client.WWWAuthenticateChallengeError, refused)
      assert.equal(refused.status, 401)
      assert.deepEqual(refused.cause, [{ scheme: 'basic', parameters: { realm: server.issuer } }])
      assert.deepEqual(await refused.response.json(), {
        error: 'invalid_client',
        error_description: 'Invalid client_id or client_secret',
      })
    })

    test(`slow_down is understood by ${method}`, async () => {
      const made = await server.register(`clients.test/guessed-${method}`)
      const config = await discover(server, { ...made, client_secret: 'wrong' }, method)
      for (let failures = 0; failures < FAILURES_BEFORE_SLOW_DOWN; failures++) {
        await assert.rejects(client.clientCredentialsGrant(config), { status: 401 })
      }
      await assert.rejects(client.clientCredentialsGrant(config), (refused) => {
        assert.deepEqual([refused.status, refused.error], [429, 'slow_down'])
        assert.match(refused.response.headers.get('retry-after'), /^\d+$/)
        return true
      })
    })
  }

  test('a secret of special characters works by both methods', async () => {
    const secret = 'p+ss w%rd%3A:ü/=&"?#\\~'
    const hash = Buffer.from(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(secret)))
    const made = await server.register('my.trusted.app/service:1@eu~x', {
      application_secret_hash: hash.toString('base64'),
    })
    for (const method of Object.keys(METHODS)) {
      const config = await discover(server, { client_id: made.client_id, client_secret: secret }, method)
      const granted = await client.clientCredentialsGrant(config)
      assert.equal(granted.scope, 'read update DomainApi')
    }
  })
})
