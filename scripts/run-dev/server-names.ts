import { join } from 'node:path';

export const serverNames = ['postgres', 'redis', 'etcd'] as const;

export type ServerName = (typeof serverNames)[number];

export const serverTitles: Readonly<Record<ServerName, string>> = {
  postgres: 'PostgreSQL',
  redis: 'Redis',
  etcd: 'etcd',
};

export function serverFolder(directory: string, name: ServerName): string {
  return join(directory, name);
}
