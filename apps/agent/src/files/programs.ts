import { execFile } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { AppError } from '@backend.ai/core';

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

const largestOutput = 16 * 1024 * 1024;

/** Standard output of a program that ended well. @throws AppError `internal` with what it said */
function runProgram(file: string, args: readonly string[], signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = {
      signal,
      killSignal: 'SIGKILL',
      cwd: '/',
      maxBuffer: largestOutput,
      env: { LC_ALL: 'C' },
    } as const;
    execFile(file, [...args], options, (error, stdout, stderr) => {
      if (!error) return resolve(stdout);
      const said = stderr.trim() || stdout.trim() || error.message;
      const message = `${file} failed: ${said.split('\n').at(-1)?.slice(0, 200)}`;
      reject(new AppError('internal', message, { cause: error, detail: { stdout: stdout.slice(0, 1000), stderr } }));
    });
  });
}

/**
 * As `runProgram`, of one that is looked for where `searchFolders` finds it.
 * @throws AppError `internal` when it is nowhere
 */
export async function runFoundProgram(
  name: string,
  path: string,
  args: readonly string[],
  signal: AbortSignal,
): Promise<string> {
  const program = findProgram(name, searchFolders(path));
  if (!program) throw new AppError('internal', `${name} is not on this machine.`);
  return await runProgram(program, args, signal);
}
