// The event of the wire, written and signed here as Go's encoding/json would write it. No I/O.

export const SEARCH = '/opencloud/resource/search/1.0'

export function protocolOf (name) {
  if (typeof name !== 'string' || name === '') {
    throw new Error('`protocol` is missing')
  }
  return name.startsWith('/') ? name : `/opencloud/resource/${name}/1.0`
}

// A string as json.Marshal writes it: JSON.stringify and HTML's characters escaped.
export function goString (text) {
  if (typeof text !== 'string') {
    throw new Error(`${JSON.stringify(text)} is no string`)
  }
  if (!text.isWellFormed()) {
    throw new Error('a string holds half a surrogate pair, which Go cannot write')
  }
  return JSON.stringify(text).replace(/[<>&\u2028\u2029]/g,
    (c) => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0'))
}

function goBytes (bytes) {
  return bytes == null ? 'null' : `"${Buffer.from(bytes).toString('base64')}"`
}

// time.Time's RFC 3339 in UTC: the fraction of a second without trailing zeros.
export function goTime (millis) {
  return new Date(millis).toISOString().replace(/\.?0*Z$/, 'Z')
}

export function encodeEvent (e) {
  if (!Number.isSafeInteger(e.datatype)) {
    throw new Error('`datatype` is a whole number')
  }
  return '{"type":' + goString(e.type) +
    ',"from":' + goString(e.from) +
    ',"User":' + goString(e.user) +
    ',"datatype":' + e.datatype +
    ',"ts":' + goString(e.ts) +
    ',"payload":' + goBytes(e.payload) +
    ',"sig":' + goBytes(e.sig) + '}'
}

export function signedBytes (e) {
  return Buffer.from(encodeEvent({ ...e, sig: null }))
}

export function decodeEvent (bytes) {
  const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  const raw = JSON.parse(text)
  const base64 = (value) => value == null ? null : Buffer.from(value, 'base64')
  return {
    type: raw.type,
    from: raw.from,
    user: raw.User,
    datatype: raw.datatype,
    ts: raw.ts,
    payload: base64(raw.payload),
    sig: base64(raw.sig)
  }
}

export async function verifyEvent (e, publicKey) {
  if (e.sig == null || e.sig.length === 0 || publicKey == null) {
    return false
  }
  try {
    return await publicKey.verify(signedBytes(e), e.sig)
  } catch {
    return false
  }
}

export function payloadJSON (payload) {
  try {
    return JSON.parse(Buffer.from(payload).toString('utf8'))
  } catch {
    return null
  }
}

// The text a question asks for; undefined when the payload is no question but an answer.
export function questionText (payload) {
  const fields = payload == null ? null : payloadJSON(payload)
  if (fields === null || typeof fields !== 'object' || typeof fields.search !== 'string') {
    return undefined
  }
  const known = ['search', 'id', 'limit', 'timeout_ms', 'datatype']
  return Object.keys(fields).every((key) => known.includes(key)) ? fields.search : undefined
}
