import { join } from 'node:path';
import { expect } from 'vitest';
import { freePort } from '../../scripts/dev-servers/index.ts';
import { type CommandResult, repository, runCommand } from './command.ts';

export const runDevScript: string = join(repository, 'scripts', 'run-dev.sh');

/** Where a development of its own is: other folders and ports than those of whoever works here. */
export interface DevPlace {
  readonly folder: string;
  readonly ports: { readonly postgres: number; readonly redis: number; readonly etcd: number };
}

export async function freeDevPorts(): Promise<DevPlace['ports']> {
  return { postgres: await freePort(), redis: await freePort(), etcd: await freePort() };
}

/**
 * Calls of the script for one development.
 * @param place Asked at each call
 * @param more Options of all calls
 */
export function runDevAt(place: () => DevPlace, ...more: string[]) {
  const options = (): string[] => [
    ...['--directory', join(place().folder, 'dev'), '--configs', join(place().folder, 'configs'), ...more],
    ...Object.entries(place().ports).flatMap(([name, port]) => [`--${name}-port`, String(port)]),
  ];
  // What is given last counts.
  const runDev = (...args: string[]): Promise<CommandResult> => runCommand(runDevScript, [...options(), ...args]);
  const succeed = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await runDev(...args);
    expect(code, stdout + stderr).toBe(0);
    return stdout;
  };
  return { options, runDev, succeed };
}
