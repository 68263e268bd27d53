// Whether a token is one of the issuer's, for this API, and of this time: RFC 9068 §4 and RFC 8725, with jose.

import { createRemoteJWKSet, decodeProtectedHeader, errors, jwtVerify } from 'jose'

// How far the issuer's clock and this one may be apart, in seconds.
const LEEWAY_SECONDS = 30
// Longer tokens are not looked at.
const MAX_TOKEN_BYTES = 16 * 1024
// Never HS256, whatever a JWKS says: its key would be a public one.
const ALGORITHMS = ['ES256', 'RS256', 'PS256', 'EdDSA']
const CLAIMS = ['iss', 'aud', 'sub', 'client_id', 'exp', 'nbf', 'iat', 'jti']

/** Why a call is not let in. `reason` is a word of Grantlog's log, `challenge` what is told besides the realm. */
export class Refused extends Error {
  constructor(status, error, reason, challenge) {
    super(reason)
    Object.assign(this, { status, error, reason, challenge })
  }

  static invalidToken(reason, description) {
    return new Refused(401, 'invalid_token', reason, `error="invalid_token", error_description="${description}"`)
  }

  // RFC 6750 §3.1: whoever presents no token is told nothing but that one is needed.
  static noToken() {
    return new Refused(401, 'missing_token', 'missing_token')
  }

  static severalTokens() {
    const challenge = 'error="invalid_request", error_description="one token is needed, not several"'
    return new Refused(400, 'invalid_request', 'several_tokens', challenge)
  }
}

/** The issuer's keys: fetched when one is asked for that is not known yet, but not more often than this. */
export function keysOf(issuer) {
  const url = new URL(`${issuer}/.well-known/jwks.json`)
  return createRemoteJWKSet(url, { cooldownDuration: 10_000, cacheMaxAge: 300_000, timeoutDuration: 10_000 })
}

/** What the token says. Nothing of its claims is looked at before its signature is good. */
export async function verify(token, { issuer, audience, keys }) {
  const malformed = () => Refused.invalidToken('malformed_token', 'it is not a token of this issuer')
  if (token.length > MAX_TOKEN_BYTES) throw malformed()
  let header
  try {
    header = decodeProtectedHeader(token)
  } catch {
    throw malformed()
  }
  // Exactly what Grantlog writes: whatever else a header may say is about keys from elsewhere (`jwk`, `jku`, `x5u`), or
  // must be understood (`crit`), and no reason to go on.
  if (Object.keys(header).sort().join() !== 'alg,kid,typ') throw malformed()
  try {
    const { payload } = await jwtVerify(token, keys, {
      issuer,
      audience,
      typ: 'at+jwt',
      algorithms: ALGORITHMS,
      clockTolerance: LEEWAY_SECONDS,
      requiredClaims: CLAIMS,
    })
    return payload
  } catch (error) {
    if (error instanceof errors.JWTExpired) throw Refused.invalidToken('token_expired', 'it has expired')
    if (error instanceof errors.JWSSignatureVerificationFailed) {
      throw Refused.invalidToken('bad_signature', 'its signature is wrong')
    }
    if (error instanceof errors.JWKSNoMatchingKey) throw Refused.invalidToken('unknown_key', 'its key is not known')
    if (error instanceof errors.JWTClaimValidationFailed && error.reason === 'check_failed') {
      if (error.claim === 'nbf') throw Refused.invalidToken('token_not_yet_valid', 'it is not valid yet')
      if (error.claim === 'iss') throw Refused.invalidToken('wrong_issuer', 'it is of another issuer')
      if (error.claim === 'aud') throw Refused.invalidToken('wrong_audience', 'it is for another audience')
    }
    // What is left is no token of the issuer's, or its keys cannot be had: either way this one opens nothing.
    if (error instanceof errors.JOSEError) throw malformed()
    throw Refused.invalidToken('unknown_key', 'its key is not known')
  }
}

/** Whether the token opens this; throws `Refused` if not. */
export function may(claims, scope, orgCode) {
  const granted = (claims.scope ?? '').split(' ')
  if (!scope.split(' ').filter(Boolean).every((needed) => granted.includes(needed))) {
    const challenge = `error="insufficient_scope", scope="${scope}"`
    throw new Refused(403, 'insufficient_scope', 'insufficient_scope', challenge)
  }
  if (orgCode !== undefined && claims.org_code !== orgCode) {
    const description = 'the token is not bound to this organisation'
    const challenge = `error="insufficient_scope", error_description="${description}"`
    throw new Refused(403, 'insufficient_scope', 'org_mismatch', challenge)
  }
}
