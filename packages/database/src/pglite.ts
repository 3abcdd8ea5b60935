import { chmod, rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { lockDirectory } from '@backend.ai/runtime';
import postgres from 'postgres';
import { prepareDataDirectory } from './data-directory.ts';
import { type DatabaseHandle, databaseOver } from './database.ts';
import { type Deadlines, defaultDeadlines } from './guarded-client.ts';
import { WorkerEngine } from './worker-engine.ts';

export interface PgliteOptions {
  /** Directory of the database, made on the first start and locked while open; `memory` keeps everything in memory. */
  readonly dataDir: string | 'memory';
  /** A ready-made data directory to copy on the first start; migrations still run on top of it. */
  readonly templateDir?: string | undefined;
  readonly deadlines?: Partial<Deadlines> | undefined;
  /**
   * The worker's file. Found by itself from sources and builds, and in bundles where `pglite-worker.mjs` (with
   * PGlite's .wasm and .data files) lies next to the bundle.
   */
  readonly workerUrl?: URL | undefined;
}

/** The embedded database as a server, which takes one connection at a time. */
export interface PgliteServer {
  /**
   * A new connection, once the former one has ended. It finds what that one left: rows, settings of the session, and a
   * transaction that it did not end.
   *
   * @throws AppError `internal` while statements of the former one are not answered
   */
  connect(deadlines?: Partial<Deadlines>): Promise<DatabaseHandle>;
  /** Ends the database in order. Safe to call twice. */
  close(): Promise<void>;
}

/**
 * The embedded database: PostgreSQL in WebAssembly, in a thread of its own. It is reached with postgres.js over the
 * real wire protocol, so that repositories meet one driver, one error class and one set of types everywhere.
 *
 * There is one session: statements run in order of their calls, and a transaction has the database for itself until
 * it ends. A killed process loses no acknowledged row; a power cut may, because PGlite does not call fsync.
 *
 * @throws AppError `data-directory-locked` when another process has it open
 */
export async function openPglite(options: PgliteOptions): Promise<DatabaseHandle> {
  const server = await startPglite(options);
  try {
    const connection = await server.connect(options.deadlines);
    const close = async (): Promise<void> => {
      await connection.close();
      await server.close();
    };
    return { ...connection, close: once(close) };
  } catch (error) {
    await server.close();
    throw error;
  }
}

/** The same without a connection, for those that make several one after the other. */
export async function startPglite(options: Omit<PgliteOptions, 'deadlines'>): Promise<PgliteServer> {
  if (options.dataDir === 'memory') return serverOver(await WorkerEngine.start(null, options.workerUrl));
  const dataDir = resolve(options.dataDir);
  const lock = await lockDirectory(dataDir, { beside: true });
  try {
    await prepareDataDirectory(dataDir, options.templateDir, options.workerUrl);
    // PGlite makes its files without regard to the umask.
    await chmod(dataDir, 0o700);
    const engine = await WorkerEngine.start(dataDir, options.workerUrl);
    return serverOver(engine, async () => {
      // Left by PGlite; it would be taken for a living server's by tools that look into the directory.
      await rm(`${dataDir}/postmaster.pid`, { force: true });
      await lock.release();
    });
  } catch (error) {
    await lock.release();
    throw error;
  }
}

function serverOver(engine: WorkerEngine, release?: () => Promise<void>): PgliteServer {
  const close = async (): Promise<void> => {
    await engine.close();
    await release?.();
  };
  return { connect: (deadlines) => connect(engine, deadlines), close: once(close) };
}

async function connect(engine: WorkerEngine, deadlines: Partial<Deadlines> = {}): Promise<DatabaseHandle> {
  const client = postgres({
    // Not in the types of postgres.js, but its documented way to bring an own stream.
    ...{ socket: () => engine.connect() },
    max: 1,
    idle_timeout: 0,
    max_lifetime: null,
    fetch_types: false,
    user: 'postgres',
    database: 'postgres',
    onnotice: () => {},
  });
  // Past the deadlines, which are meant for statements and not for the first breath of a database on a busy machine.
  await client.unsafe("set timezone to 'UTC'");
  const db = databaseOver(client, { ...defaultDeadlines, ...deadlines });
  return {
    db,
    steady: db,
    withDeadlines: (others) => databaseOver(client, others),
    close: once(() => client.end({ timeout: 2 })),
  };
}

/** `work`, done at the first call, whose end all calls wait for. */
function once(work: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined;
  return () => {
    done ??= work();
    return done;
  };
}
