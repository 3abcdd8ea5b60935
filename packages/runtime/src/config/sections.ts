import { isLoopback, type Secret } from '@backend.ai/core';
import { z } from 'zod';
import type { SayProblem } from './definition.ts';
import { host, port, readableFile, secret, secretUrl } from './kinds.ts';

/** Sections that several components have. */

/** `[metrics]`: where a component tells how it is, to whoever watches over it. */
export function metricsSection(defaultPort: number): z.ZodObject<{
  host: z.ZodDefault<z.ZodString>;
  port: z.ZodDefault<z.ZodNumber>;
}> {
  return z
    .strictObject({
      host: host().default('127.0.0.1').describe('Address to listen on. Whoever reaches it may read all of it'),
      port: port().default(defaultPort).describe('Port to listen on; 0 takes any free one'),
    })
    .describe(
      'The internal port: /health, /health/live, /health/ready and Prometheus /metrics, without authentication.',
    );
}

/** Host, port and TLS of a listener that is in the clear on loopback only. */
export type TlsListenerShape = {
  readonly host: z.ZodDefault<z.ZodString>;
  readonly port: z.ZodDefault<z.ZodNumber>;
  readonly tlsCertFile: z.ZodOptional<z.ZodString>;
  readonly tlsKeyFile: z.ZodOptional<z.ZodString>;
};

export function tlsListener(defaultPort: number): TlsListenerShape {
  return {
    host: host().default('127.0.0.1').describe('Address to listen on. Off loopback TLS is mandatory'),
    port: port().default(defaultPort).describe('Port to listen on; 0 takes any free one'),
    tlsCertFile: readableFile().optional().meta({
      description: 'Certificate chain in PEM. Peers prove themselves by their own keys: it may be self-signed',
      example: '/etc/backend.ai/tls/cert.pem',
    }),
    tlsKeyFile: readableFile().optional().meta({
      description: 'Private key of the certificate, in PEM',
      example: '/etc/backend.ai/tls/key.pem',
    }),
  };
}

/** What `tlsListener` demands between its settings. */
export function checkTlsListener(
  section: string,
  values: {
    readonly host: string;
    readonly tlsCertFile?: string | undefined;
    readonly tlsKeyFile?: string | undefined;
  },
  say: SayProblem,
): void {
  const { tlsCertFile, tlsKeyFile } = values;
  if (tlsCertFile !== undefined && tlsKeyFile === undefined)
    say(`${section}.tls-key-file`, 'is needed beside tls-cert-file');
  if (tlsKeyFile !== undefined && tlsCertFile === undefined)
    say(`${section}.tls-cert-file`, 'is needed beside tls-key-file');
  if (!isLoopback(values.host) && tlsCertFile === undefined && tlsKeyFile === undefined) {
    say(`${section}.host`, `is ${values.host}: off loopback, tls-cert-file and tls-key-file are mandatory`);
  }
}

/** PEM of an authority for the certificate of a server that a component calls. */
export function caFile(): z.ZodOptional<z.ZodString> {
  return readableFile().optional().meta({
    description: 'PEM of the authority that signed its certificate, where the system does not know it',
    example: '/etc/backend.ai/ca.pem',
  });
}

/** `[database]`: PostgreSQL as one URL, or in parts. `name` is that of the database unless said otherwise. */
export function databaseSection(name: string): z.ZodObject<{
  url: z.ZodOptional<z.ZodType<Secret, string>>;
  host: z.ZodDefault<z.ZodString>;
  port: z.ZodDefault<z.ZodNumber>;
  name: z.ZodDefault<z.ZodString>;
  user: z.ZodDefault<z.ZodString>;
  password: z.ZodOptional<z.ZodType<Secret, string>>;
  caFile: z.ZodOptional<z.ZodString>;
  poolSize: z.ZodDefault<z.ZodNumber>;
}> {
  return z
    .strictObject({
      url: secretUrl('postgres', 'postgresql')
        .optional()
        .meta({
          description: 'All in one, with ?sslmode=verify-full or the like for TLS. Unset: made of the keys below',
          example: `postgres://backend@127.0.0.1:5432/${name}`,
        }),
      host: host().default('127.0.0.1').describe('Of the PostgreSQL server'),
      port: port().min(1).default(5432).describe('Of the PostgreSQL server'),
      name: z.string().min(1).default(name).describe('Name of the database'),
      user: z.string().min(1).default('backend').describe('Name to log in with'),
      password: secret().optional().meta({ description: 'To log in with', example: 'change me' }),
      caFile: caFile().meta({
        description:
          'PEM of the authority that signed its certificate, where the system does not know it. Set: TLS as with ' +
          'sslmode=verify-full',
        example: '/etc/backend.ai/ca.pem',
      }),
      poolSize: z.number().int().min(2).max(1000).default(10).describe('Connections at most'),
    })
    .describe('PostgreSQL 15 or later, which holds everything that must last.');
}

/** `[redis]`: one server, by URL. */
export function redisSection(carries: string): z.ZodObject<{
  url: z.ZodPrefault<z.ZodType<Secret, string>>;
  caFile: z.ZodOptional<z.ZodString>;
}> {
  return z
    .strictObject({
      url: secretUrl('redis', 'rediss').prefault('redis://127.0.0.1:6379').describe('Where it is; rediss:// for TLS'),
      caFile: caFile(),
    })
    .describe(`Redis 6.2 or later, which carries ${carries}.`);
}

/** What `redisSection` demands between its settings. */
export function checkRedis(
  { url, caFile }: { readonly url: Secret; readonly caFile?: string | undefined },
  say: SayProblem,
): void {
  if (caFile !== undefined && !url.reveal().startsWith('rediss:'))
    say('redis.ca-file', 'is of use with a rediss:// URL only');
}
