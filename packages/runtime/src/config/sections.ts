import { isLoopback } from '@backend.ai/core';
import { z } from 'zod';
import type { SayProblem } from './definition.ts';
import { host, port, readableFile } from './kinds.ts';

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
