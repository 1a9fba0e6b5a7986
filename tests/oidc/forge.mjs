// Changes a token: `node forge.mjs HOW TOKEN KEY`, with the file of the key that signed it. Prints what it has become.
import { createHmac, createPrivateKey, createPublicKey, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';

const [how, token, file] = process.argv.slice(2);
const jwk = JSON.parse(readFileSync(file, 'utf8'));
const [header, claims] = token.split('.').slice(0, 2).map((part) => JSON.parse(Buffer.from(part, 'base64url')));
const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
const signed = (header, claims) => {
  const text = `${part(header)}.${part(claims)}`;
  return `${text}.${sign('sha256', Buffer.from(text), createPrivateKey({ key: jwk, format: 'jwk' })).toString('base64url')}`;
};
const ways = {
  none: () => `${part({ ...header, alg: 'none' })}.${part(claims)}.`,
  // The classic: the public key, which everybody has, as the shared secret.
  hs256: () => {
    const text = `${part({ ...header, alg: 'HS256' })}.${part(claims)}`;
    const secret = createPublicKey({ key: jwk, format: 'jwk' }).export({ type: 'spki', format: 'pem' });
    return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`;
  },
  kid: () => signed({ ...header, kid: 'unknown' }, claims),
  issuer: () => signed(header, { ...claims, iss: 'http://127.0.0.1:1' }),
  early: () => signed(header, { ...claims, nbf: claims.exp - 1 }),
  claims: () => `${part(header)}.${part({ ...claims, tenant: 'other' })}.${token.split('.')[2]}`,
  same: () => signed(header, claims),
};
console.log(ways[how]());
