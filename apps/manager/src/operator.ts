import type { PeerKind } from '@backend.ai/contract';
import type { ConfigEntry, ConfigStore, LiveValues } from '@backend.ai/coordination';
import { AppError, type Clock, systemClock } from '@backend.ai/core';
import { type DatabaseHandle, migrationDeadlines } from '@backend.ai/database';
import type { Logger } from '@backend.ai/telemetry';
import { requireKeys } from './installation.ts';
import { auditedOperator, recordedMethods, unrecordedMethods } from './operator-audit.ts';
import { AuditRepository } from './repositories/audit.ts';
import { BackupRepository } from './repositories/backup.ts';
import { type LedgerViolation, verifyLedger } from './repositories/ledger.ts';
import type { PeerRecord } from './repositories/peers.ts';
import { RetentionRepository } from './repositories/retention.ts';
import { type LoopEnds, readLoopEnds } from './scheduling/loop-times.ts';
import { type SchemaOperations, schemaOperations } from './schema-operations.ts';
import { AuditLog } from './services/audit/audit-log.ts';
import { type BackupReport, BackupService } from './services/backup/backup-service.ts';
import type { Fixture } from './services/fixtures/fixture.ts';
import type { FixtureCredentials, FixtureService } from './services/fixtures/fixture-service.ts';
import type {
  AddedKey,
  InstallationKeyService,
  InstallationKeysView,
  Reencrypted,
  RemovedKeys,
} from './services/installation-keys/installation-key-service.ts';
import type { IssuedToken, PeerService } from './services/peers/peer-service.ts';
import { type Removed, type Retention, RetentionService } from './services/retention/retention-service.ts';

/**
 * What operators do besides configuring, one method per command. Parameters and answers are plain JSON, because the same
 * interface is called in two ways: on the stores themselves (`mgr` with a configuration file; no manager need run), and
 * through the admin socket of a process that has the stores for itself (the embedded cluster).
 */
export interface Operator extends SchemaOperations {
  /** Empty when the books are right. */
  verify(): Promise<LedgerViolation[]>;
  clearHistory(retention: Retention): Promise<Removed>;
  vacuumSessions(retention: Retention): Promise<Removed>;
  createPeerToken(options: { kind: PeerKind; resourceGroup?: string; ttlMs?: number }): Promise<IssuedToken>;
  listPeers(): Promise<PeerRecord[]>;
  /** @throws AppError `object-not-found` */
  revokePeer(peer: { id: string }): Promise<void>;
  /** @throws AppError `object-not-found` */
  getSetting(entry: { key: string }): Promise<ConfigEntry>;
  putSetting(entry: { key: string; value: string }): Promise<ConfigEntry>;
  /** @throws AppError `object-not-found` */
  deleteSetting(entry: { key: string }): Promise<void>;
  listSettings(entries: { prefix: string }): Promise<ConfigEntry[]>;
  /** Loads rows to begin with. Twice makes nothing twice. @throws AppError `invalid-input` */
  populateFixture(options: { fixture: Fixture }): Promise<FixtureCredentials[]>;
  /** When each loop of the leader last came to its end; empty when none did. */
  loopEnds(): Promise<LoopEnds>;
  installationKeys(): Promise<InstallationKeysView>;
  /** A new one into the key file of this machine. Twice makes one. @throws AppError `state-conflict`, `config-invalid` */
  addInstallationKey(): Promise<AddedKey>;
  /** Everything under the newest one. @throws AppError `state-conflict` while a manager lacks it */
  reencryptSecrets(): Promise<Reencrypted>;
  /** Out of the key file of this machine. @throws AppError `state-conflict` while they are needed */
  removeOldInstallationKeys(): Promise<RemovedKeys>;
  /** `file` is an absolute path; the file appears when it is whole. */
  backup(to: { file: string }): Promise<BackupReport>;
}

/** The names under which an admin socket offers them. */
export const operatorMethods: ReadonlyArray<keyof Operator> = [...unrecordedMethods, ...recordedMethods];

export interface OperatorOptions {
  readonly database: Pick<DatabaseHandle, 'db' | 'withDeadlines'>;
  readonly configStore: ConfigStore;
  readonly liveValues: LiveValues;
  readonly peers: PeerService;
  readonly fixtures: Pick<FixtureService, 'populate'>;
  readonly installationKeys: InstallationKeyService;
  /** What goes into a backup besides rows and settings; see `BackupOptions`. */
  readonly keyFiles: Readonly<Record<string, string>>;
  readonly version: string;
  readonly clock?: Clock;
  readonly logger: Logger;
}

export function createOperator(options: OperatorOptions): Operator {
  const { configStore, liveValues, peers, fixtures, installationKeys, keyFiles, version, logger } = options;
  const { db } = options.database;
  const patient = options.database.withDeadlines(migrationDeadlines);
  const retention = new RetentionService(new RetentionRepository(db), logger);
  const backups = new BackupService({
    rows: new BackupRepository(patient),
    configStore,
    keyFiles,
    version,
    clock: options.clock ?? systemClock,
  });
  const operator: Operator = {
    ...schemaOperations(patient),
    verify: () => verifyLedger(db),
    clearHistory: (given) => retention.clearHistory(given),
    vacuumSessions: (given) => retention.vacuumSessions(given),
    createPeerToken: (options) => peers.createToken(options),
    listPeers: () => peers.list(),
    revokePeer: ({ id }) => peers.revoke(id),
    async getSetting({ key }) {
      const entry = await configStore.get(key);
      if (!entry) throw noSetting(key);
      return entry;
    },
    putSetting: ({ key, value }) => configStore.put(key, value),
    async deleteSetting({ key }) {
      if (!(await configStore.delete(key))) throw noSetting(key);
    },
    listSettings: ({ prefix }) => configStore.list(prefix),
    populateFixture: ({ fixture }) => fixtures.populate(fixture),
    loopEnds: () => readLoopEnds(liveValues),
    installationKeys: () => installationKeys.show(),
    addInstallationKey: () => installationKeys.add(),
    reencryptSecrets: () => installationKeys.reencrypt(),
    removeOldInstallationKeys: () => installationKeys.removeOld(),
    async backup({ file }) {
      await requireKeys(db, keyFiles);
      return await backups.backup(file);
    },
  };
  return auditedOperator(operator, new AuditLog(new AuditRepository(db), logger));
}

function noSetting(key: string): AppError {
  return new AppError('object-not-found', `There is no setting "${key}".`, {
    hint: 'See what there is: ./backend.ai mgr etcd list',
  });
}
