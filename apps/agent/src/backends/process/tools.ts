import { execFile } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { SandboxTools } from './sandbox-command.ts';

/** System folders first: what an unusual PATH puts in front (shims, wrappers) is for people, not for sandboxes. */
const systemFolders = ['/usr/bin', '/bin', '/usr/sbin', '/sbin', '/usr/local/bin'];

export function searchFolders(path: string): string[] {
  return [...new Set([...systemFolders, ...path.split(delimiter).filter((folder) => folder.startsWith('/'))])];
}

export function findProgram(name: string, folders: readonly string[]): string | null {
  return folders.map((folder) => join(folder, name)).find(isProgram) ?? null;
}

export function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** Standard output of a program, or null when it fails or takes too long. */
export function askProgram(file: string, args: readonly string[], timeoutMs = 10_000): Promise<string | null> {
  return new Promise((resolve) => {
    execFile(file, args, { timeout: timeoutMs, killSignal: 'SIGKILL', cwd: '/' }, (error, stdout, stderr) => {
      resolve(error ? null : `${stdout}${stderr}`);
    });
  });
}

export async function findSandboxTools(path: string): Promise<SandboxTools> {
  const folders = searchFolders(path);
  const bwrap = findProgram('bwrap', folders);
  const help = bwrap ? await askProgram(bwrap, ['--help']) : null;
  // `unshare` mode needs mount(8) and pivot_root(8), too; its self-test notices when one is missing.
  return {
    shell: '/bin/sh',
    bwrap: help?.includes('--json-status-fd') ? bwrap : null,
    unshare: findProgram('unshare', folders),
    setpriv: findProgram('setpriv', folders),
    bwrapSizes: help?.includes('--perms') === true && help.includes('--size'),
  };
}
