// The signed record of a peer: made and checked here from the description alone. No I/O.

import { publicKeyFromProtobuf, publicKeyToProtobuf } from '@libp2p/crypto/keys'
import { peerIdFromPublicKey } from '@libp2p/peer-id'
import { goString, goTime } from './event.js'

const FIELDS = [
  'name', 'did', 'pub_key', 'expiry_date', 'peer_id', 'api_url', 'stream_address', 'nats_address', 'wallet_address'
]

function text (record, signature) {
  const fields = FIELDS.map((key) => `"${key}":${goString(record[key] ?? '')}`)
  return '{' + fields.join(',') + `,"signature":${signature}}`
}

// A record of the key's holder that ends in `lifeMs`; `fields` overrides what it claims.
export async function makeRecord (privateKey, fields, lifeMs) {
  const record = {
    pub_key: Buffer.from(publicKeyToProtobuf(privateKey.publicKey)).toString('base64'),
    peer_id: peerIdFromPublicKey(privateKey.publicKey).toString(),
    expiry_date: goTime(Date.now() + lifeMs),
    ...fields
  }
  const signature = await privateKey.sign(Buffer.from(text(record, 'null')))
  return text(record, `"${Buffer.from(signature).toString('base64')}"`)
}

// What a value says, and whether the key inside its PeerId has signed it and it holds now.
export async function readRecord (value) {
  try {
    const record = JSON.parse(Buffer.from(value).toString('utf8'))
    const key = publicKeyFromProtobuf(Buffer.from(record.pub_key, 'base64'))
    const verified = peerIdFromPublicKey(key).toString() === record.peer_id &&
      new Date(record.expiry_date).getTime() > Date.now() &&
      await key.verify(Buffer.from(text(record, 'null')), Buffer.from(record.signature, 'base64'))
    return { record, verified }
  } catch (err) {
    return { record: null, verified: false, message: String(err.message) }
  }
}
