import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { ConfigStore } from '@backend.ai/coordination';
import { AppError, type Clock } from '@backend.ai/core';
import type { BackupRepository, BackupRow } from '../../repositories/backup.ts';
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

export interface RestoreTarget {
  /** Brings the empty database to the schema of the backup; after the rows are there, to that of this version. */
  migrateTo(last: string | undefined): Promise<void>;
}

/** More elections than any installation has seen between a backup and its use. */
const skippedEpochs = 1_000_000;

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
      const heads: BackupLine[] = [];
      await rows.read(
        (head) => {
          migrations = head.migrations;
          heads.push({ kind: 'head', format: 'backend.ai-backup', formatVersion: 1, version, createdAt, ...head });
        },
        async (row) => {
          for (const head of heads.splice(0)) await writer.write(head);
          await writer.write({ kind: 'row', ...row });
          count += 1;
        },
      );
      for (const head of heads) await writer.write(head);
      const settings = await configStore.list('');
      for (const { key, value } of settings) await writer.write({ kind: 'setting', key, value });
      for (const [name, path] of Object.entries(keyFiles)) {
        await writer.write({ kind: 'key-file', name, content: await readFile(path, 'utf8') });
      }
      await writer.end();
      return { file, createdAt, migrations, rows: count, settings: settings.length, keyFiles: Object.keys(keyFiles) };
    } catch (error) {
      throw await writer.discard(error);
    }
  }

  /**
   * Into an empty installation only. The file is read twice: the first time to know that it is whole.
   * @throws AppError `state-conflict` when the database holds rows or a key file is there, `invalid-input`
   */
  async restore(file: string, target: RestoreTarget): Promise<BackupReport> {
    const { rows, configStore, keyFiles } = this.#options;
    const { head, settings, keys } = await surveyBackup(file);
    const clashes = keys.filter(({ name }) => keyFiles[name] === undefined).map(({ name }) => name);
    if (clashes.length > 0) {
      throw new AppError('invalid-input', `The backup has keys that belong nowhere here: ${clashes.join(', ')}.`);
    }
    await target.migrateTo(head.migrations.at(-1));
    const filled = await rows.filledTables();
    if (filled.length > 0) {
      throw new AppError('state-conflict', `The database is not empty: ${filled.slice(0, 3).join(', ')} …`, {
        hint: 'Restore into a new database: another name in the configuration, or another --data-dir.',
      });
    }
    for (const { name, content } of keys) await putKeyFile(keyFiles[name] ?? '', content);
    const count = await rows.fill(rowsOf(file), head.sequences);
    await target.migrateTo(undefined);
    await rows.skipEpochs(skippedEpochs);
    for (const { key, value } of settings) await configStore.put(key, value);
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

type Line<Kind extends BackupLine['kind']> = Extract<BackupLine, { kind: Kind }>;

export interface BackupSurvey {
  readonly head: Line<'head'>;
  readonly settings: readonly Line<'setting'>[];
  readonly keys: readonly Line<'key-file'>[];
}

/** Reads all of it, so that what is wrong shows before anything is made. @throws AppError `invalid-input`, `file-not-found` */
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

async function* rowsOf(file: string): AsyncGenerator<BackupRow> {
  for await (const line of readBackup(file)) if (line.kind === 'row') yield { table: line.table, row: line.row };
}

/** The same key may be there from a first attempt. Another one is somebody's. */
async function putKeyFile(path: string, content: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  try {
    await writeFile(path, content, { flag: 'wx', mode: 0o600, flush: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    if ((await readFile(path, 'utf8')) === content) return;
    throw new AppError('state-conflict', `There is another key in ${path}.`, {
      hint: 'Move it away if the installation that it belongs to is really gone, then try again.',
    });
  }
}
