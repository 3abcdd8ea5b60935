import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { ConfigEntry, ConfigStore } from '@backend.ai/coordination';
import { AppError, type Clock } from '@backend.ai/core';
import type { BackupRepository, BackupRows } from '../../repositories/backup.ts';
import { type BackupLine, BackupWriter, readBackup } from './backup-file.ts';

export interface BackupOptions {
  readonly rows: BackupRepository;
  readonly configStore: ConfigStore;
  /** Files without which the database cannot be used or peers would refuse the manager: by name, where they are. */
  readonly keyFiles: Readonly<Record<string, string>>;
  readonly version: string;
  readonly clock: Clock;
}

export interface BackupReport {
  readonly file: string;
  readonly createdAt: string;
  readonly migrations: readonly string[];
  readonly rows: number;
  readonly settings: number;
  readonly keyFiles: readonly string[];
}

/** Where a backup is restored to. */
export interface RestoreTarget {
  /** Settings that are there already; asked before there is a schema, too. */
  settings(): Promise<readonly ConfigEntry[]>;
  /** Brings the empty database to the schema of the backup; after the rows are there, to that of this version. */
  migrateTo(last: string | undefined): Promise<void>;
}

/**
 * Everything that an installation cannot make again: the database as of one moment, settings, and the managers' keys.
 * Kernels, logs and the files of sessions are the agents'; what started after the backup is ended by them when they find
 * that nobody knows it.
 */
export class BackupService {
  readonly #options: BackupOptions;

  constructor(options: BackupOptions) {
    this.#options = options;
  }

  async backup(file: string): Promise<BackupReport> {
    const { rows, configStore, keyFiles, version, clock } = this.#options;
    const createdAt = new Date(clock.now()).toISOString();
    const writer = new BackupWriter(file);
    let migrations: readonly string[] = [];
    let count = 0;
    try {
      const contents = await contentsOf(keyFiles);
      const heads: BackupLine[] = [];
      await rows.read(
        (head) => {
          migrations = head.migrations;
          heads.push({ kind: 'head', format: 'backend.ai-backup', formatVersion: 1, version, createdAt, ...head });
        },
        async (portion) => {
          for (const head of heads.splice(0)) await writer.write(head);
          await writer.write({ kind: 'rows', ...portion });
          count += portion.count;
        },
      );
      for (const head of heads) await writer.write(head);
      const settings = await configStore.list('');
      for (const { key, value } of settings) await writer.write({ kind: 'setting', key, value });
      for (const [name, content] of contents) await writer.write({ kind: 'key-file', name, content });
      requireSameKeys(contents, await contentsOf(keyFiles));
      await writer.end();
      return { file, createdAt, migrations, rows: count, settings: settings.length, keyFiles: Object.keys(keyFiles) };
    } catch (error) {
      throw await writer.discard(error);
    }
  }

  /**
   * Into an empty installation only, which is looked at before anything is changed. The file is read twice: the first
   * time to know that it is whole. Rows come last and all at once: what was begun before is the same when it is begun
   * again, and a database with rows has all that belongs to them.
   * @throws AppError `state-conflict` when the database holds rows, or other settings or keys are there; `invalid-input`
   */
  async restore(file: string, target: RestoreTarget): Promise<BackupReport> {
    const { rows, configStore, keyFiles } = this.#options;
    const { head, settings, keys } = await surveyBackup(file);
    const clashes = keys.filter(({ name }) => keyFiles[name] === undefined).map(({ name }) => name);
    if (clashes.length > 0) {
      throw new AppError('invalid-input', `The backup has keys that belong nowhere here: ${clashes.join(', ')}.`);
    }
    requireNoRows(await rows.filledTables());
    requireNoOtherSettings(await target.settings(), settings);
    for (const { name, content } of keys) await requireNoOtherKey(keyFiles[name] ?? '', content);
    await target.migrateTo(head.migrations.at(-1));
    for (const { name, content } of keys) await putKeyFile(keyFiles[name] ?? '', content);
    for (const { key, value } of settings) await configStore.put(key, value);
    const count = await rows.fill(rowsOf(file), head.sequences);
    await target.migrateTo(undefined);
    const { createdAt, migrations } = head;
    return {
      file,
      createdAt,
      migrations,
      rows: count,
      settings: settings.length,
      keyFiles: keys.map(({ name }) => name),
    };
  }
}

async function contentsOf(keyFiles: BackupOptions['keyFiles']): Promise<Map<string, string>> {
  const contents = new Map<string, string>();
  for (const [name, path] of Object.entries(keyFiles)) contents.set(name, await readFile(path, 'utf8'));
  return contents;
}

/** Otherwise rows may be encrypted by a key that had not come yet, or had gone. */
function requireSameKeys(before: ReadonlyMap<string, string>, after: ReadonlyMap<string, string>): void {
  for (const [name, content] of before) {
    if (after.get(name) === content) continue;
    throw new AppError('state-conflict', `The key file ${name} was changed while the backup was made.`, {
      hint: 'Make it again.',
    });
  }
}

type Line<Kind extends BackupLine['kind']> = Extract<BackupLine, { kind: Kind }>;

export interface BackupSurvey {
  readonly head: Line<'head'>;
  readonly settings: readonly Line<'setting'>[];
  readonly keys: readonly Line<'key-file'>[];
}

/**
 * Reads all of it, so that what is wrong shows before anything is made.
 * @throws AppError `invalid-input`, `file-not-found`
 */
export async function surveyBackup(file: string): Promise<BackupSurvey> {
  let head: Line<'head'> | undefined;
  const settings: Line<'setting'>[] = [];
  const keys: Line<'key-file'>[] = [];
  for await (const line of readBackup(file)) {
    if (line.kind === 'head') head = line;
    else if (line.kind === 'setting') settings.push(line);
    else if (line.kind === 'key-file') keys.push(line);
  }
  if (!head) throw new AppError('invalid-input', `The backup ${file} is empty.`);
  return { head, settings, keys };
}

async function* rowsOf(file: string): AsyncGenerator<BackupRows> {
  for await (const line of readBackup(file)) if (line.kind === 'rows') yield line;
}

function requireNoRows(filled: readonly string[]): void {
  if (filled.length === 0) return;
  throw new AppError('state-conflict', `The database is not empty: ${filled.slice(0, 3).join(', ')} …`, {
    hint:
      'Restore into a new database: another name in the configuration, or another --data-dir. ' +
      'Rows come last: where a restore was cut off after them, ./backend.ai mgr dbschema migrate completes it.',
  });
}

/** Those of the backup may be there from a first attempt. Others are of another installation. */
function requireNoOtherSettings(found: readonly ConfigEntry[], ours: ReadonlyArray<Line<'setting'>>): void {
  const values = new Map(ours.map(({ key, value }) => [key, value]));
  const others = found.filter(({ key, value }) => values.get(key) !== value).map(({ key }) => key);
  if (others.length === 0) return;
  throw new AppError('state-conflict', `There are other settings already: ${others.slice(0, 3).join(', ')} …`, {
    hint:
      'Restore under another etcd.namespace, or delete them (etcdctl del) if the installation that they belong to is ' +
      'really gone.',
  });
}

/** The same key may be there from a first attempt. Another one is somebody's. @returns whether it is there */
async function requireNoOtherKey(path: string, content: string): Promise<boolean> {
  const found = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (found === undefined || found === content) return found !== undefined;
  throw new AppError('state-conflict', `There is another key in ${path}.`, {
    hint: 'Move it away if the installation that it belongs to is really gone, then try again.',
  });
}

async function putKeyFile(path: string, content: string): Promise<void> {
  if (await requireNoOtherKey(path, content)) return;
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await writeFile(path, content, { flag: 'wx', mode: 0o600, flush: true });
}
