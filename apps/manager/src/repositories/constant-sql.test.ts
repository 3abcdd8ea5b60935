import { sql } from 'drizzle-orm';
import { PgDialect } from 'drizzle-orm/pg-core';
import { expect, it } from 'vitest';
import { constantSql } from './constant-sql.ts';

it('a constant part of a statement reads as it did in pieces, and is one piece', () => {
  const part = sql`case ${sql.join([sql`when ${sql.raw('true')} then 1`, sql.raw('else 2')], sql` `)} end`;
  const constant = constantSql(part);
  expect(constant.queryChunks).toHaveLength(1);
  expect(new PgDialect().sqlToQuery(sql`select ${constant} + ${3}`)).toMatchObject({
    sql: 'select case when true then 1 else 2 end + $1',
    params: [3],
  });
});

it('a part with a value is refused, as it would keep the value of its first use', () => {
  expect(() => constantSql(sql`id = ${7}`)).toThrow('is not constant');
});
