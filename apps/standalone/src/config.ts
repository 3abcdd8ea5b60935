import { AppError, isLoopback } from '@backend.ai/core';
import { z } from 'zod';

const clusterConfigSchema = z.strictObject({
  dataDir: z.string().min(1),
  host: z.string().min(1),
  /** Of the public API; 0 takes any free one. */
  port: z.number().int().min(0).max(65_535),
  /** `auto`: containers where an engine answers and has an image for them; otherwise processes. */
  backend: z.enum(['auto', 'docker', 'process', 'fake']),
  /** Of Docker, or of Podman's compatible service. */
  engineSocket: z.string().startsWith('/'),
  /** Run programs without a sandbox where the machine offers none. One user, loopback only. */
  allowUnisolated: z.boolean(),
  logLevel: z.enum(['debug', 'info', 'warn', 'error']),
  /** Accelerator plugins, and their settings by plugin and name: `mock.devices-file`. */
  accelerators: z.strictObject({ plugins: z.array(z.string()), settings: z.record(z.string(), z.string()) }),
  /** What its agent offers instead of what the machine has: `{ cpu: '2', mem: BYTES }`. */
  slots: z.record(z.string(), z.string()).optional(),
  /** Looked through for runtimes. */
  path: z.string(),
});
export type ClusterConfig = z.infer<typeof clusterConfigSchema>;

export const defaultPort = 8091;

/** @throws AppError `config-invalid` */
export function parseClusterConfig(input: Partial<ClusterConfig> & { readonly dataDir: string }): ClusterConfig {
  const parsed = clusterConfigSchema.safeParse({
    host: '127.0.0.1',
    port: defaultPort,
    backend: 'auto',
    engineSocket: '/var/run/docker.sock',
    allowUnisolated: false,
    logLevel: 'info',
    accelerators: { plugins: ['auto'], settings: {} },
    path: '/usr/bin:/bin',
    ...input,
  });
  if (!parsed.success) {
    const lines = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
    throw new AppError('config-invalid', `The cluster's configuration is invalid. ${lines.join('; ')}`);
  }
  const config = parsed.data;
  if (!isLoopback(config.host)) {
    throw new AppError('config-invalid', `An embedded cluster listens on the loopback only, not on ${config.host}.`, {
      hint: 'Put a reverse proxy with TLS in front of it, or run the components as services.',
    });
  }
  return config;
}
