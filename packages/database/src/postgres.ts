import { connect, type Socket } from 'node:net';
import { AppError, hasCode, withShownConfig } from '@backend.ai/core';
import postgres, { type Sql } from 'postgres';
import { connectionFailure } from './connection-failures.ts';
import { type Database, type DatabaseHandle, databaseOver } from './database.ts';
import { sqlStateOf, sqlStates } from './database-errors.ts';
import { type Deadlines, defaultDeadlines } from './guarded-client.ts';

export interface PostgresOptions {
  /** `postgres://user:password@host:port/database`, with `?sslmode=verify-full` or the like where TLS is wanted. */
  readonly url: string;
  /** PEM of the authority that signed the server's certificate, where the system does not know it; demands TLS. */
  readonly ca?: string | undefined;
  /** Connections at most, of which one is for steady statements at least and one for others. 10 unless given. */
  readonly maxConnections?: number | undefined;
  /** Shown in the server's list of its connections. */
  readonly applicationName?: string | undefined;
  readonly deadlines?: Partial<Deadlines> | undefined;
  /** Command that shows the settings of whoever opens it, for errors about them. */
  readonly showConfig?: string | undefined;
}

export interface PostgresHandle extends DatabaseHandle {
  /** What `ask` answers. @throws AppError that names the server where it cannot be reached, as `openPostgres` does */
  asked<T>(ask: (db: Database) => Promise<T>): Promise<T>;
}

/** Oldest major version on which all statements and migrations are tested. */
export const oldestPostgres = 15;

const defaultConnections = 10;
/** Of these for steady statements: what comes at one moment is gathered into few of them. */
const mostSteady = 4;
const connectSeconds = 10;
/** A server that is back is found within this time. */
const longestReconnectSeconds = 1;

/**
 * A pool of connections to a PostgreSQL server, ready when this resolves. Connections that break are made again.
 *
 * A single statement sees one snapshot (REPEATABLE READ), and is repeated by the guarded client when a row that it
 * wants to change was changed after that. Under READ COMMITTED such a statement goes on with the new version of that
 * one row and the old snapshot of all others: a session that was placed meanwhile would be ended without giving back
 * the resources that its placement took.
 *
 * @throws AppError `config-invalid` for a wrong url, user, password or database, or a server that is too old;
 *   `server-unreachable` when nobody answers
 */
export async function openPostgres(options: PostgresOptions): Promise<PostgresHandle> {
  const where = parseUrl(options);
  const clients: Sql[] = [];
  const connected = (pool: Pool): Database => {
    const client = connectTo(options, where, pool);
    clients.push(client);
    return databaseOver(client, pool.deadlines);
  };
  const deadlines = { ...defaultDeadlines, ...options.deadlines };
  const { maxConnections = defaultConnections } = options;
  const forSteady = Math.max(1, Math.min(mostSteady, Math.floor(maxConnections / 2)));
  const db = connected({ max: Math.max(1, maxConnections - forSteady), deadlines });
  const steady = connected({ max: forSteady, deadlines, settings: steadySettings });
  try {
    await requireVersion(clients[0]!, where);
  } catch (error) {
    await clients[0]!.end({ timeout: 0 });
    throw openingFailure(error, where);
  }
  let closed: Promise<unknown> | undefined;
  return {
    db,
    steady,
    withDeadlines: (others) => connected({ max: maxConnections, deadlines: others }),
    async asked(ask) {
      try {
        return await ask(db);
      } catch (error) {
        throw openingFailure(error, where);
      }
    },
    async close() {
      closed ??= Promise.all(clients.map((client) => client.end({ timeout: 2 })));
      await closed;
    },
  };
}

interface Pool {
  readonly max: number;
  readonly deadlines: Deadlines;
  /** Of the server, for each connection. */
  readonly settings?: Readonly<Record<string, string>>;
}

/**
 * Plans are made once. That of a table with few rows would read all of it, and go on with that for as long as nobody has
 * counted its rows anew: a minute at least, in which a new cluster would get slower with every session.
 */
const steadySettings = { plan_cache_mode: 'force_generic_plan', enable_seqscan: 'off' };

/** Connects when it is first used. */
function connectTo(options: PostgresOptions, place: Place, { max, deadlines, settings }: Pool): Sql {
  return postgres(options.url, {
    max,
    connect_timeout: connectSeconds,
    ...(options.ca === undefined ? {} : { ssl: { ca: options.ca, host: place.host } }),
    // Not in the types of postgres.js, but in its documentation.
    ...{
      backoff: (tries: number) => Math.min(0.05 * 2 ** tries, longestReconnectSeconds),
      ...(place.tls ? {} : { socket: () => plainSocket(place) }),
    },
    fetch_types: false,
    onnotice: () => {},
    connection: {
      application_name: options.applicationName ?? 'backend.ai',
      TimeZone: 'UTC',
      DateStyle: 'ISO',
      default_transaction_isolation: 'repeatable read',
      // Statements are long and find few rows. Where tables are large PostgreSQL would compile them first, for seconds.
      jit: 'off',
      // What nobody waits for any more ends at the server, too, and keeps no row locked.
      statement_timeout: deadlines.statementMs,
      idle_in_transaction_session_timeout: deadlines.transactionMs,
      ...settings,
    },
  });
}

/** What error messages name. Never the password. */
interface Place {
  readonly host: string;
  readonly port: number;
  /** Host and port. */
  readonly server: string;
  readonly tls: boolean;
  readonly user: string;
  readonly database: string;
  readonly showConfig: string | undefined;
}

function parseUrl({ url: text, ca, showConfig }: PostgresOptions): Place {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const database = url?.pathname.slice(1);
  if (!url || !/^postgres(ql)?:$/.test(url.protocol) || url.hostname === '' || !database) {
    throw new AppError('config-invalid', 'The url of the database is not a PostgreSQL url.', {
      hint: 'Write it as: postgres://user:password@host:5432/database',
    });
  }
  const port = Number(url.port || '5432');
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  return {
    host,
    port,
    server: `${url.hostname}:${port}`,
    tls:
      ca !== undefined ||
      ['ssl', 'sslmode'].some((name) => !['', 'disable', 'false'].includes(url.searchParams.get(name) ?? '')),
    user: decodeURIComponent(url.username),
    database: decodeURIComponent(database),
    showConfig,
  };
}

const firstBytes = new Set([...'REv'].map((letter) => letter.charCodeAt(0)));

/**
 * A connection that fails when it ends before PostgreSQL has spoken (a proxy without a server behind it, another kind
 * of server): postgres.js by itself would connect again at once, without end, and without telling the caller.
 */
function plainSocket({ host, port, server }: Place): Socket {
  const socket = connect({ host, port });
  let spoke = false;
  socket.once('data', (bytes) => {
    spoke = firstBytes.has(bytes[0]!);
  });
  socket.once('end', () => {
    if (spoke) return;
    const reason = new Error(`The connection to ${server} ended before PostgreSQL answered.`);
    socket.destroy(Object.assign(reason, { code: 'NOT_POSTGRES' }));
  });
  return socket;
}

async function requireVersion(client: Sql, { server }: Place): Promise<void> {
  const [row] = await client.unsafe<Array<{ number: string }>>(
    "select current_setting('server_version_num') as number",
  );
  const major = Math.floor(Number(row?.number) / 10_000);
  if (major >= oldestPostgres) return;
  throw new AppError('config-invalid', `The server at ${server} is PostgreSQL ${major}, which is too old.`, {
    hint: `Upgrade it to PostgreSQL ${oldestPostgres} or later.`,
  });
}

/** Codes of Node.js for certificates that do not hold. */
const untrusted = /CERT|^UNABLE_TO_VERIFY/;

const toTrust = 'Name the file of the authority that signed it (database.ca-file), or correct database.host.';

/** What to do about a server that does not answer. */
export const unreachablePostgresHint =
  'Start PostgreSQL, or correct database.host and database.port (or database.url). For development: ./scripts/run-dev.sh';

function openingFailure(error: unknown, { server, port, user, database, showConfig }: Place): AppError {
  const state = sqlStateOf(error);
  if (state === sqlStates.invalidPassword || state === sqlStates.invalidAuthorization) {
    return new AppError('config-invalid', `PostgreSQL at ${server} refuses the user "${user}" with this password.`, {
      hint: withShownConfig('Correct database.user and database.password-file (or database.url).', showConfig),
      cause: error,
    });
  }
  if (state === sqlStates.missingDatabase) {
    return new AppError('config-invalid', `There is no database "${database}" at ${server}.`, {
      hint: `Make it on the machine of PostgreSQL: ${toMakeDatabase({ port, user, database })}`,
      cause: error,
    });
  }
  const { code } = error as { code?: unknown };
  if (typeof code === 'string' && untrusted.test(code)) {
    return new AppError('config-invalid', `The certificate of PostgreSQL at ${server} is not trusted (${code}).`, {
      hint: withShownConfig(toTrust, showConfig),
      cause: error,
    });
  }
  if (connectionFailure(error) || hasCode(AppError.from(error), 'server-unreachable', 'connection-lost')) {
    return new AppError('server-unreachable', `No PostgreSQL answers at ${server}.`, {
      hint: unreachablePostgresHint,
      cause: error,
    });
  }
  return AppError.from(error);
}

/** What the superuser of the server types: the owner of a database may seldom make one. */
function toMakeDatabase({ port, user, database }: Pick<Place, 'port' | 'user' | 'database'>): string {
  const identifier = (name: string): string =>
    /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`;
  const statement = `create database ${identifier(database)} owner ${identifier(user)}`;
  return `runuser -u postgres -- psql -p ${port} -c '${statement.replaceAll("'", "'\\''")}'`;
}
