import { accessSync, constants, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';

export interface ServerPrograms {
  /** Folder with `postgres`, `initdb` and `pg_isready`. */
  readonly postgres: string | undefined;
  readonly redis: string | undefined;
  readonly etcd: string | undefined;
  readonly dockerRegistry: string | undefined;
}

/** Names as in Debian, where they can be installed from. */
export const serverPackages: Record<keyof ServerPrograms, string> = {
  postgres: 'postgresql',
  redis: 'redis-server',
  etcd: 'etcd-server',
  dockerRegistry: 'docker-registry',
};

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Where a program is, in the path or where the system has its own. */
export function programPath(program: string): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/bin', '/usr/sbin', '/usr/local/bin'];
  return folders.map((folder) => join(folder, program)).find(isExecutable);
}

/** Debian keeps servers of several major versions beside each other and none in the path; the newest is taken. */
function findPostgres(): string | undefined {
  const versions = '/usr/lib/postgresql';
  let names: string[] = [];
  try {
    names = readdirSync(versions).sort((left, right) => Number(right) - Number(left));
  } catch {
    // Not Debian, or not installed.
  }
  const folders = [...names.map((name) => join(versions, name, 'bin')), ...(process.env.PATH ?? '').split(delimiter)];
  return folders.find((folder) => isExecutable(join(folder, 'initdb')) && isExecutable(join(folder, 'postgres')));
}

/** The servers that are installed on this machine. */
export function findPrograms(): ServerPrograms {
  return {
    postgres: findPostgres(),
    redis: programPath('redis-server'),
    etcd: programPath('etcd'),
    dockerRegistry: programPath('docker-registry'),
  };
}

/** Debian's names of those among the wanted that are not installed; of what managers need unless others are named. */
export function missingPackages(
  wanted: ReadonlyArray<keyof ServerPrograms> = ['postgres', 'redis', 'etcd'],
  programs: ServerPrograms = findPrograms(),
): string[] {
  return wanted.filter((name) => programs[name] === undefined).map((name) => serverPackages[name]);
}

/** @throws Error naming the package to install */
export function requireProgram(name: keyof ServerPrograms): string {
  const path = findPrograms()[name];
  if (path) return path;
  throw new Error(`${name} is not installed. Install the package ${serverPackages[name]}.`);
}
