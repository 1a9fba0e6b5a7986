// A provider of OpenID Connect: `node provider.mjs PORT FOLDER KEY...`. Keys are kept in the folder by their names, and the first
// signs. Tokens are for whom the request's `resource` says; those for `https://short.example` are for vespid, and last a second.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { generateKeyPairSync } from 'node:crypto';
const { default: Provider } = await import(`${process.env.VESPID_OIDC_PROVIDER}/node_modules/oidc-provider/lib/index.js`);

const [port, folder, ...names] = process.argv.slice(2);
const keys = names.map((kid) => {
  const file = `${folder}/${kid}.json`;
  if (!existsSync(file)) {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    writeFileSync(file, JSON.stringify({ ...privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig', kid }));
  }
  return JSON.parse(readFileSync(file, 'utf8'));
});
const SHORT = 'https://short.example';
const client = { client_id: 'svc', client_secret: 'secret', grant_types: ['client_credentials'], redirect_uris: [], response_types: [] };
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [client],
  jwks: { keys },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource) => ({
        scope: '',
        audience: resource === SHORT ? 'https://vespid.example' : resource,
        accessTokenFormat: 'jwt',
        accessTokenTTL: resource === SHORT ? 1 : 300,
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
  extraTokenClaims: () => ({ tenant: 'acme', roles: ['editor'] }),
});
provider.listen(Number(port), '127.0.0.1', () => console.log('up'));
