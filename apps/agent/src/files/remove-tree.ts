import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { chmod, type FileHandle, open, opendir, rename, rmdir, unlink } from 'node:fs/promises';
import { pathOnly } from './safe-open.ts';

/** Entries of a folder that are worked on at a time. */
const portion = 32;
const folderFlags = constants.O_DIRECTORY | constants.O_NOFOLLOW;

/**
 * Removes a folder with everything in it, whatever a stranger has put there: folders without rights, names that are no
 * text, trees deeper than a path can be long. Other work goes on meanwhile.
 *
 * The tree is made flat: folders below are moved up into its root before they are emptied, so that two descriptors are
 * enough for any depth. Every entry is reached by the descriptor of the folder that holds it and nothing follows a link,
 * so that whatever is swapped meanwhile, nothing outside is touched.
 *
 * @param path Its parent is trusted. Absent counts as removed.
 * @throws the system's error when something cannot be removed; what was removed stays so
 */
export async function removeTree(path: string): Promise<void> {
  if (await isUnlinked(Buffer.from(path))) return;
  const root = await openFolder(Buffer.from(path));
  if (!root) return await removeTree(path);
  try {
    while ((await eachEntry(root, (name) => removeEntry(root, name))) > 0);
  } finally {
    await root.close();
  }
  await tolerate(['ENOENT'], rmdir(path));
}

/** An entry of the root. What is below a folder goes, or moves into the root to be met there later. */
async function removeEntry(root: FileHandle, name: Buffer): Promise<void> {
  const path = entryPath(root, name);
  if (await isUnlinked(path)) return;
  const folder = await openFolder(path);
  if (!folder) return;
  let moved = 0;
  try {
    moved = await eachEntry(folder, async (inner) => {
      const from = entryPath(folder, inner);
      if (!(await isUnlinked(from))) await moveFolder(from, entryPath(root, freshName()));
    });
  } finally {
    await folder.close();
  }
  // Names may appear while a folder is being read: the next pass meets it again.
  await tolerate(moved > 0 ? ['ENOENT', 'ENOTEMPTY'] : ['ENOENT'], rmdir(path));
}

/** Moving changes what `..` in the folder means: its owner has to have the right to write to it. */
async function moveFolder(from: Buffer, to: Buffer): Promise<void> {
  try {
    await tolerate(['ENOENT'], rename(from, to));
  } catch (error) {
    if (!isOneOf(['EACCES', 'EPERM'], error)) throw error;
    const folder = await openFolder(from);
    await folder?.close();
    await tolerate(['ENOENT'], rename(from, to));
  }
}

/** A folder that may be emptied, with the rights for it; null when there is no such folder. */
async function openFolder(path: Buffer): Promise<FileHandle | null> {
  try {
    const folder = await open(path, constants.O_RDONLY | folderFlags);
    const { mode } = await folder.stat();
    if ((mode & 0o700) !== 0o700 && process.getuid?.() !== 0) await folder.chmod(0o700);
    return folder;
  } catch (error) {
    if (isOneOf(['ENOENT', 'ENOTDIR', 'ELOOP'], error)) return null;
    if (!isOneOf(['EACCES'], error)) throw error;
  }
  // One that may not be read can still be named by a descriptor, and only so be changed without following a link.
  const named = await open(path, pathOnly | folderFlags);
  try {
    const itself = `/proc/self/fd/${named.fd}`;
    await chmod(itself, 0o700);
    return await open(itself, constants.O_RDONLY | constants.O_DIRECTORY);
  } finally {
    await named.close();
  }
}

/** Works on every entry, a portion at a time; answers how many there were. Goes on after a failure, and throws it then. */
async function eachEntry(folder: FileHandle, work: (name: Buffer) => Promise<void>): Promise<number> {
  // Names are bytes and need not be text; Node offers that here, its types do not say so.
  const encoding = 'buffer' as BufferEncoding;
  const entries = await opendir(`/proc/self/fd/${folder.fd}`, { encoding, bufferSize: 256 });
  let count = 0;
  let names: Buffer[] = [];
  const failures: unknown[] = [];
  // All of a portion has to end before the descriptor is closed: its number may then mean another folder.
  const flush = async (): Promise<void> => {
    for (const result of await Promise.allSettled(names.map(work)))
      if (result.status === 'rejected') failures.push(result.reason);
    names = [];
  };
  for await (const { name } of entries) {
    count += 1;
    if (names.push(name as unknown as Buffer) === portion) await flush();
  }
  await flush();
  if (failures.length > 0) throw failures[0];
  return count;
}

/** False for a folder. */
async function isUnlinked(path: Buffer): Promise<boolean> {
  try {
    await unlink(path);
    return true;
  } catch (error) {
    if (isOneOf(['ENOENT'], error)) return true;
    if (isOneOf(['EISDIR'], error)) return false;
    throw error;
  }
}

async function tolerate(codes: readonly string[], work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (!isOneOf(codes, error)) throw error;
  }
}

function isOneOf(codes: readonly string[], error: unknown): boolean {
  return codes.includes((error as NodeJS.ErrnoException).code ?? '');
}

function entryPath(folder: FileHandle, name: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`/proc/self/fd/${folder.fd}/`), name]);
}

/** Whoever filled the tree cannot have taken it. */
function freshName(): Buffer {
  return Buffer.from(`gone-${randomBytes(12).toString('hex')}`);
}
