import { PgDialect } from 'drizzle-orm/pg-core';
import Fastify from 'fastify';
import postgres from 'postgres';
import { sessionColumns } from '../../apps/manager/src/repositories/session-rows.ts';
import { inspectedColumns } from '../../apps/manager/src/repositories/sessions.ts';

/**
 * The peer of the API: routes that run the manager's statements, prepared, and send the rows. No signature, request id,
 * rate limit, access log or validation. A process of its own: `bare-api.ts DATABASE_URL ACCESS_KEY`.
 */
const [url = '', accessKey = ''] = process.argv.slice(2);
const [columns, details] = [sessionColumns, inspectedColumns].map((sql) => new PgDialect().sqlToQuery(sql).sql);
const ended = `('TERMINATED', 'ERROR', 'CANCELLED')`;

const client = postgres(url, { max: 10, fetch_types: false, onnotice: () => {} });
const app = Fastify({ logger: false });

app.get<{ Params: { session: string } }>('/session/:session', async ({ params }) => {
  const [row] = await client.unsafe(
    `select ${details} from sessions s where s.id = (
      select f.id from sessions f
      where (f.id = $1::uuid and ($2::boolean or f.access_key = $3)) or (f.access_key = $3 and f.name = $4)
      order by (f.id = $1::uuid) desc nulls last, (f.status in ${ended}), f.created_at desc limit 1)`,
    [null, false, accessKey, params.session],
    { prepare: true },
  );
  return row;
});

app.get('/sessions', () =>
  client.unsafe(
    `select ${columns} from sessions s where s.access_key = $1 and ($2::boolean or s.status not in ${ended})
    order by s.created_at desc, s.id desc limit $3::int`,
    [accessKey, false, 100],
    { prepare: true },
  ),
);

const address = await app.listen({ host: '127.0.0.1', port: 0 });
process.send?.(Number(new URL(address).port));
