// An authorization server on loopback, with the pages of oidc-provider where
// people sign in with any name. Its settings are one line of JSON on stdin, and
// it ends when stdin does. It says where it is on a line that begins with
// "issuer".
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:https';
import { createInterface } from 'node:readline';
import Provider from 'oidc-provider';

const enabled = { enabled: true };

function serve({ certificate, key, life, clients }) {
  const server = createServer({ cert: certificate, key });
  server.listen(0, '127.0.0.1', () => {
    const issuer = `https://127.0.0.1:${server.address().port}`;
    const provider = new Provider(issuer, {
      clients,
      scopes: ['offline_access', 'openid', 'read'],
      cookies: { keys: [randomBytes(32).toString('hex')] },
      features: {
        clientCredentials: enabled,
        deviceFlow: enabled,
        devInteractions: enabled,
        introspection: enabled,
        revocation: enabled,
      },
      routes: { introspection: '/introspect' },
      pkce: { required: () => true },
      rotateRefreshToken: true,
      ttl: { AccessToken: life, ClientCredentials: life },
    });
    server.on('request', provider.callback());
    console.log(`issuer ${issuer}`);
  });
}

const input = createInterface({ input: process.stdin });
input.once('line', (line) => serve(JSON.parse(line)));
input.once('close', () => process.exit());
