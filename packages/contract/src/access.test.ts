import { readFile } from 'node:fs/promises';
import { userRoles } from '@backend.ai/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Action,
  actions,
  allow,
  extentOf,
  extents,
  isWithin,
  type Subject,
  scopeOf,
  type Target,
} from './access.ts';
import { accessDocument } from './access-table.ts';
import { checkAccess, checkAccessLevels, createCallerFactory, procedureFor, router } from './link.ts';

const actionNames = Object.keys(actions) as Action[];
const name = fc.constantFrom('a', 'b', 'c');
const target: fc.Arbitrary<Target> = fc.record(
  { userId: name, domain: name, isMember: fc.boolean(), ownerRole: fc.constantFrom(...userRoles) },
  { requiredKeys: [] },
);
/** The same person with three roles. */
const person = fc.record({ userId: name, domain: name });
const action = fc.constantFrom(...actionNames);

describe('the table of actions', () => {
  it('never allows a lower role more than a higher one', () => {
    fc.assert(
      fc.property(person, action, target, (who, what, thing) => {
        const allowed = userRoles.map((role) => allow({ ...who, role }, what, thing));
        expect(allowed).toEqual([...allowed].sort((a, b) => Number(a) - Number(b)));
      }),
    );
  });

  it('gives superadmins an extent for everything, and every role at most that of the next', () => {
    for (const what of actionNames) {
      const ranks = userRoles.map(
        (role) => extents.indexOf(extentOf(role, what) ?? 'own') - (extentOf(role, what) ? 0 : 1),
      );
      expect(extentOf('superadmin', what), what).not.toBeNull();
      expect(ranks, what).toEqual([...ranks].sort((a, b) => a - b));
    }
  });

  it('allows nothing of strangers to ordinary users', () => {
    const user: Subject = { userId: 'a', role: 'user', domain: 'mine' };
    const everybodys: Action[] = actionNames.filter((what) => extentOf('user', what) === 'all');
    for (const what of actionNames.filter((one) => !everybodys.includes(one)))
      expect(allow(user, what, { userId: 'b', domain: 'd', isMember: false }), what).toBe(false);
  });
});

describe('an extent', () => {
  it.each([
    ['own', [true, false, false, false]],
    ['project', [true, true, false, false]],
    ['domain', [true, true, true, false]],
    ['all', [true, true, true, true]],
  ] as const)("%s holds what is one's own, the projects', the domain's, others': %j", (extent, expected) => {
    const scope = { extent, userId: 'me', domain: 'mine' };
    const things: Target[] = [
      { userId: 'me', domain: 'other' },
      { userId: 'you', domain: 'other', isMember: true },
      { userId: 'you', domain: 'mine' },
      { userId: 'you', domain: 'other' },
    ];
    expect(things.map((thing) => isWithin(scope, thing))).toEqual(expected);
  });
});

describe('a procedure', () => {
  const actor = { kind: 'user', accessKey: 'A', userId: 'u', email: 'e', role: 'user', domain: 'd' } as const;

  it('lets nobody in whose role may not do its action', () => {
    expect(() => checkAccess('session:read', { kind: 'anonymous' })).toThrow('needs a login');
    expect(() => checkAccess('session:read', { kind: 'peer', peerKind: 'agent', peerId: 'i-a' })).toThrow();
    expect(() => checkAccess('peer', actor)).toThrow('peers of the cluster');
    expect(() => checkAccess('session:read', actor)).not.toThrow();
    expect(scopeOf(actor, 'session:read')).toEqual({ extent: 'own', userId: 'u', domain: 'd' });
  });

  it('without an action, or with one that the table lacks, stops the start', () => {
    const named = (access: string) => router({ x: procedureFor(access as 'open').query(() => 1) });
    expect(() => checkAccessLevels(named('session:read'))).not.toThrow();
    expect(() => checkAccessLevels(named('session:dance'))).toThrow('x does not state who may call it');
    expect(() => checkAccessLevels({ _def: { procedures: { y: { _def: { type: 'query' } } } } })).toThrow('y does not');
  });

  it('asks the table before it does anything', async () => {
    const caller = createCallerFactory(router({ x: procedureFor('account:read').query(() => 1) }));
    const context = { requestId: 'r' as never, headers: {}, signal: undefined };
    expect(await caller({ ...context, actor }).x()).toBe(1);
    await expect(caller({ ...context, actor: { kind: 'anonymous' } }).x()).rejects.toThrow('needs a login');
  });
});

it('the page of actions is as the table: write it with npm run configs', async () => {
  const page = await readFile(new URL('../../../docs/user/access.md', import.meta.url), 'utf8');
  expect(page).toBe(accessDocument());
});
