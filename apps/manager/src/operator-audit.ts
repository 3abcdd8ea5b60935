import { ensureRequestId } from '@backend.ai/telemetry';
import type { Operator } from './operator.ts';
import { type AuditLog, operatorActor } from './services/audit/audit-log.ts';
import type { Retention } from './services/retention/retention-service.ts';

/** They change nothing that is kept; migrations are recorded in a history of their own, where the log may not be yet. */
export const unrecordedMethods = [
  'verify',
  'listPeers',
  'getSetting',
  'listSettings',
  'loopEnds',
  'installationKeys',
  'schemaStatus',
  'schemaHistory',
  'migrateSchema',
  'backup',
] as const satisfies ReadonlyArray<keyof Operator>;

type Changing = Exclude<keyof Operator, (typeof unrecordedMethods)[number]>;

/** What the audit log keeps of a change. */
interface Kept {
  readonly action: `operator:${string}`;
  readonly target: { readonly kind: string; readonly id: string };
  readonly changes?: Readonly<Record<string, unknown>>;
}

type Methods = { readonly [Method in Changing]: (params: Parameters<Operator[Method]>[0]) => Kept | null };
type Results = { readonly [Method in Changing]?: (result: Awaited<ReturnType<Operator[Method]>>) => Kept['changes'] };

/** Of every method that changes something; null: with these parameters it does not. */
const kept: Methods = {
  clearHistory: (retention) => removal('operator:clear-history', 'history', retention),
  vacuumSessions: (retention) => removal('operator:vacuum-sessions', 'session', retention),
  createPeerToken: ({ kind, ...changes }) => ({
    ...{ action: 'operator:create-peer-token', target: { kind: 'peer', id: kind }, changes },
  }),
  revokePeer: ({ id }) => ({ action: 'operator:revoke-peer', target: { kind: 'peer', id } }),
  // By its own name, so that a password is left out.
  putSetting: ({ key, value }) => ({
    ...{ action: 'operator:put-setting', target: { kind: 'setting', id: key }, changes: { [key]: value } },
  }),
  deleteSetting: ({ key }) => ({ action: 'operator:delete-setting', target: { kind: 'setting', id: key } }),
  populateFixture: ({ fixture: { users, ...rows } }) => ({
    action: 'operator:populate-fixture',
    target: { kind: 'fixture', id: 'fixture' },
    changes: { ...rows, users: users.map(({ email }) => email) },
  }),
  addInstallationKey: () => rotation('operator:add-installation-key', 'new'),
  reencryptSecrets: () => rotation('operator:reencrypt-secrets', 'newest'),
  removeOldInstallationKeys: () => rotation('operator:remove-old-installation-keys', 'old'),
};

/** What is known of a change only when it is done. */
const learned: Results = {
  addInstallationKey: ({ id, made }) => ({ id, made }),
  reencryptSecrets: ({ id, moved }) => ({ id, moved }),
  removeOldInstallationKeys: ({ removed }) => ({ removed }),
};

export const recordedMethods = Object.keys(kept) as Changing[];

/** The same with a row in the audit log for each of its changes, done or failed. */
export function auditedOperator(operator: Operator, audit: AuditLog): Operator {
  const recorded = recordedMethods.map((name) => {
    const method = operator[name] as (params: unknown) => Promise<unknown>;
    const keptOf = kept[name] as (params: unknown) => Kept | null;
    const learnedOf = learned[name] as ((result: unknown) => Kept['changes']) | undefined;
    const call = async (params: unknown): Promise<unknown> => {
      const row = keptOf(params);
      if (row === null) return await method(params);
      const target = { ...row.target, domain: null };
      const change = { ...row, actor: operatorActor, target };
      return await ensureRequestId(() => audit.around(change, () => method(params), learnedOf));
    };
    return [name, call] as const;
  });
  return { ...operator, ...Object.fromEntries(recorded) };
}

function removal(action: Kept['action'], kind: string, { dryRun, olderThanMs }: Retention): Kept | null {
  return dryRun ? null : { action, target: { kind, id: 'old' }, changes: { olderThanMs } };
}

function rotation(action: Kept['action'], id: string): Kept {
  return { action, target: { kind: 'installation-key', id } };
}
